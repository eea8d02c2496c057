"""Lists the runs below a folder: data, network, progress, state and headline metric.

  python -m se_resnet.runs runs
  python -m se_resnet.runs runs --all
  python -m se_resnet.runs runs --sort=headline

A cross-validation, repeats and an ensemble are one line; --all adds a line for each of their parts.
The metric is the ROC AUC of test images; it compares runs only if they test the same images. A run
that cannot be read is listed with the reason.
"""

from __future__ import annotations

from pathlib import Path

from se_resnet.runtime.cli import ArgumentParser, exit_on_user_error, path_option


def main(argv: list[str] | None = None) -> None:
    """Runs the command; ``argv`` has no program name, None means ``sys.argv``."""
    with exit_on_user_error():
        options = _parser().parse_args(argv)
        from se_resnet.runs.listing import list_runs, table  # imports JAX: after the options

        rows = list_runs(Path(options.folder), options.all, options.sort)
        print("\n".join(table(rows)) if rows else f"no run of train.py below {options.folder}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m se_resnet.runs", __doc__ or "")
    parser.add_argument(
        "folder", metavar="FOLDER", type=path_option, help="folder of runs, or of one run"
    )
    parser.add_argument(
        "--all", action="store_true", help="also list the folds, repeats and members of a run"
    )
    parser.add_argument(
        "--sort",
        choices=("path", "headline"),
        default="path",
        help="order of the runs (default: path)",
    )
    return parser


if __name__ == "__main__":
    main()
