"""Opens the batches of a run, from the host or from device memory (``config.data.placement``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data.feed import batch_order, device
from data.run_data import RunData
from se_resnet.metrics.predictions import Predictions
from se_resnet.runtime import processes
from se_resnet.runtime.mesh import batch_sharding, first_axis_sharding, replicated
from se_resnet.runtime.signals import postponed
from se_resnet.training.config import ON_DEVICE


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches of a run, see :class:`se_resnet.training.loop.Feed`.

    Attributes:
        validation_predictions: maps probabilities, ``float64 [n]``, to the table of the validation
            images.
        resident: images and plan in device memory, or None.
        make_batch: makes a batch from ``resident``, or None.
        blocks: maps ``(start, stop)`` to an iterator of blocks and their numbers of steps.
        validation_batches: returns a new iterator of batches.
        files_of_step: returns the files in the batch of a step, counted from 1.
    """

    validation_predictions: Callable[[np.ndarray], Predictions]
    resident: Any
    make_batch: Callable[..., Any] | None
    blocks: Callable[[int, int], Iterator[tuple[Any, int]]]
    validation_batches: Callable[[], Iterator[dict[str, Any]]]
    files_of_step: Callable[[int], list[str]]


def open_feed(config: ConfigDict, data: RunData, mesh: Mesh) -> Feed:
    """Opens the feed of a run.

    Args:
        config: configuration of the run.
        data: images and plan of the run.
        mesh: all devices.

    Raises:
        UserError: the batch size cannot be divided over the devices, or their memory is too small.
    """
    images, plan = data.dataset.images, data.plan
    sharding = batch_sharding(mesh, config.batch_size // config.optim.accumulate)
    order: dict[str, Any] = {
        "seed": config.seed,
        "batch_size": config.batch_size,
        "sharding": sharding,
    }
    validation = {"batch_size": config.eval_batch_size, "sharding": sharding}
    rows = data.validation.row

    def files_of_step(step: int) -> list[str]:
        records, size, seed = data.dataset.records, config.batch_size, config.seed
        return batch_order.files_of_step(plan, records, size, seed, step - 1)

    if config.data.placement == ON_DEVICE:
        resident = device.place(images, plan, replicated(mesh))
        return Feed(
            data.validation.predictions,
            resident,
            device.make_batch,
            lambda start, stop: (
                ((rows, steps), steps)
                for rows, steps in device.row_blocks(
                    plan, start=start, stop=stop, pause=config.log_every_steps, **order
                )
            ),
            lambda: device.eval_batches(resident.images, rows, **validation),
            files_of_step,
        )
    with postponed():
        from data.feed import host  # imports TensorFlow, which the other placement does not need

    return Feed(
        data.validation.predictions,
        None,
        None,
        lambda start, stop: (
            (batch, 1)
            for batch in host.train_batches(images, plan, start=start, stop=stop, **order)
        ),
        lambda: host.eval_batches(images, rows, **validation),
        files_of_step,
    )


def eval_batches(
    placement: str, images: np.ndarray, rows: np.ndarray, batch_size: int, mesh: Mesh
) -> Iterator[dict[str, Any]]:
    """Yields the images at ``rows`` once, in order. The last batch is filled up and masked.

    Args:
        placement: ``config.data.placement`` of the run.
        images: ``uint8 [N, H, W, 3]``.
        rows: ``int [M]``, rows of ``images``.
        batch_size: images per batch.
        mesh: all devices.
    """
    sharding = first_axis_sharding(mesh)
    if placement == ON_DEVICE:
        placed = processes.put(images[rows], replicated(mesh))
        order = np.arange(len(rows))
        return device.eval_batches(placed, order, batch_size=batch_size, sharding=sharding)
    with postponed():
        from data.feed import host  # imports TensorFlow, which the other placement does not need

    return host.eval_batches(images, rows, batch_size=batch_size, sharding=sharding)
