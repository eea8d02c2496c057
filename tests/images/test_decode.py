from __future__ import annotations

import io
import itertools
import resource
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from data.breakhis import decode, image_files
from se_resnet.images import exif as exif_data
from se_resnet.images import pixels
from se_resnet.images.decode import decode_image, read_image
from tests.helpers.image_files import (
    LONG,
    SHORT,
    exif,
    grey_tags,
    packed_rows,
    picture,
    png,
    png_chunk,
    tiff,
    written,
)

PICTURE = picture()
GREY = PICTURE[..., 0]


def by_pillow(content: bytes) -> np.ndarray:
    """What another decoder shows, on white."""
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def by_opencv(content: bytes) -> np.ndarray:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)[..., ::-1]


def saved(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def difference(left: np.ndarray, right: np.ndarray) -> int:
    assert left.shape == right.shape
    return int(np.abs(left.astype(int) - right.astype(int)).max())


def refused(content: bytes) -> str:
    """The sentence; that it is one is checked."""
    with pytest.raises(ValueError) as caught:
        decode_image(content)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence[0].islower() and not sentence.endswith(".")
    return sentence


# Depth and transparency.


@pytest.mark.parametrize("largest", [1, 3, 15, 255, 1023, 4095, 16383, 65535])
def test_scaling_rounds_to_the_nearest_of_256_steps(largest):
    samples = np.arange(largest + 1, dtype=np.uint16)[None]
    exact = (samples.astype(np.int64) * 510 + largest) // (2 * largest)
    assert (pixels.to_8_bits(samples, largest) == exact).all()


def test_alpha_mixes_with_white_to_the_nearest_step():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    exact = np.rint((colour * alpha + 255 * (255 - alpha)) / 255)
    ours = pixels.on_white(colour.astype(np.uint8)[..., None], alpha.astype(np.uint8))
    assert (ours[..., 0] == exact).all()


# PNG.

PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
PLTE = png_chunk(b"PLTE", PALETTE.tobytes())


def png_matrix():
    rng = np.random.default_rng(2)
    alpha = rng.integers(0, 256, GREY.shape, np.uint8)
    yield "rgb", png(PICTURE, 8, 2), PICTURE
    yield "rgb, 16 bits", png(PICTURE.astype(np.uint16) * 257, 16, 2), PICTURE
    for depth in (1, 2, 4, 8):
        values = GREY >> (8 - depth)
        seen = np.rint(values * (255 / (2**depth - 1))).astype(np.uint8)
        yield f"grey, {depth} bits", png(values, depth, 0), seen
        key = png_chunk(b"tRNS", struct.pack(">H", values[3, 3]))
        yield (
            f"grey, {depth} bits, one transparent",
            png(values, depth, 0, key),
            np.where(values == values[3, 3], 255, seen),
        )
        entries = PALETTE[: 2**depth]
        table = png_chunk(b"PLTE", entries.tobytes())
        yield f"palette, {depth} bits", png(values, depth, 3, table), entries[values]
    values = GREY.astype(np.uint16) * 257
    key = png_chunk(b"tRNS", struct.pack(">H", values[3, 3]))
    yield "grey, 16 bits", png(values, 16, 0), GREY
    yield (
        "grey, 16 bits, one transparent",
        png(values, 16, 0, key),
        np.where(values == values[3, 3], 255, GREY),
    )
    key = png_chunk(b"tRNS", struct.pack(">HHH", *PICTURE[3, 3]))
    same = (PICTURE[3, 3] == PICTURE).all(-1, keepdims=True)
    yield "rgb, one transparent", png(PICTURE, 8, 2, key), np.where(same, 255, PICTURE)
    share = alpha[..., None] / 255
    on_white = np.rint(PICTURE * share + 255 * (1 - share)).astype(np.uint8)
    yield "rgba", png(np.dstack([PICTURE, alpha]), 8, 6), on_white
    deep = np.dstack([PICTURE, alpha]).astype(np.uint16) * 257
    yield "rgba, 16 bits", png(deep, 16, 6), on_white
    yield "grey and alpha", png(np.dstack([GREY, alpha]), 8, 4), on_white[..., :1]
    opacities = rng.integers(0, 256, 200, np.uint8)
    shares = np.append(opacities, np.full(56, 255))[GREY][..., None] / 255
    yield (
        "palette with alpha",
        png(GREY, 8, 3, PLTE + png_chunk(b"tRNS", opacities.tobytes())),
        np.rint(PALETTE[GREY] * shares + 255 * (1 - shares)).astype(np.uint8),
    )
    yield "interlaced", saved(PICTURE, "PNG", interlace=1), PICTURE
    yield "gamma", png(PICTURE, 8, 2, png_chunk(b"gAMA", struct.pack(">I", 10**5))), PICTURE


@pytest.mark.parametrize(
    ("content", "seen"),
    [(c, s) for _, c, s in png_matrix()],
    ids=[name for name, *_ in png_matrix()],
)
def test_every_kind_of_png_is_read_as_it_is_seen(content, seen):
    seen = np.broadcast_to(seen if seen.ndim == 3 else seen[..., None], PICTURE.shape)
    ours = decode_image(content)
    assert ours.dtype == np.uint8 and ours.flags.c_contiguous
    assert (ours == seen).all()
    if content[24] < 16:  # Pillow cuts these
        assert difference(ours, by_pillow(content)) <= 1


def test_animations_and_wholly_transparent_images_are_refused():
    frames = [Image.fromarray(picture(seed=seed)) for seed in (0, 1)]
    for kind in ("PNG", "WEBP"):
        moving = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert "animation of 2 frames" in refused(moving)
    nothing = np.dstack([PICTURE, np.zeros_like(GREY)])
    for kind in ("PNG", "TIFF"):
        assert "transparent everywhere" in refused(saved(nothing, kind))


# Orientation.


def turned(orientation: int) -> np.ndarray:
    """The picture as a camera would store it, held so."""
    stored = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.swapaxes(0, 1),
        6: np.rot90(PICTURE, 1),
        7: np.rot90(PICTURE, 2).swapaxes(0, 1),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_seen_upright(kind, orientation):
    stored = turned(orientation)
    if kind == "TIFF":
        content = written(stored, extratags=[(274, SHORT, 1, orientation, True)])
    else:
        block = b"Exif\0\0" + exif(orientation)
        options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(
            kind, {}
        )
        content = saved(stored, kind, exif=block, **options)
    assert difference(decode_image(content), PICTURE) <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    "block",
    [b"", b"II*\0", exif(0), exif(9), exif(6)[:18], b"XX" + exif(6)[2:], exif(6)[:4] + b"\xff" * 4],
)
def test_broken_exif_leaves_an_image_as_it_is_stored(block):
    assert exif_data.orientation(block) == 1
    content = saved(PICTURE, "JPEG", exif=b"Exif\0\0" + block)
    assert (decode_image(content) == by_pillow(content)).all()


