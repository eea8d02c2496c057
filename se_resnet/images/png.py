"""Decodes PNG with OpenCV, after the container is checked."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from se_resnet.images import exif, pixels
from se_resnet.images.pixels import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, GREY_ALPHA, RGBA = 0, 4, 6  # colour types


@dataclasses.dataclass(frozen=True)
class Header:
    """Facts about the pixels of a PNG file, from its chunks.

    Attributes:
        width, height: in pixels, as stored.
        depth: bits per sample.
        colour: colour type, as the format numbers it.
        transparency: content of the ``tRNS`` chunk; empty without one.
        orientation: of the ``eXIf`` chunk, 1 to 8.
        frames: number of frames, more than 1 for an animation.
    """

    width: int
    height: int
    depth: int
    colour: int
    transparency: bytes
    orientation: int
    frames: int


def problem(data: bytes) -> str | None:
    """Returns what is wrong with the container of a PNG file, or None.

    Checks chunks, checksums and the end marker. OpenCV 5 writes to standard error, returns half an
    image in some cases, and allocates the size that a chunk claims, up to 2 GB, before reading it.
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


def read_header(data: bytes) -> Header:
    """Returns the header of a PNG file without a :func:`problem`."""
    chunks = {kind: body for kind, body in _chunks(data)}
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    frames = chunks.get(b"acTL", b"")[:4]
    return Header(
        width,
        height,
        depth,
        colour,
        chunks.get(b"tRNS", b""),
        exif.orientation(chunks.get(b"eXIf", b"")),
        int.from_bytes(frames, "big") if frames else 1,
    )


def decode(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a PNG file.

    Gamma and colour profiles are not applied.

    Raises:
        ImageError: the file is damaged, too large, an animation, or has 16 bits but dark values.
    """
    if defect := problem(content):
        raise ImageError(f"is {defect}")
    header = read_header(content)
    pixels.check_size(header.width, header.height)
    if header.frames > 1:
        raise ImageError(f"is an animation of {header.frames} frames: save one frame")
    try:
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        stored = None
    if stored is None:
        raise ImageError("is a broken PNG image")
    alpha = _alpha(stored, header)
    if stored.ndim == 3:
        colours = cv2.cvtColor(
            stored, cv2.COLOR_BGRA2RGB if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
        )
    else:
        colours = stored[..., None]
    if header.depth == 16:
        pixels.refuse_low_values(colours)
        colours = pixels.to_8_bits(colours, 65535)
    if alpha is not None:
        colours = pixels.on_white(colours, alpha)
    return pixels.to_rgb(exif.turn(colours, header.orientation))


def _alpha(stored: np.ndarray, header: Header) -> np.ndarray | None:
    """Returns alpha ``uint8 [h, w]`` of an image that OpenCV decoded, None if it is opaque."""
    if stored.ndim == 3 and stored.shape[2] == 4:
        return pixels.to_8_bits(stored[..., 3], 65535 if header.depth == 16 else 255)
    if header.colour == GREY and len(header.transparency) == 2:
        # OpenCV ignores this transparency. It scales samples of fewer than 8 bits to 8.
        key = int.from_bytes(header.transparency, "big")
        if header.depth < 8:
            key = key * 255 // (2**header.depth - 1)
        return np.where(stored == key, 0, 255).astype(np.uint8)
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and body of the chunks that describe the pixels."""
    position = len(SIGNATURE)
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind in (b"IHDR", b"tRNS", b"eXIf", b"acTL"):
            yield kind, data[position + 8 : position + 8 + length]
        if kind == b"IEND":
            return
        position += 12 + length
