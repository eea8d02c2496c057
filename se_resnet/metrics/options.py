"""Parses the command line of ``python -m se_resnet.metrics``."""

from __future__ import annotations

from se_resnet.runtime.cli import ArgumentParser, path_option


def parser(description: str) -> ArgumentParser:
    """Returns the parser; ``description`` is the text above the options in ``--help``."""
    command = ArgumentParser("python -m se_resnet.metrics", description)
    commands = command.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compares = commands.add_parser("compare", description=description)
    for name in ("run_a", "run_b"):
        compares.add_argument(
            name, metavar=name.upper(), type=path_option, help="workdir or predictions.csv"
        )
    compares.add_argument("--split", default="test", help="split of the workdirs (default: test)")
    compares.add_argument(
        "--json", metavar="FILE", type=path_option, help="write all estimates to FILE"
    )
    counts = commands.add_parser("patients", description=description)
    counts.add_argument("--auc", type=float, help="expected AUC of patients")
    counts.add_argument("--share", type=float, help="expected share of patients, as a sensitivity")
    counts.add_argument("--width", type=float, required=True, help="of the 95 %% interval")
    counts.add_argument(
        "--malignant", type=float, default=0.7, help="share of malignant patients (default: 0.7)"
    )
    return command