# JPEG.


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_jpeg_has_the_pixels_of_two_other_decoders(subsampling, progressive):
    content = saved(PICTURE, "JPEG", subsampling=subsampling, progressive=progressive)
    ours = decode_image(content)
    assert difference(ours, by_opencv(content)) <= 1
    assert difference(ours, by_pillow(content)) <= 1


def test_grey_jpeg_several_pictures_and_trailing_bytes_are_read():
    grey = saved(GREY, "JPEG")
    assert (decode_image(grey) == by_pillow(grey)).all()
    first, second = (Image.fromarray(picture(seed=seed)) for seed in (0, 1))
    several = saved(first, "MPO", save_all=True, append_images=[second])
    assert (decode_image(several) == by_opencv(several)).all()
    plain = saved(PICTURE, "JPEG")
    assert (decode_image(plain + b"a film of a second" * 99) == decode_image(plain)).all()


def test_zeros_at_the_end_of_a_jpeg_matter_where_data_is_missing():
    for whole in (saved(picture(460, 700), "JPEG"), saved(picture(9, 9), "JPEG")):
        scan, end = whole[:-2], whole[-2:]
        for zeros in (1, 7, 5000):
            assert (decode_image(scan + bytes(zeros) + end) == decode_image(whole)).all()
            kept = scan[: -min(zeros, 70)]
            assert "broken JPEG" in refused(kept + bytes(zeros) + end)
    with_exif = saved(turned(6), "JPEG", exif=b"Exif\0\0" + exif(6), quality=100, subsampling=0)
    padded = with_exif[:-2] + bytes(600) + with_exif[-2:]
    assert difference(decode_image(padded), PICTURE) <= 12


