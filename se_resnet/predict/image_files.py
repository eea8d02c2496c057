"""Finds the images at a path that a user names."""

from __future__ import annotations

import stat
from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.images.decode import SUFFIXES
from se_resnet.runtime.folders import current
from se_resnet.runtime.walk import NOT_REGULAR, PassedOver, walk

# What a prediction writes beside its tables: in its folder, the pictures lie in OVERLAYS.
PREDICTION, OVERLAYS = "predictions.json", "overlays"
_OF_PREDICTIONS = "pictures that a prediction wrote"

# Tried as well, so that a file which cannot be decoded is listed with the reason.
_TRIED = (
    *SUFFIXES,
    *(".gif", ".jfif", ".jpe", ".jp2", ".j2k", ".jxl", ".jxr", ".heic", ".heif", ".avif"),
    *(".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".czi", ".dcm", ".psd", ".ppm", ".pgm", ".exr"),
)


def find_images(
    source: Path, option: str = "--input", passed_over: PassedOver | None = None
) -> list[Path]:
    """Returns the image itself, or every image below a folder, sorted; links are followed.

    Images of formats that may not be decoded are among them. The overlays of an earlier prediction,
    whose folder may lie in this one, are no images of the user's.

    Args:
        source: an image or a folder.
        option: of the command that names it, for the error.
        passed_over: takes what was not looked at.

    Raises:
        UserError: nothing is there, or no image.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    try:
        source.stat()
    except OSError as error:
        raise UserError(
            f"{option}={source} does not exist or cannot be read ({error.strerror}): give an image "
            "or a folder."
        ) from error
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{option}={source} is neither an image nor a folder: give one of them.")
    try:
        listing = walk(source, passed_over)
    except OSError as error:
        raise UserError(
            f"{option}={source} cannot be read ({error.strerror}): give an image or a folder."
        ) from error
    overlays = tuple(f"{one}/" for one in listing.folders if _is_of_prediction(source / one))
    found = []
    for relative in listing.files:
        path = source / relative
        if relative.startswith(overlays):
            passed_over.add(_OF_PREDICTIONS, relative)
        elif path.suffix.lower() not in _TRIED:
            passed_over.add_suffix(relative)
        elif _is_special(path):  # a pipe would be waited for without end
            passed_over.add(NOT_REGULAR, relative)
        else:
            found.append(path)
    if not found:
        raise UserError(
            f"{option}={source} holds no image: {', '.join(SUFFIXES)} files are looked for"
            + (f"; not looked at: {passed_over.describe()}." if passed_over else ".")
        )
    return sorted(found)


def _is_of_prediction(folder: Path) -> bool:
    return folder.name == OVERLAYS and current(folder.with_name(PREDICTION)).exists()


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # reported, with its reason, when it is read
