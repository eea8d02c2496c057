"""Writes the pictures of a prediction below ``overlays``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2

from se_resnet.predict.views import OVERLAY, Views
from se_resnet.runtime.files import atomic_write

_LONGEST_NAME = 255  # bytes, of file systems


def write_pictures(views: Views, folder: Path) -> None:
    """Writes the pictures of the images predicted last as PNG.

    Args:
        views: of the prediction.
        folder: the folder ``overlays``, created if missing.
    """
    for file, ending, picture in views.pictures():
        _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        with atomic_write(folder / overlay_name(file, ending), "wb") as target:
            target.write(encoded.tobytes())


def overlay_name(file: str, ending: str = OVERLAY) -> str:
    """Returns the path of an image's picture below ``overlays``: its name with an ending added.

    A name that is too long for file systems is cut, and a checksum keeps it unique.
    """
    encoded = os.fsencode(Path(file).name)
    if len(encoded) + len(ending) <= _LONGEST_NAME:
        return f"{file.lstrip('/')}{ending}"  # a table may name absolute paths
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return str(Path(file.lstrip("/")).with_name(f"{os.fsdecode(encoded[:200])}-{digest}{ending}"))
