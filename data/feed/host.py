"""Makes batches from plan rows by tf.data: gathers, blends, prefetches, shards over devices.

A process reads only the pixels for its devices, when a batch needs them. See
:mod:`data.feed.batch_order` for the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import tensorflow as tf

from data.balance import Plan
from data.feed.batch_order import blend, padded, rows_of_step, steps_per_epoch
from se_resnet.runtime.batches import batch_count, batch_positions

Batch = dict[str, jax.Array]


def train_batches(
    images: np.ndarray,
    plan: Plan,
    *,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    sharding: jax.sharding.NamedSharding,
) -> Iterator[Batch]:
    """Yields the batches of steps ``start`` to ``stop - 1``.

    Yields:
        ``image uint8 [B, H, W, 3]``, ``label float32 [B]`` and ``importance float32 [B]``, global
        arrays sharded over their first axis.
    """
    steps_per_epoch(plan, batch_size)  # raises here instead of inside tf.data
    positions = local_positions(batch_size, sharding)

    def load(step: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = rows_of_step(plan, batch_size, seed, int(step))[positions]
        return (
            blend(images, plan, rows),
            plan.label[rows].astype(np.float32),
            plan.importance[rows].astype(np.float32),
        )

    names = ("image", "label", "importance")
    return _batches(load, range(start, stop), names, batch_size, sharding)


def eval_batches(
    images: np.ndarray,
    rows: np.ndarray,
    *,
    batch_size: int,
    sharding: jax.sharding.NamedSharding,
) -> Iterator[Batch]:
    """Yields every image once, in order. The last batch is filled up and masked.

    Args:
        images: ``uint8 [N, H, W, 3]``.
        rows: ``int [M]``, rows of ``images``.
        batch_size: images per batch, rounded up to a multiple of the device count.
        sharding: sharding of a batch over the devices.

    Yields:
        ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``, false for images that only fill the
        batch.
    """
    batch_size = padded(batch_size, sharding.num_devices)
    steps = batch_count(len(rows), batch_size)
    local = local_positions(batch_size, sharding)

    def load(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions, mask = batch_positions(len(rows), batch_size, int(step))
        return images[rows[positions[local]]], mask[local]

    return _batches(load, range(steps), ("image", "mask"), batch_size, sharding)


def local_positions(batch_size: int, sharding: jax.sharding.NamedSharding) -> np.ndarray:
    """Returns the positions in a batch of the images for this process: ``int [b]``, ascending."""
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique([np.arange(batch_size)[part] for part in parts if part is not None])


_DTYPES = {"image": tf.uint8, "label": tf.float32, "importance": tf.float32, "mask": tf.bool}


def _batches(
    load, steps: range, names: tuple[str, ...], batch_size: int, sharding
) -> Iterator[Batch]:
    dataset = (
        tf.data.Dataset.range(steps.start, steps.stop)
        .map(
            lambda step: tf.numpy_function(load, [step], [_DTYPES[name] for name in names]),
            num_parallel_calls=2,
            deterministic=True,
        )
        .prefetch(2)
    )
    return _ahead(
        {
            name: jax.make_array_from_process_local_data(
                sharding, array, (batch_size, *array.shape[1:])
            )
            for name, array in zip(names, arrays, strict=True)
        }
        for arrays in dataset.as_numpy_iterator()
    )


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Copies the next batch to the devices while the step computes."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, batches, None)
        while (batch := pending.result()) is not None:
            pending = pool.submit(next, batches, None)
            yield batch
