"""From a path that the user names to decoded, described images."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from data.cache import open_or_build
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.files import user_cache_dir

SAMPLE = Path(__file__).parent / "sample"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images ready for training and evaluation.

    Attributes:
        images: ``uint8 [N, H, W, 3]`` RGB, memory-mapped.
        records: M of the N images, those of the wanted magnifications.
        fingerprint: identifies the pixels and their description.
        description: what was found, for people: complete or subset, duplicates, skipped files.
        skipped: path and reason of each file left out.
    """

    images: np.ndarray
    records: Records
    fingerprint: str
    description: str
    skipped: list[tuple[str, str]]


def load(
    source: str,
    *,
    size: tuple[int, int] = (224, 224),
    resize: str = "squash",
    magnifications: tuple[int, ...] = (40, 100, 200, 400),
    on_bad_image: str = "error",
    cache_dir: str = "",
) -> Dataset:
    """Validates, decodes and describes a set of BreaKHis images; the second call is quick.

    Args:
        source: a BreaKHis tree at any nesting, the authors' archive, a folder that holds it, or
            ``'sample'`` for the images that ship with the project.
        size: height and width in pixels of the decoded images.
        resize: how an image is brought to that size, see :func:`se_resnet.imaging.resize`.
        magnifications: which to keep.
        on_bad_image: ``'error'`` refuses a set with broken or misnamed files, ``'skip'`` leaves
            them out.
        cache_dir: where decoded images are kept; empty for the user's cache folder.

    Raises:
        UserError: nothing usable is there, files are broken, or a value is out of range.
    """
    from data import breakhis  # imports TensorFlow, which takes seconds

    if not source:
        raise UserError(
            "config.data.dir is empty: give the path of BreaKHis (tree or archive), or 'sample' "
            "for the images that ship with the project."
        )
    try:
        root = Path(os.path.expanduser(cache_dir)) if cache_dir else user_cache_dir()
        prepared = breakhis.prepare(SAMPLE if source == "sample" else source, root, on_bad_image)
        cache = open_or_build(prepared, root, size, resize)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache_dir or '$SE_RESNET_CACHE or ~/.cache/se_resnet'} cannot be "
            f"used ({error}): set config.data.cache_dir to another folder."
        ) from error
    return Dataset(
        cache.images,
        cache.records.at_magnifications(magnifications),
        cache.fingerprint,
        prepared.summary.describe(),
        prepared.skipped,
    )
