"""Whether a PNG file is whole, before a decoder believes what it says of itself."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def problem(data: bytes) -> str | None:
    """What is wrong with the container of a PNG file: chunks, checksums, end marker.

    OpenCV 5 writes to standard error, returns half an image in some cases, and takes the memory
    that a chunk claims, up to 2 GB, before it reads it.
    """
    if not data:
        return "empty (0 bytes)"
    if not data.startswith(SIGNATURE):
        return "truncated" if SIGNATURE.startswith(data) else "not a PNG image"
    view = memoryview(data)
    position = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            return "truncated"
        length, kind = struct.unpack_from(">I4s", data, position)
        body_end = position + 8 + length
        if body_end + 4 > len(data):
            return "truncated"
        if zlib.crc32(view[position + 4 : body_end]) != int.from_bytes(
            view[body_end : body_end + 4], "big"
        ):
            return "broken: a checksum does not match"
        if position == len(SIGNATURE) and (kind != b"IHDR" or length != 13):
            return "broken: it does not start with a header"
        position = body_end + 4
    return None


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels that the header of a whole PNG file names."""
    width, height = struct.unpack_from(">II", data, len(SIGNATURE) + 8)
    return width, height