def test_a_long_film_behind_a_jpeg_is_not_taken_for_scans():
    plain = saved(PICTURE, "JPEG")
    assert (decode_image(plain + b"\xff\xda\0\2" * 501) == decode_image(plain)).all()


def damaged_jpegs():
    whole = saved(picture(460, 700), "JPEG", quality=90)
    restarts = saved(picture(460, 700), "JPEG", quality=90, restart_marker_rows=2)
    middle = len(whole) // 2
    yield "truncated", whole[:middle]
    yield "no end", whole[:-2]
    yield "zeros in the middle", whole[:middle] + bytes(3000) + whole[middle + 3000 :]
    yield "zeros at the end", whole[: -len(whole) // 3] + bytes(len(whole) // 3)
    noise = np.random.default_rng(0).integers(0, 255, 3000, np.uint8).tobytes()
    yield "noise in the middle", whole[:middle] + noise + whole[middle + 3000 :]
    yield "a lost restart", restarts.replace(b"\xff\xd3", b"\xff\xd5", 1)
    yield "a hole", whole[:middle] + whole[middle + 999 :]
    moving = saved(picture(460, 700), "JPEG", progressive=True)
    yield "progressive, truncated", moving[: len(moving) // 2]
    yield "no header", whole[:20]


@pytest.mark.parametrize(
    "content", [c for _, c in damaged_jpegs()], ids=[name for name, _ in damaged_jpegs()]
)
def test_a_damaged_jpeg_is_refused(content):
    assert "broken JPEG" in refused(content)


def test_jpeg_for_printing_or_of_twelve_bits_is_refused():
    assert "CMYK" in refused(saved(Image.fromarray(PICTURE).convert("CMYK"), "JPEG"))
    content = bytearray(saved(PICTURE, "JPEG"))
    content[content.index(b"\xff\xc0") + 4] = 12
    assert "rare kind" in refused(bytes(content))
    assert "scans" in refused(saved(PICTURE, "JPEG")[:-2] + b"\xff\xda\0\2" * 501)


# TIFF.

COMPRESSIONS = ("none", "lzw", "zlib", "packbits", "zstd")
LAYOUTS = (
    {},
    {"rowsperstrip": 7},
    {"tile": (16, 32)},
    {"planarconfig": "separate", "rowsperstrip": 7},
    {"planarconfig": "separate", "tile": (16, 16)},
    {"bigtiff": True, "byteorder": ">", "rowsperstrip": 9},
    {"byteorder": ">", "predictor": True},
    {"predictor": True, "tile": (32, 16)},
)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_tiff_of_every_layout_is_read(compression, bits):
    stored = PICTURE if bits == 8 else PICTURE.astype(np.uint16) * 257
    for layout in LAYOUTS:
        if layout.get("predictor") and compression in ("none", "packbits"):
            continue
        if layout.get("planarconfig"):
            image = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
        else:
            image = stored
        content = written(image, photometric="rgb", compression=compression, **layout)
        assert (decode_image(content) == PICTURE).all(), layout
        if compression != "zstd" and bits == 8:  # which not every Pillow has
            other = by_opencv if layout.get("bigtiff") else by_pillow
            assert (other(content) == PICTURE).all(), layout


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_tiff_is_seen_as_said(compression, bits, photometric):
    stored = GREY if photometric == "minisblack" else 255 - GREY
    image = stored if bits == 8 else stored.astype(np.uint16) * 257
    for layout in ({}, {"tile": (16, 16)}, {"rowsperstrip": 5}):
        content = written(image, photometric=photometric, compression=compression, **layout)
        assert (decode_image(content) == GREY[..., None]).all(), layout
        if compression != "zstd" and bits == 8:  # which not every Pillow has
            assert (by_pillow(content) == GREY[..., None]).all(), layout


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_packed_samples_fill_the_range(bits, photometric):
    values = GREY >> (8 - bits) if bits <= 8 else GREY.astype(np.uint16) << (bits - 8)
    tags = grey_tags(*GREY.shape, bits, photometric)
    seen = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)[..., None]
    if photometric == 0:
        seen = 255 - seen
    if photometric == 3:
        table = np.random.default_rng(0).integers(0, 256, (2**bits, 3), np.uint8)
        tags.append((320, SHORT, (table.T.astype(int) * 257).ravel().tolist()))
        seen = table[values]
    content = tiff(tags, [packed_rows(values, bits).tobytes()])
    ours = decode_image(content)
    assert (ours == seen).all()
    if bits in (1, 4, 8) and photometric != 3:
        assert difference(ours, by_pillow(content)) <= 1


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 16}])
@pytest.mark.parametrize("photometric", ["rgb", "ycbcr", "minisblack"])
def test_jpeg_in_tiff_has_the_pixels_of_another_decoder(layout, photometric):
    image = GREY if photometric == "minisblack" else PICTURE
    content = written(image, photometric=photometric, compression="jpeg", **layout)
    assert difference(decode_image(content), by_opencv(content)) <= 1


