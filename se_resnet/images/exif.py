"""Reads the orientation of an image from EXIF data, and turns the image."""

from __future__ import annotations

import struct

import numpy as np

ORIENTATION = 0x0112
_HEADER = b"Exif\0\0"
_SHORT = 3


def orientation(block: bytes) -> int:
    """Returns the orientation in an EXIF block, 1 to 8.

    Args:
        block: content of a JPEG APP1 segment, or of an ``eXIf`` or ``EXIF`` chunk.

    Returns:
        The orientation, or 1 (as stored) if the block is damaged or has none, as viewers do.
    """
    block = block.removeprefix(_HEADER)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, directory)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(
                f"{order}HHIH", block, directory + 2 + 12 * number
            )
            if (tag, kind, count) == (ORIENTATION, _SHORT, 1):
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block ends early
        pass
    return 1


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image ``[h, w, ...]`` turned by its orientation.

    A number that is not an orientation leaves the image unchanged.
    """
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
