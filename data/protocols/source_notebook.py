"""Reproduces the procedure behind a claimed accuracy of 98.29 %, to show what it measures.

The notebook took the first 3,000 of the 7,909 images in folder order: all 2,480 benign images and
520 malignant images of six slides. It augmented them once, balanced the classes by SMOTE on the
pixels, and only then divided the 4,960 images at random. So a test image can be a blend of two
training images, or a training image can be a blend of a test image. 376 of its 486 malignant test
images are synthetic. ``derive`` makes the images. Protocol ``source`` of ``data.protocols.roles``
divides them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.balance import Plan, make_plan
from data.cache import open_cache, write_cache
from data.dataset import Dataset
from data.feed.batch_order import blend
from data.records import SYNTHETIC_PREFIX, Records
from se_resnet.errors import UserError
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runtime.files import writable_folder
from se_resnet.runtime.progress_bar import progress_bar

_FORMAT = 1  # raised when the same inputs would give other pixels
_BLOCK = 64  # images in memory at once


def derive(
    dataset: Dataset, folder: Path, augment: Callable[[np.ndarray], np.ndarray], seed: int
) -> Dataset:
    """Makes the images that the notebook divided, or opens them if ``folder`` exists.

    The pixel array has the order of the notebook: folder order, then the synthetic images. An
    augmented image keeps its file name and the digest of its original, so that an audit finds the
    original again. A synthetic image, ``synthetic-00001.png`` and so on, has a new digest. Its
    slide, accession, subtype and magnification are those of the base image of its
    :class:`data.balance.Plan` row; the neighbour may belong to another patient. Pixels are rounded
    to whole grey values.

    Args:
        dataset: the original images, with second copies, as in the notebook.
        folder: folder for the images, in the format of :mod:`data.cache`.
        augment: maps ``uint8 [B, H, W, 3]`` to any real dtype ``[B, H, W, 3]``, 0 to 255. It is
            called once on each block of images, in order. The folder does not record ``augment``:
            use another folder for another function.
        seed: seed of SMOTE.

    Raises:
        UserError: the first images have only one class, the disk has too little space, or
            ``folder`` is damaged or has other images.
    """
    chosen = _first_images(dataset.records)
    fingerprint = hashlib.sha256(
        json.dumps([_FORMAT, dataset.fingerprint, chosen.file.tolist(), seed]).encode()
    ).hexdigest()
    if not folder.exists():
        writable_folder(folder.parent, "choose another folder")
        _build(dataset, chosen, folder, augment, seed, fingerprint)
    derived = reopen(folder)
    if derived.fingerprint != fingerprint:
        raise UserError(
            f"{folder} was made from other images or with another seed: delete the folder or "
            "choose another folder."
        )
    return dataclasses.replace(derived, skipped=dataset.skipped, source=dataset.source)


def reopen(folder: Path) -> Dataset:
    """Opens a folder of :func:`derive`, without the original images.

    Raises:
        UserError: the folder is missing or damaged.
    """
    cache = open_cache(folder)
    if "description" not in cache.facts:
        raise UserError(f"{folder} has no images of protocol 'source': give another folder.")
    description = cache.facts["description"]
    return Dataset(cache.images, cache.records, cache.fingerprint, description, skipped=[])


def folder_order(records: Records) -> np.ndarray:
    """Returns the order of the images in a sorted walk of the BreaKHis tree: ``int64 [N]``.

    The order is class folder, tumour type, slide, magnification as text (100X, 200X, 400X, 40X),
    file.
    """
    magnification = np.char.add(records.magnification.astype(str), "X")
    # The abbreviations of the tumour types sort like the names of their folders.
    return np.lexsort((records.file, magnification, records.slide, records.subtype, records.label))


def _first_images(records: Records) -> Records:
    """Returns the same share of the images as in the notebook, in folder order."""
    count = round(len(records) * 3000 / 7909)
    chosen = records.take(folder_order(records)[:count])
    for label, name in enumerate(CLASS_NAMES):
        if not (chosen.label == label).any():
            raise UserError(
                f"protocol 'source' takes the first {count} of {len(records)} images in folder "
                f"order, and none of them is {name}: bring more of BreaKHis or choose another "
                "config.split.protocol."
            )
    return chosen


def _build(
    dataset: Dataset,
    chosen: Records,
    folder: Path,
    augment: Callable[[np.ndarray], np.ndarray],
    seed: int,
    fingerprint: str,
) -> None:
    real = len(chosen)
    total = 2 * int(np.bincount(chosen.label).max())
    placed = dataclasses.replace(chosen, row=np.arange(real))

    def fill(array: np.ndarray) -> tuple[list[dict], dict[str, str]]:
        for block in _blocks(real, "augmenting"):
            augmented = np.asarray(augment(dataset.images[chosen.row[block]]))
            array[block] = np.clip(np.rint(augmented), 0, 255)
        plan = make_plan(
            placed, array, method="smote", within_magnification=False, k_neighbors=5, seed=seed
        )
        assert len(plan) == total, "SMOTE balances two classes exactly"
        for block in _blocks(total - real, "blending"):
            array[real + block] = blend(array, plan, real + block)
        description = [
            dataset.description,
            f"protocol source: the first {real} images in folder order, augmented once, and "
            f"{total - real} synthetic images",
            *plan.notes,
        ]
        rows = [*_rows(placed), *_synthetic_rows(placed, plan, array)]
        return rows, {"fingerprint": fingerprint, "description": "\n".join(description)}

    shape = (total, *dataset.images.shape[1:])
    write_cache(folder, shape, fill, remedy="choose a folder on another disk")


def _blocks(count: int, activity: str) -> Iterator[np.ndarray]:
    with progress_bar(total=count, desc=activity, unit="image") as progress:
        for start in range(0, count, _BLOCK):
            block = np.arange(start, min(start + _BLOCK, count))
            yield block
            progress.update(len(block))


def _rows(records: Records) -> list[dict]:
    columns = records.columns()
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]


def _synthetic_rows(placed: Records, plan: Plan, array: np.ndarray) -> list[dict]:
    rows = _rows(placed.take(plan.base[len(placed) :]))
    for number, row in enumerate(rows):
        row["row"] = len(placed) + number
        row["file"] = f"{SYNTHETIC_PREFIX}{number + 1:05d}.png"
        row["digest"] = hashlib.sha256(array[row["row"]].tobytes()).hexdigest()
    return rows
