"""Image files, damaged or exaggerated, as ``predict`` and the preparation read them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

import cv2
import numpy as np

from data.breakhis import decode
from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.images.resize import TILE_RULES, resize
from se_resnet.images.scale import Scale, bring_to_scale
from se_resnet.predict.image_files import find_images
from tests.fuzz.mutations import damage
from tests.fuzz.place import Place

FORMATS = (".png", ".png", ".jpg", ".tif", ".tif", ".bmp", ".webp")
SCALE = Scale(0.5, (16, 16))
SHAPES = ((20, 30), (20, 30), (64, 48), (1, 1), (1, 3000), (3000, 1), (16, 16))


def case(rng: Random, place: Place) -> Callable[[], object]:
    files = []
    for number in range(rng.randrange(1, 4)):
        path = place.input / f"{number}{rng.choice(FORMATS)}"
        path.write_bytes(content(rng, path.suffix))
        files.append(path)
    rules = rng.choice((("squash",), ("crop",), ("none",), TILE_RULES))

    at_scale, um_per_px = rng.random() < 0.3, rng.choice((0.5, 0.5, 0.2, 0.01, 5.0, 100.0))

    def action() -> None:
        for path in find_images(place.input):
            try:
                image = read_image(path)
                views = (
                    list(bring_to_scale(image, um_per_px, SCALE))
                    if at_scale
                    else [resize(image, SCALE.field, rule) for rule in rules]
                )
            except (ValueError, UserError):
                continue  # listed with its reason
            assert {view.shape for view in views} == {(16, 16, 3)}
            assert {view.dtype for view in views} == {np.dtype(np.uint8)}
        for path in files:
            decode.inspect(path.read_bytes())

    return action


def content(rng: Random, suffix: str) -> bytes:
    """An encoded image, whole, damaged or made by hand."""
    what = rng.random()
    if what < 0.1:
        return rng.randbytes(rng.randrange(200))
    if what < 0.25:
        return exaggerated_png(rng)
    made = encode(rng, suffix)
    if what < 0.35:
        return made
    return mend(damage(rng, made)) if suffix == ".png" and rng.random() < 0.6 else damage(rng, made)


def encode(rng: Random, suffix: str) -> bytes:
    """A whole image of any channels and depth that the format takes."""
    channels = rng.choice((1, 3, 3, 4))
    shape = (*rng.choice(SHAPES), channels)
    values = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, shape, np.uint8)
    depth = rng.random()
    if suffix in (".png", ".tif") and depth < 0.25:
        values = values.astype(np.uint16) * 257
    elif suffix == ".tif" and depth < 0.4:
        values = values.astype(rng.choice((np.float32, np.float64)))
    if suffix in (".jpg", ".bmp") and channels == 4:
        values = values[..., :3]
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(values))
    assert ok
    return data.tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exaggerated_png(rng: Random) -> bytes:
    """A PNG with a valid container whose header promises sizes, depths and colours at random."""
    sides = (1, 15, 16, 17, 1000, 8192, 8193, 2**15, 2**20, 2**31 - 1, 2**31)
    width, height = rng.choice(sides), rng.choice(sides)
    depth, colour = rng.choice((1, 2, 4, 8, 8, 8, 16, 3)), rng.choice((0, 2, 2, 3, 4, 6, 5))
    # Zeros that are as good as free to send, up to 300 MB of them.
    lines = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    pixels = b"".join(lines.compress(zeros) for _ in range(rng.choice((0, 1, 1, 1, 8, 300))))
    pixels += lines.flush()
    extra = [
        chunk(b"PLTE", rng.randbytes(3 * rng.choice((1, 256, 257)))) if colour == 3 else b"",
        chunk(b"tRNS", rng.randbytes(rng.choice((1, 6, 300)))) if rng.random() < 0.3 else b"",
        chunk(b"iCCP", b"x\0\0" + pixels) if rng.random() < 0.1 else b"",
        chunk(b"eXIf", rng.randbytes(40)) if rng.random() < 0.1 else b"",
        chunk(b"acTL", struct.pack(">II", rng.choice((1, 2**31)), 0))
        if rng.random() < 0.1
        else b"",
    ]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 0, 1)))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", pixels),
            chunk(b"IEND", b""),
        ]
    )


def mend(data: bytes) -> bytes:
    """A damaged PNG with right checksums, so that the damage reaches the decoder."""
    mended, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        mended.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join([*mended, data[at:]])
