"""Keeps images and plan in device memory, and makes batches there, inside the training step.

All of BreaKHis at 224x224 takes 1.2 GB as ``uint8``. With the images on the device, a step needs
only a few row numbers from the host, so that one dispatch can run several steps. This module does
not import TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data.balance import Plan
from data.feed.batch_order import padded, rows_of_step, steps_per_epoch
from se_resnet.errors import UserError
from se_resnet.runtime.batches import batches

Batch = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Resident:
    """A pixel array and the columns of a :class:`data.balance.Plan`, on every device.

    The columns have at least two rows for every image, so that all folds of the images share a
    compiled program. The rows after those of the plan are 0, and no batch has them.

    Attributes:
        images: ``uint8 [N, H, W, 3]``.
        base: ``int32 [P]``.
        neighbour: ``int32 [P]``.
        weight: ``float32 [P]``.
        label: ``float32 [P]``.
        importance: ``float32 [P]``.
    """

    images: jax.Array
    base: jax.Array
    neighbour: jax.Array
    weight: jax.Array
    label: jax.Array
    importance: jax.Array


def place(images: np.ndarray | jax.Array, plan: Plan, sharding: NamedSharding) -> Resident:
    """Copies pixels and plan to every device.

    Args:
        images: ``uint8 [N, H, W, 3]``; an array that is on the devices already is not copied.
        plan: the plan.
        sharding: sharding that keeps whole arrays on every device.

    Raises:
        UserError: the memory of the devices is too small.
    """
    rows = max(len(plan), 2 * len(images))  # no balanced class has more rows than images
    columns = [
        np.pad(column.astype(dtype), (0, rows - len(plan)))
        for column, dtype in (
            (plan.base, np.int32),
            (plan.neighbour, np.int32),
            (plan.weight, np.float32),
            (plan.label, np.float32),
            (plan.importance, np.float32),
        )
    ]
    try:
        pixels = images if isinstance(images, jax.Array) else _put(np.asarray(images), sharding)
        placed = [_put(column, sharding) for column in columns]
        return Resident(*jax.block_until_ready([pixels, *placed]))
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"the {images.nbytes / 1e9:.1f} GB of images do not fit into the device's memory: use "
            "config.data.placement = 'host' or a smaller config.data.size."
        ) from error


def make_batch(resident: Resident, rows: jax.Array) -> Batch:
    """Returns the batch of plan rows ``int32 [B]``; to be called inside a jitted function.

    Returns:
        ``image float32 [B, H, W, 3]`` of whole grey values, ``label float32 [B]`` and
        ``importance float32 [B]``. The pixels equal those of :func:`data.feed.batch_order.blend` on
        the host, except that values that end in one half may be rounded the other way.
    """
    weight = resident.weight[rows][:, None, None, None]
    base, neighbour = (
        resident.images[column[rows]].astype(jnp.float32)
        for column in (resident.base, resident.neighbour)
    )
    return {
        "image": jnp.rint(base * (1 - weight) + neighbour * weight),
        "label": resident.label[rows],
        "importance": resident.importance[rows],
    }


def row_blocks(
    plan: Plan,
    *,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    pause: int,
    sharding: NamedSharding,
) -> Iterator[tuple[jax.Array, int]]:
    """Yields the rows of steps ``start`` to ``stop - 1``, many steps at a time.

    Args:
        plan: the plan.
        batch_size: number of rows in one step.
        seed: seed of the order.
        start: first step.
        stop: step after the last.
        pause: a block ends at every step whose number, counted from 1, is a multiple of ``pause``,
            and at the last step of every epoch, so that the host can read the metrics there.
        sharding: sharding of one batch over the devices.

    Yields:
        ``int32 [pause, batch_size]``, sharded over the second axis, and the number of its steps.
        The rows after those of the steps are 0: a block of another shape would be another program
        to compile.
    """
    epoch_steps = steps_per_epoch(plan, batch_size)
    layout = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
    while start < stop:
        end = min((start // period + 1) * period for period in (pause, epoch_steps))
        end = min(end, stop)
        rows = [rows_of_step(plan, batch_size, seed, step) for step in range(start, end)]
        block = np.zeros((pause, batch_size), np.int32)
        block[: len(rows)] = rows
        yield _put(block, layout), len(rows)
        start = end


def eval_batches(
    images: jax.Array, rows: np.ndarray, *, batch_size: int, sharding: NamedSharding
) -> Iterator[Batch]:
    """Yields the batches of :func:`data.feed.host.eval_batches`, from pixels on the device.

    Args:
        images: ``uint8 [N, H, W, 3]``, whole on every device.
        rows: ``int [M]``, rows of ``images``.
        batch_size: images per batch, rounded up to a multiple of the device count.
        sharding: sharding of a batch over the devices.

    Yields:
        ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``, false for images that only fill the
        batch.
    """
    batch_size = padded(batch_size, sharding.num_devices)
    for positions, mask in batches(len(rows), batch_size):
        index = _put(rows[positions].astype(np.int32), sharding)
        yield {"image": images[index], "mask": _put(mask, sharding)}


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Copies an array to the devices of all processes. Every process has the whole array."""
    # device_put would compare the array between the processes first.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
