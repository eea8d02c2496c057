"""Finds the images at a path given by the user."""

from __future__ import annotations

import stat
from pathlib import Path

from se_resnet.errors import UserError
from se_resnet.images.decode import SUFFIXES
from se_resnet.runtime.folders import current
from se_resnet.runtime.walk import NOT_REGULAR, PassedOver, walk

# Files of a prediction beside its tables; pictures are in the folder OVERLAYS.
PREDICTION, OVERLAYS = "predictions.json", "overlays"
_PREDICTION_PICTURES = "pictures that a prediction wrote"

# Formats that cannot be decoded are included, so that such files are reported with the reason.
_CANDIDATES = (
    *SUFFIXES,
    *(".gif", ".jfif", ".jpe", ".jp2", ".j2k", ".jxl", ".jxr", ".heic", ".heif", ".avif"),
    *(".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".czi", ".dcm", ".psd", ".ppm", ".pgm", ".exr"),
)


def find_images(
    source: Path, option: str = "--input", passed_over: PassedOver | None = None
) -> list[Path]:
    """Returns the image itself, or all images below a folder, sorted; links are followed.

    Files of image formats that cannot be decoded are included. Overlays of an earlier prediction
    are left out, as its folder may be inside this folder.

    Args:
        source: an image or a folder.
        option: command-line option of ``source``, for the error.
        passed_over: receives the files that are left out.

    Raises:
        UserError: the path does not exist or holds no image.
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
    passed_over.root = source
    try:
        listing = walk(source, passed_over)
    except OSError as error:
        raise UserError(
            f"{option}={source} cannot be read ({error.strerror}): give an image or a folder."
        ) from error
    overlays = tuple(f"{folder}/" for folder in listing.folders if _holds_overlays(source / folder))
    images = []
    for relative in listing.files:
        path = source / relative
        if relative.startswith(overlays):
            passed_over.add(_PREDICTION_PICTURES, relative)
        elif path.suffix.lower() not in _CANDIDATES:
            passed_over.add_suffix(relative)
        elif _is_special(path):  # reading a pipe might never end
            passed_over.add(NOT_REGULAR, relative)
        else:
            images.append(path)
    if not images:
        raise UserError(
            f"{option}={source} holds no image: {', '.join(SUFFIXES)} files are looked for"
            + (f"; not looked at: {passed_over.describe()}." if passed_over else ".")
        )
    return sorted(images)


def _holds_overlays(folder: Path) -> bool:
    return folder.name == OVERLAYS and current(folder.with_name(PREDICTION)).exists()


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # the read will report the error
