"""JPEG, decoded by libjpeg-turbo with its warnings as errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import simplejpeg

from se_resnet.images import exif, pixels
from se_resnet.images.pixels import ImageError

_MOST_SCANS = 500  # of a progressive file; each costs a pass over all pixels
_APP1, _START_OF_SCAN, _END = 0xE1, 0xDA, 0xD9


def decode(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a JPEG file, turned as its EXIF data says.

    An embedded colour profile is not applied. Of several pictures (MPO) the first is decoded.

    Raises:
        ImageError: it is truncated or damaged, or too large, or CMYK, or of a rare kind.
    """
    orientation = 1
    for marker, body in _segments(content):
        if marker == _APP1 and body.startswith(b"Exif\0\0"):
            orientation = exif.orientation(body)
            break
    return pixels.to_rgb(exif.turn(decode_stream(content), orientation))


def decode_stream(content: bytes, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` of a JPEG stream as it is stored.

    Damage that leaves a valid code of the same length goes unseen: JPEG has no checksum.

    Args:
        content: the stream.
        shape: largest height and width that it may have; by default what is allowed for an image.

    Raises:
        ImageError: as of :func:`decode`.
    """
    if content.count(b"\xff\xda") > _MOST_SCANS:
        raise ImageError(f"is a JPEG of more than {_MOST_SCANS} scans: save it again")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError as error:
        raise _refusal(error) from error
    pixels.check_size(width, height)
    if shape and (height > shape[0] or width > shape[1]):
        raise ImageError(f"holds a JPEG of {width}x{height} pixels, more than there is room for")
    if colours in ("CMYK", "YCCK"):
        raise ImageError(f"is a {colours} JPEG, made for printing: save it as RGB")
    try:
        return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError as error:
        raise _refusal(error) from error


def _refusal(error: ValueError) -> ImageError:
    return ImageError(
        f"is a broken JPEG or of a rare kind ({error}): copy it again, or save it as PNG"
    )


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and body of each segment before the first scan."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in (_START_OF_SCAN, _END):
            return
        if marker == 0xFF:  # fill
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        yield marker, content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
