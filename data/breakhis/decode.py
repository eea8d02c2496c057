"""Decodes and validates BreaKHis images, and lists unusable images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.breakhis.candidates import check_name
from data.breakhis.filenames import ImageName
from data.breakhis.image_files import Source, read_file, read_files
from data.problems import Problem
from se_resnet.images import png
from se_resnet.images.decode import decode_image
from se_resnet.images.pixels import digest
from se_resnet.runtime.parallel import parallel_map

MIN_SIDE, MAX_SIDE = 16, 8192


@dataclass(frozen=True)
class ImageFacts:
    """Size and identity of a decoded image.

    Attributes:
        height, width: pixels.
        digest: SHA-256 of shape and RGB pixels, equal for the same image under any compression.
    """

    height: int
    width: int
    digest: str


@dataclass(frozen=True)
class SourceImage:
    """A usable image: its path in the source, parsed name, encoded bytes and facts."""

    path: str
    name: ImageName
    data: bytes
    facts: ImageFacts


def read_image(root: Path, relative: str, name: ImageName) -> SourceImage | Problem:
    """Reads, decodes and validates one image of a tree."""
    content = read_file(root, relative)
    return content if isinstance(content, Problem) else _examine(relative, name, content)


def scan(source: Source, workers: int | None = None) -> Iterator[SourceImage | Problem]:
    """Reads, decodes and validates every candidate image, several at a time.

    At most four images per worker are in memory. The order is that of :func:`read_files`.

    Args:
        source: images from :func:`data.breakhis.image_files.find`.
        workers: number of decoding threads, by default one per CPU.
    """
    first_path: dict[str, str] = {}
    above = "" if source.is_archive else source.path.name
    named_files = (
        (path, check_name(path, first_path, above), content) for path, content in read_files(source)
    )
    return parallel_map(_examine_file, named_files, workers)


def inspect(data: bytes) -> ImageFacts | str:
    """Decodes an encoded image and returns its facts, or the reason why it is unusable.

    A usable image is a complete PNG file of 8-bit RGB with sides of 16 to 8,192 pixels, without
    transparency, orientation or animation, like all images of BreaKHis.
    """
    problem = png.problem(data) or _header_problem(png.read_header(data))
    if problem:
        return problem
    try:
        image = decode_image(data)
    except ValueError:
        return "broken: it cannot be decoded"
    height, width = image.shape[:2]
    return ImageFacts(height, width, digest(image))


def _examine_file(
    file: tuple[str, ImageName | Problem, bytes | Problem],
) -> SourceImage | Problem:
    path, name, content = file
    if isinstance(content, Problem):
        return content
    return name if isinstance(name, Problem) else _examine(path, name, content)


def _examine(path: str, name: ImageName, data: bytes) -> SourceImage | Problem:
    facts = inspect(data)
    return Problem(path, facts) if isinstance(facts, str) else SourceImage(path, name, data, facts)


def _header_problem(header: png.Header) -> str | None:
    """Returns why the header of a complete PNG file is not that of a BreaKHis image, or None."""
    sides = (header.width, header.height)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in sides):
        return (
            f"{header.width}x{header.height} pixels: sides of {MIN_SIDE} to {MAX_SIDE} are expected"
        )
    if header.depth == 16:
        return "16-bit: 8-bit RGB is needed"
    if header.colour == png.GREY:
        return "grayscale: RGB is needed"
    if header.colour in (png.GREY_ALPHA, png.RGBA) or header.transparency:
        return "RGBA (it has an alpha channel): RGB is needed"
    if header.orientation != 1:
        return "turned by its EXIF data: save it as it is seen, without them"
    if header.frames > 1:
        return f"an animation of {header.frames} frames: one image is needed"
    return None
