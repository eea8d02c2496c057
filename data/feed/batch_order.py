"""Chooses the rows of the plan for each batch, and computes their pixels.

A training batch is a pure function of seed and step, so that only the step number is needed to
resume. Only indices are shuffled.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from data.balance import Plan
from data.records import Records
from se_resnet.errors import UserError


def steps_per_epoch(plan: Plan, batch_size: int) -> int:
    """Returns the number of full batches in one epoch. Each epoch leaves out other rows.

    Raises:
        UserError: the plan is smaller than one batch.
    """
    steps = len(plan) // batch_size
    if steps == 0:
        raise UserError(
            f"config.batch_size = {batch_size} is larger than the {len(plan)} rows to train on: "
            "lower it or bring more images."
        )
    return steps


def rows_of_step(plan: Plan, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Returns the plan rows in the batch of step ``step`` (from 0): ``int64 [batch_size]``."""
    epoch, position = divmod(step, steps_per_epoch(plan, batch_size))
    order = _order(len(plan), seed, epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def files_of_step(plan: Plan, records: Records, batch_size: int, seed: int, step: int) -> list[str]:
    """Returns the files in the batch of step ``step`` (from 0), each once.

    Args:
        plan: plan of the run.
        records: records of the images in the plan.
        batch_size: number of rows in one step.
        seed: seed of the order.
        step: number of the step.
    """
    rows = rows_of_step(plan, batch_size, seed, step)
    images = np.stack([plan.base[rows], plan.neighbour[rows]], axis=1).ravel()
    names = dict(zip(records.row.tolist(), records.file.tolist(), strict=True))
    return [names[row] for row in dict.fromkeys(images.tolist())]


@functools.lru_cache(maxsize=2)  # so that a step takes the same time for any length of the plan
def _order(rows: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    order.flags.writeable = False
    return order


def padded(batch_size: int, devices: int) -> int:
    """Returns the batch size of an evaluation, rounded up to a multiple of the devices."""
    return -(-batch_size // devices) * devices


def blend(images: np.ndarray, plan: Plan, rows: np.ndarray) -> np.ndarray:
    """Computes the pixels of plan rows.

    Args:
        images: ``uint8 [N, H, W, 3]``.
        plan: the plan.
        rows: ``int [B]``, rows of the plan.

    Returns:
        ``uint8 [B, H, W, 3]``. Synthetic images are rounded to whole grey values.
    """
    batch = images[plan.base[rows]]
    for position in np.flatnonzero(plan.weight[rows]):
        row = rows[position]
        weight, neighbour = plan.weight[row], images[plan.neighbour[row]]
        batch[position] = cv2.addWeighted(batch[position], 1 - weight, neighbour, weight, 0)
    return batch