def test_jpeg_tables_apart_are_read_and_damage_is_refused():
    content = saved(picture(460, 700), "TIFF", compression="jpeg", quality=90)
    assert difference(decode_image(content), by_opencv(content)) <= 1
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        assert page.jpegtables
        at = page.dataoffsets[0] + page.databytecounts[0] // 2
    assert "broken JPEG" in refused(content[:at] + bytes(300) + content[at + 300 :])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("meaning", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_of_tiff_lies_on_white(bits, meaning, grey):
    colours = PICTURE[..., :1] if grey else PICTURE
    alpha = np.random.default_rng(0).integers(0, 256, (*GREY.shape, 1), np.uint8)
    share = alpha / 255
    kept = np.rint(colours * share).astype(np.uint8) if meaning == "assocalpha" else colours
    seen = np.rint((kept if meaning == "assocalpha" else colours * share) + 255 * (1 - share))
    stored = np.dstack([kept, alpha]).astype(np.uint16) * (257 if bits == 16 else 1)
    photometric = "minisblack" if grey else "rgb"
    content = written(
        stored.astype(f"u{bits // 8}"),
        photometric=photometric,
        extrasamples=[meaning],
        planarconfig="contig",
    )
    assert difference(decode_image(content), np.broadcast_to(seen, PICTURE.shape)) <= 1


def test_a_fourth_channel_of_no_said_meaning_must_be_opaque():
    def content(alpha):
        return written(np.dstack([PICTURE, alpha]), photometric="rgb", extrasamples=["unspecified"])

    assert (decode_image(content(np.full_like(GREY, 255))) == PICTURE).all()
    assert "not said to be alpha" in refused(content(GREY))


@pytest.mark.parametrize("bits", range(8, 15))
def test_few_bits_in_16_bit_samples_are_scaled_by_tag_or_refused(bits):
    top = 2**bits - 1
    stored = np.rint(PICTURE / 255 * top).astype(np.uint16)
    assert "seen as black" in refused(written(stored, photometric="rgb"))
    assert "seen as black" in refused(png(stored, 16, 2))
    for tag in (281, 341):
        scaled = written(stored, photometric="rgb", extratags=[(tag, SHORT, 3, (top,) * 3, True)])
        assert difference(decode_image(scaled), PICTURE) <= 1
    statistic = written(
        stored, photometric="rgb", extratags=[(281, SHORT, 3, (top - 1,) * 3, True)]
    )
    assert "seen as black" in refused(statistic)
    lie = written(
        stored + np.uint16(1), photometric="rgb", extratags=[(281, SHORT, 3, (top,) * 3, True)]
    )
    assert "values above" in refused(lie)


def test_few_bits_in_16_bit_samples_are_seen_beside_defects():
    stored = PICTURE.astype(np.uint16) << 4
    stored[0, :20] = 65535
    assert "16,383 of 65,535 in 99 %" in refused(written(stored, photometric="rgb"))
    assert "seen as black" in refused(png(stored, 16, 2))
    stored[:3] = 65535
    assert decode_image(png(stored, 16, 2)).shape == PICTURE.shape
    bright = np.full(GREY.shape, 900, np.uint16)  # of which 0 is white
    bright[0, :9] = 60000
    content = written(bright, photometric="miniswhite")
    assert decode_image(content)[5, 5, 0] == 251


def imagej_grey(white: int) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(
        file, GREY.astype(np.uint16) * 257, imagej=True, metadata={"min": 0, "max": white}
    )
    return file.getvalue()


def test_a_grey_image_of_imagej_is_read_where_viewers_agree():
    assert (decode_image(imagej_grey(65535)) == GREY[..., None]).all()
    assert "with 30000 as white" in refused(imagej_grey(30000))
    text = "ImageJ=1.54f\nmin={}\nmax={}\n"
    agreed = written(GREY, photometric="minisblack", description=text.format("0.0", "255.0"))
    assert (decode_image(agreed) == GREY[..., None]).all()
    for low, high, words in (("20.0", "255.0", "20.0 as black"), ("0.0", "99.0", "99.0 as white")):
        adjusted = written(GREY, photometric="minisblack", description=text.format(low, high))
        assert words in refused(adjusted)


def imagej() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.moveaxis(PICTURE, -1, 0).copy(),
        imagej=True,
        metadata={"axes": "CYX", "mode": "composite"},
    )
    return file.getvalue()


