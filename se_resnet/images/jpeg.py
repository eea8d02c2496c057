"""Decodes JPEG with libjpeg-turbo, whose warnings count as errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import simplejpeg

from se_resnet.images import exif, pixels
from se_resnet.images.pixels import ImageError

_MOST_SCANS = 500  # of a progressive file; each costs a pass over all pixels
_APP1, _START_OF_SCAN, _END = 0xE1, 0xDA, 0xD9
# The start of a segment. Not an escaped byte of a scan, a restart marker or a fill byte.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")


def decode(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a JPEG file, turned by its EXIF orientation.

    An embedded colour profile is not applied. If there are several pictures (MPO), the first one
    is decoded.

    Raises:
        ImageError: the file is truncated, damaged, too large, in CMYK or of a rare kind.
    """
    orientation = 1
    for marker, start, end in _segments(content):
        if marker == _START_OF_SCAN:
            break
        if marker == _APP1 and content.startswith(b"Exif\0\0", start):
            orientation = exif.orientation(content[start:end])
            break
    return pixels.to_rgb(exif.turn(decode_stream(content), orientation))


def decode_stream(content: bytes, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` of a JPEG stream, without turning it.

    Damage that leaves a valid code of the same length is not detected: JPEG has no checksum.

    Args:
        content: the stream.
        shape: largest height and width; by default the limit of any image.

    Raises:
        ImageError: see :func:`decode`.
    """
    segments = list(_segments(content))
    if sum(marker == _START_OF_SCAN for marker, *_ in segments) > _MOST_SCANS:
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
    if segments[-1][0] == _END:
        content = _without_padding(content, segments[-1][1])
    try:
        return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError as error:
        raise _refusal(error) from error


def _refusal(error: ValueError) -> ImageError:
    return ImageError(
        f"is a broken JPEG or of a rare kind ({error}): copy it again, or save it as PNG"
    )


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and end of the body of each segment, up to the end of the picture.

    Data after the picture, such as a film or another picture, are not read.
    """
    position = 2
    while found := _MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker == _END:
            yield marker, position, position
            return
        length = int.from_bytes(content[position : position + 2], "big")
        end = position + max(length, 2)
        yield marker, position + 2, end
        position = end


def _without_padding(content: bytes, end: int) -> bytes:
    """Removes the zeros that some cameras write before the end of a stream.

    Zeros in place of lost data are removed too. libjpeg then reports the missing data.
    """
    scan = content[: end - 2].rstrip(b"\0")
    if scan.endswith(b"\xff"):  # the zero belongs to this byte
        scan += b"\0"
    return scan + content[end - 2 : end]
