"""From a path that the user names to decoded, described images."""

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
        records: M of the N images, those of the wanted magnifications.
        fingerprint: identifies the pixels and their description.
        description: what was found, for people: complete or subset, duplicates, skipped files;
            ends with the ``notes``.
        skipped: path and reason of each file left out.
        notes: lines about trees read together, files not looked at and magnifications left out.
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
    """Validates, decodes and describes a set of BreaKHis images; the second call is quick.

    Args:
        source: a BreaKHis tree at any nesting, the authors' archive, a folder that holds it,
            ``'sample'`` for the images that ship with the project, or a finished cache folder of
            this size and rule, which is opened without TensorFlow.
        size: height and width in pixels of the decoded images.
        resize: how an image is brought to that size, see :func:`se_resnet.images.resize.resize`.
        magnifications: which to keep.
        on_bad_image: ``'error'`` refuses a set with broken or misnamed files, ``'skip'`` leaves
            them out.
        cache_dir: where decoded images are kept; empty for the user's cache folder.

    Raises:
        UserError: nothing usable is there, files are broken, or a value is out of range.
    """
    if not source:
        raise UserError(
            "config.data.dir is empty: give the path of BreaKHis (tree or archive), or 'sample' "
            "for the images that ship with the project."
        )
    source = local_path(source, "config.data.dir =")
    if _is_cache(Path(source)):
        return _open_finished(Path(source), size, resize, magnifications)
    from data.breakhis import builder  # imports TensorFlow, which takes seconds

    path = SAMPLE_FOLDER if source == "sample" else source
    try:
        root = user_cache_dir(cache_dir)
        prepared = builder.prepare(path, root, on_bad_image)
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
    """:func:`load_dataset` with the values of ``config.data``."""
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
    except OSError:  # a name longer than file systems take
        return False


def _open_finished(
    path: Path, size: tuple[int, int], resize: str, magnifications: tuple[int, ...]
) -> Dataset:
    cache = open_cache(path)
    for name, wanted in (("size", list(size)), ("resize", resize)):
        if cache.facts.get(name) != wanted:
            raise UserError(
                f"{path} is an image cache with {name} {cache.facts.get(name)}, not {wanted}: set "
                f"config.data.{name} alike, or give the images it was made from."
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
    """The images of these magnifications; what is left out is described."""
    records = cache.records.at_magnifications(magnifications)
    notes = (*walk, *cache.records.describe_left_out(records))
    text = "\n".join([description, *notes])
    return Dataset(cache.images, records, cache.fingerprint, text, skipped or [], notes)
