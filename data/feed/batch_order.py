"""Which rows of the plan make which batch, and what their pixels are.

A training batch is a pure function of seed and step, so resuming needs no state but the step
number. Only indices are shuffled.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from data.balance import Plan
from data.records import Records
from se_resnet.errors import UserError


def steps_per_epoch(plan: Plan, batch_size: int) -> int:
    """Full batches in one epoch; the rows left over differ from epoch to epoch.

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
    """The plan rows of the batch of step ``step`` (from 0): ``int64 [batch_size]``."""
    epoch, position = divmod(step, steps_per_epoch(plan, batch_size))
    order = _order(len(plan), seed, epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def files_of_step(plan: Plan, records: Records, batch_size: int, seed: int, step: int) -> list[str]:
    """The files that the batch of step ``step`` (from 0) is made of, each once.

    Args:
        plan: of the run.
        records: of the images that the plan points into.
        batch_size: rows in one step.
        seed: decides the order.
        step: which batch.
    """
    rows = rows_of_step(plan, batch_size, seed, step)
    images = np.stack([plan.base[rows], plan.neighbour[rows]], axis=1).ravel()
    names = dict(zip(records.row.tolist(), records.file.tolist(), strict=True))
    return [names[row] for row in dict.fromkeys(images.tolist())]


@functools.lru_cache(maxsize=2)  # so that a step costs the same for a plan of any length
def _order(rows: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    order.flags.writeable = False
    return order


def padded(batch_size: int, devices: int) -> int:
    """The size of an evaluation's batches: the wanted one, filled up to the next multiple."""
    return -(-batch_size // devices) * devices


def blend(images: np.ndarray, plan: Plan, rows: np.ndarray) -> np.ndarray:
    """The pixels of plan rows.

    Args:
        images: ``uint8 [N, H, W, 3]``.
        plan: whose rows to make.
        rows: ``int [B]``.

    Returns:
        ``uint8 [B, H, W, 3]``, synthetic images rounded to whole grey values.
    """
    batch = images[plan.base[rows]]
    for position in np.flatnonzero(plan.weight[rows]):
        row = rows[position]
        weight, neighbour = plan.weight[row], images[plan.neighbour[row]]
        batch[position] = cv2.addWeighted(batch[position], 1 - weight, neighbour, weight, 0)
    return batch