def ome(axes: str, image: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, ome=True, photometric="minisblack", metadata={"axes": axes})
    return file.getvalue()


def pages(*images: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, image in enumerate(images):
            writer.write(image, metadata=None, photometric="rgb", **(options if number else {}))
    return file.getvalue()


WHITE = np.full_like(PICTURE, 255)
HALF = np.ascontiguousarray(PICTURE[::2, ::2])
SHAPE = {"height": 46, "width": 70}


def one_directory_of_a_stack() -> bytes:
    """As ImageJ writes a stack of more than 4 GB: one directory, and a description."""
    content = written(
        GREY, photometric="minisblack", description="ImageJ=1.53\nimages=3\nslices=3\n"
    )
    assert len(tifffile.TiffFile(io.BytesIO(content)).pages) == 1
    return content


REFUSED_TIFFS = {
    "label first": (pages(WHITE, PICTURE), "2 pages"),
    "ImageJ composite": (imagej(), "3 pages"),
    "ImageJ stack in one page": (one_directory_of_a_stack(), "3 channels or slices"),
    "OME channels": (ome("CYX", np.moveaxis(PICTURE, -1, 0).copy()), "3 pages"),
    "thumbnail first": (
        written(HALF, photometric="rgb", subfiletype=1),
        "thumbnail",
    ),
    "a larger reduced page": (pages(HALF, PICTURE, subfiletype=1), "2 pages"),
    "a page of two": (pages(PICTURE, PICTURE, subfiletype=2), "2 pages"),
    "CIELab": (written(PICTURE, photometric="cielab"), "CIELAB"),
    "CMYK": (written(np.dstack([PICTURE, GREY]), photometric="separated"), "CMYK"),
    "YCbCr": (written(PICTURE, photometric="ycbcr", compression="none"), "YCBCR"),
    "float": (written(PICTURE.astype(np.float32), photometric="rgb"), "pixels of type float32"),
    "signed": (written(GREY.astype(np.int16), photometric="minisblack"), "pixels of type int16"),
    "32 bits": (written(GREY.astype(np.uint32), photometric="minisblack"), "pixels of type uint32"),
    "channels": (
        written(np.dstack([PICTURE] * 2), photometric="minisblack", planarconfig="contig"),
        "6 channels",
    ),
    "JPEG 2000": (written(PICTURE, photometric="rgb", compression="jpeg2000"), "JPEG2000"),
    "Aperio": (written(PICTURE, photometric="rgb", compression=33003), "APERIO_JP2000_YCBC"),
    "JPEG XL": (written(PICTURE, photometric="rgb", compression="jpegxl"), "JPEGXL"),
    "WebP": (written(PICTURE, photometric="rgb", compression="webp"), "WEBP"),
    "LERC": (written(PICTURE, photometric="rgb", compression="lerc"), "LERC"),
    "old JPEG": (
        tiff([*grey_tags(8, 8)[:3], (259, SHORT, [6]), (262, SHORT, [1])], [bytes(64)]),
        "OJPEG",
    ),
    "unknown compression": (tiff([*grey_tags(8, 8), (259, SHORT, [7777])], [bytes(64)]), "7777"),
    "no meaning of colours": (
        tiff([tag for tag in grey_tags(8, 8) if tag[0] != 262], [bytes(64)]),
        "what its colours are",
    ),
    "5, 6 and 5 bits": (
        tiff(
            [*grey_tags(8, 8), (258, SHORT, [5, 6, 5]), (262, SHORT, [2]), (277, SHORT, [3])],
            [bytes(128)],
        ),
        "pixels of type",
    ),
    "palette cut": (tiff([*grey_tags(8, 8, 8, 3), (320, SHORT, [0] * 9)], [bytes(64)]), "palette"),
    "no strips": (tiff(grey_tags(8, 8), []), "missing"),
    "a strip short": (tiff(grey_tags(8, 8), [bytes(63)]), "too short"),
    "a strip beyond the end": (
        tiff([*grey_tags(8, 8), (273, LONG, [9999])], [bytes(64)]),
        "missing",
    ),
    "a strip of no bytes": (tiff([*grey_tags(8, 8), (279, LONG, [0])], [bytes(64)]), "missing"),
    "fewer strips than rows": (tiff([*grey_tags(8, 8), (278, SHORT, [4])], [bytes(64)]), "missing"),
    "short deflate": (
        tiff([*grey_tags(8, 8), (259, SHORT, [8])], [zlib.compress(bytes(32))]),
        "broken TIFF",
    ),
    "a loop of pages": (tiff(grey_tags(8, 8), [bytes(64)], next_page=72), "loop"),
    "pages cut off": (tiff(grey_tags(8, 8), [bytes(64)], next_page=9999), "ends early"),
    "huge": (
        tiff([*grey_tags(8, 8), (256, LONG, [2**31]), (257, LONG, [2**31])], [bytes(64)]),
        "OPENCV_IO_MAX_IMAGE_PIXELS",
    ),
    "no pixels": (tiff([*grey_tags(8, 8), (256, LONG, [0])], [bytes(64)]), "0x8 pixels"),
    "hundreds of pages": (pages(*[HALF] * 102), "more than 100 pages"),
    "a volume": (tiff([*grey_tags(8, 8), (32997, LONG, [2])], [bytes(64)] * 2), "2 slices"),
}


@pytest.mark.parametrize("name", REFUSED_TIFFS)
def test_a_tiff_that_leaves_doubt_is_refused_by_name(name):
    content, words = REFUSED_TIFFS[name]
    assert words in refused(content)


def test_of_a_pyramid_the_full_resolution_is_read():
    assert (decode_image(pages(PICTURE, HALF, HALF[::2].copy(), subfiletype=1)) == PICTURE).all()
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(PICTURE, subifds=1, photometric="rgb")
        writer.write(HALF, subfiletype=1, photometric="rgb")
    assert (decode_image(file.getvalue()) == PICTURE).all()


def test_a_truncated_tiff_is_refused_wherever_it_ends():
    for compression, layout in itertools.product(COMPRESSIONS, LAYOUTS[:3]):
        content = written(PICTURE, photometric="rgb", compression=compression, **layout)
        for keep in (0.02, 0.5, 0.9):
            refused(content[: int(keep * len(content))])


# BMP and WebP.


def bmp(bits: int, rows: bytes, height: int = 46, kind: int = 0, extra: bytes = b"") -> bytes:
    """A BMP of 70 columns; ``extra`` are masks or a palette."""
    header = struct.pack("<IiiHHIIiiII", 40, 70, height, 1, bits, kind, len(rows), 0, 0, 0, 0)
    start = 14 + len(header) + len(extra)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + extra + rows


def test_every_kind_of_bmp_is_read_as_it_is_seen():
    bgr = PICTURE[..., ::-1]
    lines = b"".join(row.tobytes() + bytes(2) for row in bgr)
    assert (decode_image(bmp(24, lines, height=-46)) == PICTURE).all()
    assert (decode_image(bmp(24, lines)) == PICTURE[::-1]).all()
    old = b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, 70, 46, 1, 24)
    assert (decode_image(old + lines) == PICTURE[::-1]).all()
    fourth = np.dstack([bgr, GREY]).tobytes()
    assert (decode_image(bmp(32, fourth)) == PICTURE[::-1]).all()  # padding, not alpha
    values = (PICTURE >> [3, 2, 3]).astype(np.uint16)
    packed = (values[..., 0] << 11) | (values[..., 1] << 5) | values[..., 2]
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    assert (
        difference(decode_image(bmp(16, packed.tobytes(), kind=3, extra=masks)), PICTURE[::-1]) <= 8
    )
    palette = np.dstack([PALETTE[..., ::-1].reshape(1, -1, 3), np.zeros((1, 256))]).astype(np.uint8)
    lines = b"".join(row.tobytes() + bytes(2) for row in GREY)
    indexed = bmp(8, lines, extra=palette.tobytes())
    assert (decode_image(indexed) == PALETTE[GREY][::-1]).all()
    runs = b"".join(bytes((70, row, 0, 0)) for row in range(46)) + b"\0\1"
    seen = np.repeat(PALETTE[:46][::-1, None], 70, axis=1)
    assert (decode_image(bmp(8, runs, kind=1, extra=palette.tobytes())) == seen).all()
    unwritten = bmp(8, runs[:8] + b"\0\1", kind=1, extra=palette.tobytes())
    for broken in (indexed[:-100], unwritten, indexed[:30]):
        assert "broken BMP" in refused(broken)


