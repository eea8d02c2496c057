"""Parses the command line of ``python -m data.protocols``."""

from __future__ import annotations

import argparse
from typing import Any

from data.protocols.roles import PROTOCOLS
from se_resnet.runtime.cli import ArgumentParser, path_option


def _magnifications(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 100,200") from error


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {2**32 - 1}")
    return int(text)


def parser(description: str) -> ArgumentParser:
    """Returns the parser; ``description`` is the text above the options in ``--help``."""
    command = ArgumentParser("python -m data.protocols", description)
    add = command.add_argument
    path: dict[str, Any] = {"type": path_option}
    images = "BreaKHis tree or archive, a table of images, or 'sample'"
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--data_dir", help=images, **path)
    what.add_argument("--published", action="store_true", help="audit all published splits")
    add("--split", metavar="FILE", help="audit this split.csv instead of a protocol", **path)
    add("--protocol", default="strict", help=f"{', '.join(PROTOCOLS)} (default: strict)")
    add("--folds", type=int, default=5, help="folds of strict and random (default: 5)")
    add("--fold", type=int, default=0, help="the fold to test on, from 0 (default: 0)")
    add("--name", default="", help="split of protocol published, for example eva")
    add("--repaired", action="store_true", help="the repaired split of protocol published")
    add("--val_folds", type=int, default=5, help="parts of the rest; one validates (default: 5)")
    add("--seed", type=_seed, default=0, help="seed of the folds (default: 0)")
    add("--file", default="", help="protocol table: a table with the columns file and role", **path)
    add("--positive", default="", help="labels of the table that mean malignant, between commas")
    add("--negative", default="", help="labels of the table that mean benign")
    add("--patient", default="", help="column of the table with the patients (default: patient)")
    add(
        "--magnifications",
        type=_magnifications,
        default=(),
        help="for example 200 or 100,200 (default: all)",
    )
    add("--on_bad_image", default="error", help="error, or skip to leave broken files out")
    cache_help = "folder for decoded images (default: the user's cache)"
    add("--cache_dir", default="", help=cache_help, **path)
    add("--out", help="folder to write into (default: audit, or published)", **path)
    return command
