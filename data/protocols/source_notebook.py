"""The procedure behind a claimed accuracy of 98.29 %, made again to show what the figure measures.

The notebook took the first 3,000 of the 7,909 images in folder order (all 2,480 benign ones and 520
malignant ones of six slides), drew augmentation once, evened out the classes by SMOTE on the
pixels, and only then divided the 4,960 images at random. So a test image can be a blend of two
training images, or one of the two that a training image was blended from: 376 of its 486
malignant test images are synthetic. ``derive`` makes the images; protocol ``source`` of
``data.protocols.roles`` divides them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.balance import Plan, make_plan
from data.cache import open_cache, write_cache
from data.dataset import Dataset
from data.feed.batch_order import blend
from data.records import SYNTHETIC_PREFIX, Records
from se_resnet.errors import UserError
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runtime.files import writable_folder

_FORMAT = 1  # raised when the same inputs would give other pixels
_BLOCK = 64  # images in memory at once


def derive(
    dataset: Dataset, folder: Path, augment: Callable[[np.ndarray], np.ndarray], seed: int
) -> Dataset:
    """Makes the images that the notebook divided, or opens them if ``folder`` holds them.

    The images keep the notebook's order in the pixel array: folder order, then the synthetic ones.
    An augmented image keeps its file name and the digest of its original, so that an audit finds
    the original again. A synthetic one, ``synthetic-00001.png`` and so on, has a digest of its own
    and is filed under the slide, accession, subtype and magnification of the base image of its
    :class:`data.balance.Plan` row; the neighbour may be another patient's. Pixels are rounded to
    whole grey values.

    Args:
        dataset: the original images; second copies count, as they did in the notebook.
        folder: where the images are kept, in the format of :mod:`data.cache`.
        augment: ``uint8 [B, H, W, 3]`` to any real dtype ``[B, H, W, 3]``, 0 to 255, called once
            on each block of images in order. Nothing here can tell one ``augment`` from another:
            a folder is for one.
        seed: of SMOTE.

    Raises:
        UserError: one class is missing among the images taken, too little disk space, or
            ``folder`` is damaged or holds other images.
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
            "choose another."
        )
    return dataclasses.replace(derived, skipped=dataset.skipped)


def reopen(folder: Path) -> Dataset:
    """Opens what :func:`derive` made; needs no original images.

    Raises:
        UserError: the folder is missing or damaged.
    """
    cache = open_cache(folder)
    if "description" not in cache.facts:
        raise UserError(f"{folder} holds no images of protocol 'source': give another folder.")
    description = cache.facts["description"]
    return Dataset(cache.images, cache.records, cache.fingerprint, description, skipped=[])


def folder_order(records: Records) -> np.ndarray:
    """The order in which a sorted walk of the BreaKHis tree meets the images: ``int64 [N]``.

    Class folder, tumour type, slide, magnification as text (100X, 200X, 400X, 40X), file.
    """
    magnification = np.char.add(records.magnification.astype(str), "X")
    # The abbreviations of the tumour types sort as the names of their folders do.
    return np.lexsort((records.file, magnification, records.slide, records.subtype, records.label))


def _first_images(records: Records) -> Records:
    """As large a share of the images as the notebook took, in folder order."""
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
            drawn = np.asarray(augment(dataset.images[chosen.row[block]]))
            array[block] = np.clip(np.rint(drawn), 0, 255)
        plan = make_plan(
            placed, array, method="smote", within_magnification=False, k_neighbors=5, seed=seed
        )
        assert len(plan) == total, "SMOTE evens out two classes exactly"
        for block in _blocks(total - real, "blending"):
            array[real + block] = blend(array, plan, real + block)
        description = [
            dataset.description,
            f"protocol source: the first {real} images in folder order, augmented once, and "
            f"{total - real} synthetic ones",
            *plan.notes,
        ]
        rows = [*_rows(placed), *_synthetic_rows(placed, plan, array)]
        return rows, {"fingerprint": fingerprint, "description": "\n".join(description)}

    shape = (total, *dataset.images.shape[1:])
    write_cache(folder, shape, fill, remedy="choose a folder on another disk")


def _blocks(count: int, activity: str) -> Iterator[np.ndarray]:
    with tqdm(total=count, desc=activity, unit="image", disable=None) as progress:
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
