"""JPEG, decoded by libjpeg-turbo with its warnings as errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import simplejpeg

from se_resnet.images import exif, pixels
from se_resnet.images.pixels import ImageError

_MOST_SCANS = 500  # of a progressive file; each costs a pass over all pixels
_APP1, _START_OF_SCAN, _END = 0xE1, 0xDA, 0xD9
# Of a segment: no byte of a scan that is written with a zero behind it, no restart, no fill.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")


def decode(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a JPEG file, turned as its EXIF data says.

    An embedded colour profile is not applied. Of several pictures (MPO) the first is decoded.

    Raises:
        ImageError: it is truncated or damaged, or too large, or CMYK, or of a rare kind.
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
    """Returns ``uint8 [h, w, 3]`` of a JPEG stream as it is stored.

    Damage that leaves a valid code of the same length goes unseen: JPEG has no checksum.

    Args:
        content: the stream.
        shape: largest height and width that it may have; by default what is allowed for an image.

    Raises:
        ImageError: as of :func:`decode`.
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

    What a file holds behind it, such as a film or another picture, is not looked at.
    """
    at = 2
    while found := _MARKER.search(content, at):
        marker, at = content[found.end() - 1], found.end()
        if marker == _END:
            yield marker, at, at
            return
        end = at + max(int.from_bytes(content[at : at + 2], "big"), 2)
        yield marker, at + 2, end
        at = end


def _without_padding(content: bytes, end: int) -> bytes:
    """A stream without the zeros that some cameras put before its end.

    Zeros in place of lost data are removed as well, which libjpeg then misses.
    """
    scan = content[: end - 2].rstrip(b"\0")
    if scan.endswith(b"\xff"):  # the zero belongs to this byte
        scan += b"\0"
    return scan + content[end - 2 : end]
