"""Loads the images at a path: decoded, with records and a description."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.breakhis.summary import summarise
from data.cache import Cache, damaged, open_cache, open_or_build
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.labels import MAGNIFICATIONS
from se_resnet.runtime.files import user_cache_dir
from se_resnet.runtime.paths import SAMPLE_FOLDER, local_path


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images ready for training and evaluation.

    Attributes:
        images: ``uint8 [N, H, W, 3]`` RGB, memory-mapped.
        records: M of the N images, with the wanted magnifications.
        fingerprint: identity of the pixels and their records.
        description: text for the user: complete or subset, duplicates, skipped files, and the
            ``notes``.
        skipped: path and reason of each file left out.
        notes: lines about trees read together, files that are not read and other magnifications.
    """

    images: np.ndarray
    records: Records
    fingerprint: str
    description: str
    skipped: list[tuple[str, str]]
    notes: tuple[str, ...] = ()


def load_dataset(
    source: str,
    *,
    size: tuple[int, int] = (224, 224),
    resize: str = "squash",
    magnifications: tuple[int, ...] = MAGNIFICATIONS,
    on_bad_image: str = "error",
    cache_dir: str = "",
) -> Dataset:
    """Validates, decodes and describes a set of BreaKHis images. A second call is quick.

    Args:
        source: a BreaKHis tree at any nesting, the authors' archive, the folder of the archive,
            ``'sample'`` for the images that ship with the project, or a finished cache folder of
            this size and rule, which needs no TensorFlow.
        size: height and width in pixels of the decoded images.
        resize: rule that brings an image to that size, see :func:`se_resnet.images.resize.resize`.
        magnifications: magnifications to keep.
        on_bad_image: ``'error'`` refuses a set with broken or misnamed files. ``'skip'`` leaves
            such files out.
        cache_dir: folder for decoded images; empty for the user's cache folder.

    Raises:
        UserError: there are no usable images, files are broken, or a value is out of range.
    """
    if not source:
        raise UserError(
            "config.data.dir is empty: give the path of BreaKHis (tree or archive), or 'sample' "
            "for the images that ship with the project."
        )
    source = local_path(source, "config.data.dir =")
    if _is_cache(Path(source)):
        return _open_finished(Path(source), size, resize, magnifications)
    from data.breakhis import preparation  # imports TensorFlow, which takes seconds

    path = SAMPLE_FOLDER if source == "sample" else source
    try:
        root = user_cache_dir(cache_dir)
        prepared = preparation.prepare(path, root, on_bad_image)
        cache = open_or_build(prepared, root, size, resize)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache_dir or '$SE_RESNET_CACHE or ~/.cache/se_resnet'} cannot be "
            f"used ({error}): set config.data.cache_dir to another folder."
        ) from error
    return _dataset(
        cache, magnifications, prepared.summary.describe(), prepared.skipped, prepared.walk
    )


def load_configured(settings: Mapping[str, Any]) -> Dataset:
    """Calls :func:`load_dataset` with the values of ``config.data``."""
    return load_dataset(
        settings["dir"],
        size=settings["size"],
        resize=settings["resize"],
        magnifications=tuple(settings["magnifications"]),
        on_bad_image=settings["on_bad_image"],
        cache_dir=settings["cache_dir"],
    )


def _is_cache(path: Path) -> bool:
    try:
        return (path / "cache.json").is_file()
    except OSError:  # the name is too long for the file system
        return False


def _open_finished(
    path: Path, size: tuple[int, int], resize: str, magnifications: tuple[int, ...]
) -> Dataset:
    cache = open_cache(path)
    for name, wanted in (("size", list(size)), ("resize", resize)):
        if cache.facts.get(name) != wanted:
            raise UserError(
                f"{path} is an image cache with {name} {cache.facts.get(name)}, not {wanted}: set "
                f"config.data.{name} to the same value, or give the images that it was made from."
            )
    digests = dict(zip(cache.records.file.tolist(), cache.records.digest.tolist(), strict=True))
    try:
        description = summarise(digests).describe()
    except ValueError as error:
        raise damaged(path, error) from error
    return _dataset(cache, magnifications, description)


def _dataset(
    cache: Cache,
    magnifications: tuple[int, ...],
    description: str,
    skipped: list[tuple[str, str]] | None = None,
    walk: tuple[str, ...] = (),
) -> Dataset:
    """Returns the images of these magnifications, and describes the images left out."""
    records = cache.records.at_magnifications(magnifications)
    notes = (*walk, *cache.records.describe_left_out(records))
    text = "\n".join([description, *notes])
    return Dataset(cache.images, records, cache.fingerprint, text, skipped or [], notes)