def test_webp_is_read_and_half_of_one_refused():
    alpha = np.random.default_rng(0).integers(0, 256, GREY.shape, np.uint8)
    for image, options in (
        (PICTURE, {"lossless": True}),
        (PICTURE, {"quality": 90}),
        (np.dstack([PICTURE, alpha]), {"lossless": True, "exact": True}),
    ):
        content = saved(image, "WEBP", **options)
        assert difference(decode_image(content), by_pillow(content)) <= 1
        if image.shape[2] == 3:
            assert (decode_image(content) == by_opencv(content)).all()
        assert "broken WebP" in refused(content[: len(content) // 2])


def test_webp_whose_tail_was_lost_to_zeros_is_refused():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 300, 3), np.uint8)
    for options in ({"quality": 90}, {"lossless": True}):
        content = saved(noise, "WEBP", **options)
        for zeros in (500, 9000):
            assert "zeros" in refused(content[:-zeros] + bytes(zeros))
    for size in (300, 2000):
        blank = np.full((size, size, 3), 255, np.uint8)
        assert (decode_image(saved(blank, "WEBP")) >= 254).all()


# All formats.


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (saved(PICTURE, "GIF"), "a GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC image"),
        (b"\0\0\0\x18ftypavif" + bytes(40), "an AVIF image"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL image"),
        (saved(PICTURE, "JPEG2000"), "a JPEG 2000 image"),
        (b"8BPS" + bytes(40), "a Photoshop image"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (saved(PICTURE, "PPM"), "a PNM image"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_other_formats_are_refused_by_name(content, name):
    sentence = refused(content)
    assert name in sentence and "save it as PNG" in sentence


def test_content_not_suffix_tells_the_format(tmp_path):
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        for content in (saved(PICTURE, "PNG"), saved(PICTURE, "TIFF"), saved(PICTURE, "BMP")):
            (tmp_path / f"x{suffix}").write_bytes(content)
            assert (read_image(tmp_path / f"x{suffix}") == PICTURE).all()


def test_training_takes_the_same_pixels_or_none():
    plain = decode.inspect(saved(PICTURE, "PNG"))
    assert plain == decode.inspect(saved(PICTURE, "PNG", compress_level=1))
    digest = image_files.hashlib.sha256(b"46x70x3 " + PICTURE.tobytes()).hexdigest()
    assert plain.digest == digest
    sideways = saved(PICTURE, "PNG", exif=b"Exif\0\0" + exif(6))
    assert "turned by its EXIF data" in decode.inspect(sideways)
    assert decode.inspect(saved(PICTURE, "PNG", exif=b"Exif\0\0" + exif(1))) == plain
    key = png_chunk(b"tRNS", struct.pack(">HHH", *PICTURE[0, 0]))
    assert "alpha" in decode.inspect(png(PICTURE, 8, 2, key))


def bombs():
    zeros = zlib.compress(bytes(2**27))  # claims 8x8 pixels, expands to 128 MiB
    yield "deflate", tiff([*grey_tags(8, 8), (259, SHORT, [8])], [zeros])
    big = saved(np.zeros((4096, 4096), np.uint8), "JPEG")
    yield "JPEG in TIFF", tiff([*grey_tags(8, 8), (259, SHORT, [7])], [big])
    yield (
        "tile",
        tiff(
            [
                *(tag for tag in grey_tags(8, 8) if tag[0] != 278),
                (259, SHORT, [8]),
                (322, LONG, [2**20]),
                (323, LONG, [2**12]),
                (324, LONG, [8]),
                (325, LONG, [len(zeros)]),
            ],
            [zeros],
        ),
    )
    many = tiff(
        [*grey_tags(8, 8), (273, LONG, [8] * 10**5), (279, LONG, [64] * 10**5)], [bytes(64)]
    )
    yield "strips", many
    header = struct.pack("<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "BMP", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header
    large = saved(np.zeros((64, 64), np.uint8), "JPEG")
    at = large.index(b"\xff\xc0")
    yield "JPEG", large[: at + 5] + b"\xff\xff\xff\xff" + large[at + 9 :]


@pytest.mark.parametrize("content", [c for _, c in bombs()], ids=[name for name, _ in bombs()])
def test_what_a_file_claims_costs_neither_memory_nor_time(content):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused(content)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB


def test_a_file_gives_the_same_pixels_or_words_every_time():
    rng = np.random.default_rng(0)
    whole = [
        written(PICTURE, photometric="rgb", compression=compression, **layout)
        for compression in ("lzw", "zlib", "packbits")
        for layout in ({"rowsperstrip": 7}, {"tile": (16, 16)})
    ]
    for content in whole:
        for _ in range(6):
            bent = bytearray(content)
            for at in rng.integers(8, len(content), 3):
                bent[at] = rng.integers(256)
            seen = set()
            for filler in (0, 255):
                np.full(PICTURE.size, filler, np.uint8)  # what freed memory may hold
                try:
                    seen.add(decode_image(bytes(bent)).tobytes())
                except ValueError as error:
                    seen.add(str(error))
            assert len(seen) == 1
