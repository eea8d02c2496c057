"""Decodes TIFF with tifffile and imagecodecs, after the tags are checked."""

from __future__ import annotations

import io
import logging
import math
import re
import struct
from typing import Any

import numpy as np
import tifffile

from se_resnet.errors import one_line
from se_resnet.images import exif, jpeg, pixels
from se_resnet.images.pixels import ImageError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_NONE, _JPEG = 1, 7
_COMPRESSIONS = (_NONE, 5, _JPEG, 8, 32773, 32946, 50000)  # LZW, deflate, PackBits, Zstandard
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MOST_PAGES = 100
_META_MORPH_PLANES = 33629
_SAVE_ONE = "save one of them, in colour, as a separate file"
_AGAIN = "save it as 8-bit RGB, uncompressed or with LZW"

# tifffile logs errors in a file. This module refuses the files with errors that matter.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def decode(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a TIFF file; of a pyramid, the full resolution.

    Reads grey, palette and RGB of 1 to 16 bits, and YCbCr in JPEG. Colour profiles are not
    applied.

    Raises:
        ImageError: the file is damaged, too large or holds more than one image, or its tags do not
            define the colours.
    """
    try:
        return _decode(content)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # tifffile raises many errors on hostile tags
        problem = one_line(error, 120)
        raise ImageError(f"is a broken TIFF or of a rare kind ({problem})") from error


def _decode(content: bytes) -> np.ndarray:
    pages = _count_pages(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        _check_pages(file, page, pages)
        _check_layout(page)
        _check_segments(page, content)
        samples = page.asarray(maxworkers=1)
    if samples.ndim == 2:
        samples = samples[..., None]
    elif page.planarconfig == 2:
        samples = np.moveaxis(samples, 0, -1)
    orientation = page.tags.valueof(exif.ORIENTATION, 1)
    return pixels.to_rgb(exif.turn(_colours(page, samples), orientation))


def _count_pages(content: bytes) -> int:
    """Counts the pages. Refuses a loop of pages, which tifffile would follow for a long time."""
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    entry, number, link = (20, f"{order}Q", f"{order}Q") if big else (12, f"{order}H", f"{order}I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(link, content, 8 if big else 4)
        while at:
            if at in seen:
                raise ImageError("is a broken TIFF: its list of pages is a loop")
            seen.add(at)
            if len(seen) > _MOST_PAGES:
                raise ImageError(f"holds more than {_MOST_PAGES} pages: {_SAVE_ONE}")
            (entries,) = struct.unpack_from(number, content, at)
            (at,) = struct.unpack_from(
                link, content, at + struct.calcsize(number) + entry * entries
            )
    except (struct.error, OverflowError) as error:
        raise ImageError("is a truncated or broken TIFF: its list of pages ends early") from error
    return len(seen)


def _check_pages(file: tifffile.TiffFile, page: tifffile.TiffPage, pages: int) -> None:
    """Checks that the first page is the image and that other pages are smaller copies."""
    if page.subfiletype & 0b1101:
        raise ImageError("begins with a thumbnail or a mask: save the image by itself")
    if len(page.subifds or ()) > _MOST_PAGES:
        raise ImageError(f"holds more than {_MOST_PAGES} pages: {_SAVE_ONE}")
    others: list[Any] = [file.pages[index] for index in range(1, pages)]
    others += list(page.pages or ()) if page.subifds else []
    if any(not other.is_reduced or _area(other) > _area(page) for other in others):
        raise ImageError(f"holds {len(others) + 1} pages: {_SAVE_ONE}")
    planes = _planes(page)
    if planes > 1:
        raise ImageError(f"holds {planes} channels or slices: {_SAVE_ONE}")


def _planes(page: tifffile.TiffPage) -> int:
    """Returns the number of planes in the description, which need not be pages of this file."""
    text = page.description
    if text.startswith("ImageJ="):
        count = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE)
        return int(count[1]) if count else 1
    if "<OME" in text and (first := re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)):
        sizes = re.findall(r'\bSize[CZT]="(\d{1,9})"', first[0])
        return math.prod(map(int, sizes)) // max(page.samplesperpixel, 1)
    tag = page.tags.get(_META_MORPH_PLANES)
    return tag.count if tag else 1


def _area(page: tifffile.TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _check_layout(page: tifffile.TiffPage) -> None:
    """Refuses layouts and colours that would be decoded wrongly, each with its name."""
    pixels.check_size(page.imagewidth, page.imagelength)
    if page.imagedepth != 1:
        raise ImageError(f"is a volume of {page.imagedepth} slices: {_SAVE_ONE}")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(f"is compressed by {_name(page.compression)}, which is not read: {_AGAIN}")
    if 262 not in page.tags:
        raise ImageError(f"does not say what its colours are: {_AGAIN}")
    allowed = (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE)
    in_jpeg = page.compression == _JPEG and page.photometric == _YCBCR
    if page.photometric not in allowed and not in_jpeg:
        raise ImageError(f"holds {_colour_space(page)} colours, which are not read: {_AGAIN}")
    if page.sampleformat != 1:
        raise ImageError(
            f"has pixels of type {page.dtype or _name(page.sampleformat)}: 8 or 16 bits, unsigned, "
            "are needed"
        )
    bits = page.bitspersample
    if not isinstance(bits, int) or bits not in range(1, 17):
        raise ImageError(f"has pixels of type {page.dtype or bits}: 8 or 16 bits are needed")
    if display_range := _range_in_imagej(page):
        raise ImageError(f"is shown by ImageJ with {display_range}, by others not: {_AGAIN}")
    wanted = 3 if page.photometric in (_RGB, _YCBCR) else 1
    extra = page.samplesperpixel - wanted
    if extra not in (0, 1) or (extra and page.photometric in (_PALETTE, _YCBCR)):
        raise ImageError(
            f"has {page.samplesperpixel} channels where {wanted} are meant to be seen: {_AGAIN}"
        )
    if page.photometric == _PALETTE and np.size(page.tags.valueof(320, ())) != 3 * 2**bits:
        raise ImageError("is a broken TIFF: its palette is not whole")


def _range_in_imagej(page: tifffile.TiffPage) -> str:
    """Returns the value that ImageJ shows as black or white, if not the end of the range."""
    if not page.description.startswith("ImageJ="):
        return ""
    ends = {"min": (0, "black"), "max": (2**page.bitspersample - 1, "white")}
    for name, value in re.findall(r"^(min|max)=([\d.]{1,20})\s*$", page.description, re.MULTILINE):
        end, colour = ends[name]
        if float(value) != end:
            return f"{value} as {colour}"
    return ""


def _colour_space(page: tifffile.TiffPage) -> str:
    return "CMYK" if page.photometric == _SEPARATED else _name(page.photometric)


def _name(value: Any) -> str:
    return getattr(value, "name", f"number {value}")


def _check_segments(page: tifffile.TiffPage, content: bytes) -> None:
    """Checks that every strip or tile is in the file; others would leave memory uninitialised."""
    tiled = 322 in page.tags
    offsets = page.tags.valueof(324 if tiled else 273, ())
    sizes = page.tags.valueof(325 if tiled else 279, ())
    if len(offsets) != math.prod(page.chunked) or len(sizes) != len(offsets):
        raise ImageError("is a broken TIFF: strips or tiles are missing")
    rows, columns = page.chunks[:2]
    if tiled and rows * columns > 4 * max(_area(page), 2**20):
        raise ImageError("is a broken TIFF: its tiles are far larger than the image")
    tables = page.jpegtables or b""
    for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        if offset < 8 or size < 1 or offset + size > len(content):
            raise ImageError("is a truncated or broken TIFF: strips or tiles are missing")
        if page.compression == _NONE and size < _stored_bytes(page, number):
            raise ImageError("is a broken TIFF: a strip or tile is too short")
        if page.compression == _JPEG:
            stream = content[offset : offset + size]
            if tables:
                stream = tables[:-2] + stream[2:]
            jpeg.decode_stream(stream, (rows, columns))


def _stored_bytes(page: tifffile.TiffPage, number: int) -> int:
    """Returns the size of an uncompressed strip or tile in bytes. Each row starts at a byte."""
    rows, columns = page.chunks[:2]
    if not page.is_tiled:
        strip = number % math.ceil(page.imagelength / rows)
        rows = min(rows, page.imagelength - strip * rows)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    return rows * math.ceil(columns * samples * page.bitspersample / 8)


def _colours(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    """Returns colours ``uint8 [h, w, 1 or 3]`` of the samples, as the tags define them."""
    bits = page.bitspersample
    if page.photometric == _PALETTE:
        return _palette(page)[samples[..., 0].astype(np.uint16)]  # tifffile returns 1 bit as bool
    white = _white(page, samples)
    wanted = 3 if samples.shape[2] >= 3 else 1
    colours = samples[..., :wanted]
    if bits == 16 and white == 2**16 - 1:
        if page.photometric == _MIN_IS_WHITE:  # where few values are high in any bright image
            pixels.refuse_low_values(colours, few=0)
        else:
            pixels.refuse_low_values(colours)
    colours = pixels.to_8_bits(np.ascontiguousarray(colours), white)
    if page.photometric == _MIN_IS_WHITE:
        colours = 255 - colours
    if samples.shape[2] == wanted:
        return colours
    alpha = pixels.to_8_bits(np.ascontiguousarray(samples[..., wanted]), white)
    meaning = (*page.extrasamples, 0)[0]
    if meaning not in (_ASSOCIATED, _UNASSOCIATED):
        if (alpha == 255).all():
            return colours
        raise ImageError(
            f"has a channel besides its colours that is not said to be alpha: {_AGAIN}"
        )
    return pixels.on_white(colours, alpha, premultiplied=meaning == _ASSOCIATED)


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """Returns ``uint8 [2 ** bits, 3]``. Some programs fill only the low byte of the 16 bits."""
    table = np.array(page.tags.valueof(320), np.uint16).reshape(3, -1).T
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)


def _white(page: tifffile.TiffPage, samples: np.ndarray) -> int:
    """Returns the value of white: all bits set, or fewer if a tag says so.

    Some programs write the brightest sample of an image into that tag. Such a value is ignored.
    """
    full = 2**page.bitspersample - 1
    if page.bitspersample != 16:
        return full
    largest = page.tags.valueof(281, page.tags.valueof(341, full))
    values = set(largest) if isinstance(largest, tuple) else {largest}
    if len(values) != 1:
        return full
    (value,) = values
    if value not in (2**bits - 1 for bits in range(8, 16)):
        return full
    if int(samples.max()) > value:
        raise ImageError(f"holds values above {value:,}, which it names as its largest: {_AGAIN}")
    return value
