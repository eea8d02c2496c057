"""Images with what is known of them and their roles, in one call: for notebooks."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from data.dataset import load_dataset
from data.protocols import audit
from data.protocols.roles import assign_roles
from data.records import Records


class SplitImages(NamedTuple):
    """N images, described and divided.

    Attributes:
        images: RGB ``uint8 [N, H, W, 3]``.
        records: N rows in the order of ``images``.
        roles: ``str [N]``: ``train``, ``val``, ``test``, or ``excluded`` for a second copy.
    """

    images: np.ndarray
    records: Records
    roles: np.ndarray


def load(
    source: str,
    *,
    protocol: str = "strict",
    folds: int = 5,
    fold: int = 0,
    val_folds: int = 5,
    seed: int = 0,
    **options: Any,
) -> SplitImages:
    """Loads images of BreaKHis and divides them as ``train.py`` would.

    Args:
        source: a BreaKHis tree at any nesting, the authors' archive, or ``'sample'`` for the images
            that ship with the project.
        protocol: ``'strict'``, ``'official'`` or ``'random'``, see :mod:`data.protocols.roles`.
        folds: number of folds.
        fold: which of them is tested, from 0.
        val_folds: one of so many parts of the rest validates.
        seed: of the division.
        options: ``size``, ``resize``, ``magnifications``, ``on_bad_image`` and ``cache_dir``, see
            :func:`data.dataset.load_dataset`.

    Returns:
        Images, records and roles. The images are mapped from the cache of decoded images, or read
        into memory where magnifications are left out.

    Raises:
        UserError: nothing usable is there, a value is out of range, or the protocol's promise does
            not hold for these images.

    >>> import data
    >>> images, records, roles = data.load("sample", size=(32, 32), magnifications=(100,))
    >>> images.shape, images.dtype
    ((36, 32, 32, 3), dtype('uint8'))
    >>> tested = set(records.accession[roles == "test"].tolist())
    >>> tested & set(records.accession[roles == "train"].tolist())
    set()
    """
    dataset = load_dataset(source, **options)
    records = dataset.records
    roles = assign_roles(records, protocol, folds=folds, fold=fold, val_folds=val_folds, seed=seed)
    audit.verify(records, roles, protocol)
    images = dataset.images
    if not np.array_equal(records.row, np.arange(len(images))):
        images = images[records.row]
        records = dataclasses.replace(records, row=np.arange(len(images)))
    return SplitImages(images, records, roles)
