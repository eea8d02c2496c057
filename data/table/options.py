"""Parses the command line of ``python -m data.table``."""

from __future__ import annotations

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runtime.cli import ArgumentParser, path_option


def parser(description: str) -> ArgumentParser:
    """Returns the parser; ``description`` is the text above the options in ``--help``."""
    command = ArgumentParser("python -m data.table", description)
    add = command.add_argument
    add("folder", type=path_option, help="folder with the class folders")
    add("--patient", required=True, help="regular expression of the patient, or file")
    add("--out", required=True, type=path_option, help="the table to write, *.csv")
    add("--positive", default=CLASS_NAMES[1], help="folders that mean malignant (malignant)")
    add("--negative", default=CLASS_NAMES[0], help="folders that mean benign (benign)")
    add("--magnification", default="", help=r"regular expression, for example '(\d+)X'")
    add("--slide", default="", help="regular expression of the slide")
    add("--site", default="", help="regular expression of the hospital or scanner")
    add("--um_per_px", type=float, help="side of a pixel in micrometres, the same for all images")
    return command
