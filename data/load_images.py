"""Loads images, records and roles in one call, for notebooks."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from data.dataset import load_dataset
from data.protocols import audit
from data.protocols.roles import assign_roles, check_split, number_of_folds
from data.records import Records


class SplitImages(NamedTuple):
    """N images with their records and roles.

    Attributes:
        images: RGB ``uint8 [N, H, W, 3]``.
        records: N rows in the order of ``images``.
        roles: ``str [N]``: ``train``, ``val``, ``test``, or ``excluded`` for a second copy and for
            an image that a published split does not contain.
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
    name: str = "",
    repaired: bool = False,
    **options: Any,
) -> SplitImages:
    """Loads images of BreaKHis and divides them like ``train.py``.

    Args:
        source: a BreaKHis tree at any nesting, the authors' archive, or ``'sample'`` for the images
            that ship with the project.
        protocol: ``'strict'``, ``'official'``, ``'random'`` or ``'published'``, see
            :mod:`data.protocols.roles`.
        folds: number of folds.
        fold: number of the test fold, from 0.
        val_folds: number of parts of the rest; one part validates.
        seed: seed of the division.
        name: name of the split of ``'published'``.
        repaired: True for the repaired split of ``'published'``.
        options: ``size``, ``resize``, ``scale``, ``magnifications``, ``on_bad_image`` and
            ``cache_dir``, see :func:`data.dataset.load_dataset`.

    Returns:
        Images, records and roles. The images are memory-mapped, or read into memory if
        magnifications are left out.

    Raises:
        UserError: there are no usable images, a value is out of range, or the images break the
            promise of the protocol.

    >>> import data
    >>> images, records, roles = data.load("sample", size=(32, 32), magnifications=(100,))
    >>> images.shape, images.dtype
    ((36, 32, 32, 3), dtype('uint8'))
    >>> tested = set(records.accession[roles == "test"].tolist())
    >>> tested & set(records.accession[roles == "train"].tolist())
    set()
    """
    division: dict[str, Any] = {"val_folds": val_folds, "name": name, "repaired": repaired}
    check_split(protocol, number_of_folds(protocol, folds, name), fold, file="", **division)
    dataset = load_dataset(source, **options)
    records = dataset.records
    roles = assign_roles(records, protocol, folds=folds, fold=fold, seed=seed, **division)
    audit.verify(records, roles, protocol, repaired)
    images = dataset.images
    if not np.array_equal(records.row, np.arange(len(images))):
        images = images[records.row]
        records = dataclasses.replace(records, row=np.arange(len(images)))
    return SplitImages(images, records, roles)
