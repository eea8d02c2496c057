"""Decodes an image file of any format that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from se_resnet.images import bitmap, jpeg, png, tiff
from se_resnet.images.pixels import ImageError
from se_resnet.runtime.files import read_small_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MAX_FILE_BYTES = 2**29  # the largest image, uncompressed, with four channels of 16 bits

# The first bytes of each format: their position, the bytes, the decoder.
_FORMATS: tuple[tuple[int, bytes, Callable[[bytes], np.ndarray]], ...] = (
    (0, png.SIGNATURE, png.decode),
    (0, b"\xff\xd8\xff", jpeg.decode),
    *((0, start, tiff.decode) for start in tiff.SIGNATURES),
    (0, b"BM", bitmap.decode_bmp),
    (8, b"WEBP", bitmap.decode_webp),
)
# Formats that are not read, for a message.
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypavis", "an AVIF image"),
    (4, b"ftyp", "a HEIC image or a film"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"8BPS", "a Photoshop image"),
    (128, b"DICM", "a DICOM file"),
    (0, b"ZISRAWFILE", "a CZI slide"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance image"),
    (0, b"%PDF", "a PDF"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    *((0, b"P%d" % kind, "a PNM image") for kind in range(1, 8)),
)


def read_image(path: Path) -> np.ndarray:
    """Decodes an image file as a viewer shows it.

    Returns:
        ``uint8 [h, w, 3]`` RGB; grey is repeated, 16 bits are rounded to 8, transparent pixels lie
        on white, and an orientation is applied.

    Raises:
        ImageError: the file cannot be decoded, or its meaning is in doubt. A ``ValueError``.
    """
    return decode_image(read_file(path))


def read_file(path: Path) -> bytes:
    """Returns the content of an image file.

    Raises:
        ImageError: the file cannot be read, is no regular file or too large. A ``ValueError``.
    """
    try:
        return read_small_file(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ImageError(str(error).removeprefix("it ")) from error


def decode_image(content: bytes) -> np.ndarray:
    """Decodes the content of an image file, see :func:`read_image`."""
    for at, start, decode in _FORMATS:
        if content.startswith(start, at):
            return decode(content)
    for at, start, name in _OTHERS:
        if content.startswith(start, at):
            raise ImageError(f"is {name}, which is not read: {_REMEDY}")
    if b"<svg" in content[:4096].lower():
        raise ImageError(f"is an SVG drawing, which is not read: {_REMEDY}")
    if content and png.SIGNATURE.startswith(content):
        raise ImageError("is truncated")
    raise ImageError("is not an image, or is broken")


_REMEDY = "save it as PNG, JPEG, TIFF, BMP or WebP"
