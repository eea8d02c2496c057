"""tf.data over plan rows: gathered, blended, prefetched, laid out over the devices.

Pixels are read when a batch needs them, each by the process whose devices get it; see
:mod:`data.feed.batch_order` for which rows make which batch.
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
    """The batches of steps ``start`` to ``stop - 1``.

    Yields:
        ``image uint8 [B, H, W, 3]``, ``label float32 [B]`` and ``importance float32 [B]``, global
        arrays sharded over their first axis.
    """
    steps_per_epoch(plan, batch_size)  # refuses here rather than inside tf.data
    own = own_positions(batch_size, sharding)

    def load(step: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = rows_of_step(plan, batch_size, seed, int(step))[own]
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
    """Every image once, in order; the last batch is filled up and masked.

    Args:
        images: ``uint8 [N, H, W, 3]``.
        rows: ``int [M]``, rows of ``images``.
        batch_size: images per batch, filled up to a multiple of the device count.
        sharding: where the batches go.

    Yields:
        ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``, false where an image only fills up.
    """
    batch_size = padded(batch_size, sharding.num_devices)
    steps = batch_count(len(rows), batch_size)
    own = own_positions(batch_size, sharding)

    def load(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions, mask = batch_positions(len(rows), batch_size, int(step))
        return images[rows[positions[own]]], mask[own]

    return _batches(load, range(steps), ("image", "mask"), batch_size, sharding)


def own_positions(batch_size: int, sharding: jax.sharding.NamedSharding) -> np.ndarray:
    """Which images of a batch go to devices of this process: ``int [b]``, ascending."""
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
    """Takes the next batch from tf.data to the devices while the step works on the last one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch
