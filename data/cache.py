"""The image cache: every image decoded once into one memory-mapped array.

A cache is a folder with ``images.npy`` (``uint8 [N, H, W, 3]``), ``records.csv`` and
``cache.json``. It can be copied to a machine without the images and without TensorFlow, and opened
there. ``cache.json`` holds the checksums of the other two files. They are compared whenever the
cache is opened, so that a network never trains on damaged pixels. An older cache without checksums
opens after a comparison of sizes. It gets no checksums later, because its pixels may have changed
since they were written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol

import numpy as np

from data.disk import unfinished
from data.records import Records
from data.scales import at_scale
from se_resnet.errors import UserError
from se_resnet.images.decode import decode_image
from se_resnet.images.resize import RESIZE_RULES, resize
from se_resnet.images.scale import FORM as SCALE_FORM
from se_resnet.images.scale import MAX_TILES, Scale
from se_resnet.runtime.files import read_json, write_json
from se_resnet.runtime.parallel import parallel_map
from se_resnet.runtime.progress_bar import progress_bar
from se_resnet.runtime.schema import Between, misfit

_FORMAT = 2  # raised when the same inputs would give other pixels
_CHECKED = ("images.npy", "records.csv")
# Facts of a cache with a scale.
_SCALE_FORM = {
    "scale": SCALE_FORM,
    "most_tiles": Between(1, MAX_TILES),
    "mirrored": Between(0, 2**31),
}
_BLOCK = 2**24  # bytes under one checksum; caches depend on it


class Images(Protocol):
    """The interface of prepared images, such as ``data.breakhis.preparation.Prepared``."""

    @property
    def num_images(self) -> int:
        """Number of examples."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of the content."""
        ...

    def examples(self) -> Iterator[dict]:
        """Yields dicts with ``image`` (encoded bytes) and the columns of ``Records`` except row."""
        ...


@dataclasses.dataclass(frozen=True)
class Cache:
    """Decoded images and their records.

    Attributes:
        images: ``uint8 [N, H, W, 3]`` RGB, memory-mapped read-only.
        records: one row per image; ``records.row`` points into ``images``.
        fingerprint: identity of the pixels: equal for the same content, size, resize rule and
            scale.
        path: folder of the cache.
        facts: content of ``cache.json``. With a scale, ``scale``, ``most_tiles`` (largest number of
            tiles of an image) and ``mirrored`` (number of images smaller than a tile).
    """

    images: np.ndarray
    records: Records
    fingerprint: str
    path: Path
    facts: dict[str, Any]


def open_or_build(
    images: Images,
    cache_dir: Path,
    size: tuple[int, int],
    rule: str,
    scale: Scale | None = None,
) -> Cache:
    """Opens the cache of these images at this size. Builds it the first time.

    Args:
        images: prepared images.
        cache_dir: folder of all caches.
        size: height and width in pixels.
        rule: rule that brings an image to that size, see :func:`se_resnet.images.resize.resize`.
        scale: brings the images to this scale and keeps their middle tiles, which the rule brings
            to the size; None keeps whole images.

    Raises:
        UserError: the size or rule is invalid, the disk has too little space, or an image cannot be
            brought to the scale.
    """
    check_size(size, rule)
    parts = [_FORMAT, images.fingerprint, list(size), rule]
    key = json.dumps([*parts, scale.as_dict()] if scale else parts)
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    path = cache_dir / "pixels" / fingerprint[:16]
    if not path.exists():
        _build(images, path, size, rule, scale, fingerprint)
    cache = open_cache(path)
    if cache.fingerprint != fingerprint:
        raise damaged(path, ValueError("its pixels have another source, size or resize rule"))
    return cache


def check_size(size: tuple[int, int], rule: str) -> None:
    """Raises a :class:`UserError` if this is no image size or no resize rule."""
    if rule not in RESIZE_RULES:
        raise UserError(
            f"config.data.resize = {rule!r} is unknown: choose from {', '.join(RESIZE_RULES)}."
        )
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise UserError(
            f"config.data.size = {tuple(size)} is no image size: give (height, width) in pixels."
        )


def open_cache(path: str | Path) -> Cache:
    """Opens a finished cache folder and compares its files with their checksums.

    Every process of a run does so, because each process may read another copy. The 1.2 GB of
    BreaKHis at 224x224 take 0.6 s of processor time, spread over all cores.

    Raises:
        UserError: the folder is missing, incomplete or damaged.
    """
    path = Path(path)
    try:
        facts = read_json(path / "cache.json", {"fingerprint": str})
        _verify(path, facts)
        images = np.lib.format.open_memmap(path / "images.npy", mode="r")
        if images.offset + images.nbytes != (path / "images.npy").stat().st_size:
            raise ValueError("images.npy has another size than its header says")
        records = Records.read_csv(path / "records.csv")
        if facts.get("size", list(images.shape[1:3])) != list(images.shape[1:3]):
            raise ValueError(f"images.npy has no images of size {facts['size']}")
        if "scale" in facts and (problem := misfit(facts, _SCALE_FORM)):
            raise ValueError(problem)
        if len(images) != len(records) or images.dtype != np.uint8 or images.shape[3:] != (3,):
            raise ValueError("array and table disagree")
        if sorted(records.row.tolist()) != list(range(len(images))):
            raise ValueError("the table does not name every image once")
        if not np.isin(records.label, (0, 1)).all():
            raise ValueError("a label is neither 0 nor 1")
        return Cache(images, records, facts["fingerprint"], path, facts)
    except (OSError, ValueError, TypeError, OverflowError, SyntaxError, TokenError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """Returns the error for a cache folder with missing or damaged files."""
    return UserError(
        f"{path} is not a complete image cache ({error}): delete the folder and run again."
    )


def write_cache(
    path: Path,
    shape: tuple[int, int, int, int],
    fill: Callable[[np.ndarray], tuple[list[dict], dict[str, Any]]],
    remedy: str,
) -> None:
    """Writes a cache folder, which appears complete or not at all.

    Args:
        path: folder to create.
        shape: N, H, W, 3.
        fill: writes the pixels into its argument, a memory-mapped array ``uint8 [N, H, W, 3]``.
            Returns the rows of the ``Records`` and the content of ``cache.json``, with a
            ``fingerprint``.
        remedy: remedy for a full disk besides making room, for the message.

    Raises:
        UserError: the disk has too little space.
    """
    # Built under another name and renamed when complete, so that a killed build is never opened.
    with unfinished(path, math.prod(shape), purpose="the image cache", remedy=remedy) as temporary:
        array = np.lib.format.open_memmap(temporary / "images.npy", "w+", np.uint8, shape)
        _reserve(temporary / "images.npy")
        rows, facts = fill(array)
        array.flush()
        Records.from_rows(rows).write_csv(temporary / "records.csv")
        checksums = {name: _checksums(temporary / name) for name in _CHECKED}
        write_json(temporary / "cache.json", {**facts, "checksums": checksums})
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():  # otherwise another process finished the same cache first
                raise


def _build(
    images: Images,
    path: Path,
    size: tuple[int, int],
    rule: str,
    scale: Scale | None,
    fingerprint: str,
) -> None:
    tiles, mirrored = np.zeros(images.num_images, int), np.zeros(images.num_images, bool)

    def fill(array: np.ndarray) -> tuple[list[dict], dict[str, Any]]:
        def decode(numbered: tuple[int, dict]) -> dict:
            row, example = numbered
            if scale:
                tiled = at_scale(example, scale)
                image, tiles[row], mirrored[row] = tiled.middle, len(tiled), tiled.is_mirrored
            else:
                image = decode_image(example["image"])  # preparation has decoded it before
            del example["image"]
            try:
                array[row] = resize(image, size, rule)
            except UserError as error:
                raise UserError(f"{example['file']}: {error}") from error
            return {**example, "row": row}

        rows = list(
            progress_bar(
                parallel_map(decode, enumerate(images.examples())),
                total=images.num_images,
                desc="decoding",
                unit="image",
            )
        )
        facts: dict[str, Any] = {"fingerprint": fingerprint, "size": size, "resize": rule}
        if scale:
            facts |= {
                "scale": scale.as_dict(),
                "most_tiles": int(tiles.max(initial=0)),
                "mirrored": int(mirrored.sum()),
            }
        return rows, facts

    shape = (images.num_images, *size, 3)
    write_cache(path, shape, fill, remedy="set config.data.cache_dir to another disk")


def _verify(path: Path, facts: dict[str, Any]) -> None:
    """Raises a ValueError if a file of the cache has changed since it was written."""
    for name in _CHECKED:
        if not stat.S_ISREG((path / name).stat().st_mode):
            raise ValueError(f"{name} is not a regular file")
    if "checksums" not in facts:  # a cache of an older version
        return
    if problem := misfit(facts, {"checksums": {name: [int] for name in _CHECKED}}):
        raise ValueError(problem)
    for name in _CHECKED:
        if _checksums(path / name) != facts["checksums"][name]:
            raise ValueError(f"{name} is damaged: its checksum differs")


def _checksums(path: Path) -> list[int]:
    """Returns the CRC-32 of each block of a file, computed on all cores."""

    def checksum(start: int) -> int:
        # Read, not mapped: a file that is cut meanwhile gives an exception, not a bus error.
        with path.open("rb") as file:
            file.seek(start)
            return zlib.crc32(file.read(_BLOCK))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(checksum, range(0, path.stat().st_size, _BLOCK)))


def _reserve(path: Path) -> None:
    """Allocates the disk space now: writing to a mapped file on a full disk kills the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
