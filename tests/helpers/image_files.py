"""Image files made by hand: what no library writes, or what it would not write wrongly."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import tifffile

SHORT, LONG = 3, 4


def picture(height: int = 46, width: int = 70, seed: int = 0) -> np.ndarray:
    """``uint8 [h, w, 3]`` without symmetry, smooth enough for JPEG, from black to white."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = np.stack([np.sin(9 * down + 5 * right * k + rng.random()) for k in (1, 2, 3)], -1)
    image = np.rint(127.5 * (1 + waves)).astype(np.uint8)
    image[0, 0], image[-1, -1] = 0, 255
    return image


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: np.ndarray, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of ``[h, w, channels]`` samples, with chunks put before its pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        packed = packed_rows(rows, depth)
    lines = np.hstack([np.zeros((height, 1), np.uint8), packed]).tobytes()
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
            extra,
            png_chunk(b"IDAT", zlib.compress(lines)),
            png_chunk(b"IEND", b""),
        ]
    )


def packed_rows(rows: np.ndarray, depth: int) -> np.ndarray:
    """``uint8 [h, n]``: samples of ``depth`` bits, highest bit first, rows from a byte on."""
    shifts = np.arange(depth - 1, -1, -1)
    bits = (rows[..., None].astype(np.int64) >> shifts) & 1
    return np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1)


def exif(orientation: int) -> bytes:
    """A TIFF block that holds nothing but an orientation."""
    return tiff([(0x0112, SHORT, [orientation])], [])


def tiff(
    tags: Sequence[tuple[int, int, Sequence[int]]], strips: Sequence[bytes], next_page: int = 0
) -> bytes:
    """A little-endian TIFF: strips first, then one directory; strips add their two tags."""
    body = bytearray(b"II*\0\0\0\0\0")
    offsets = []
    for strip in strips:
        offsets.append(len(body))
        body += strip + bytes(len(strip) % 2)
    entries = dict((tag, (kind, list(values))) for tag, kind, values in tags)
    if strips:
        entries.setdefault(273, (LONG, offsets))
        entries.setdefault(279, (LONG, [len(strip) for strip in strips]))
    rows = b""
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > 4:
            place = struct.pack("<I", len(body))
            body += packed + bytes(len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        rows += struct.pack("<HHI", tag, kind, len(values)) + place
    struct.pack_into("<I", body, 4, len(body))
    return bytes(body) + struct.pack("<H", len(entries)) + rows + struct.pack("<I", next_page)


def grey_tags(height: int, width: int, bits: int = 8, photometric: int = 1) -> list:
    """Tags of an uncompressed grey image of one strip."""
    values = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1, 278: height}
    return [(tag, SHORT, [value]) for tag, value in values.items()]


def written(image: np.ndarray, **options) -> bytes:
    """What tifffile writes, without a description of its own."""
    file = io.BytesIO()
    tifffile.imwrite(file, image, metadata=None, **options)
    return file.getvalue()
