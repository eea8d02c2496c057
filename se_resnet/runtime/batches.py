"""Batches of equal size: the last batch is filled up, so that one compiled program serves all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def batch_count(count: int, batch_size: int) -> int:
    """Returns the number of batches that hold ``count`` items."""
    return -(-count // batch_size)


def batch_positions(count: int, batch_size: int, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the items of a batch, and a mask of those that are not filling.

    The first item fills the places after the last item.

    >>> positions, mask = batch_positions(5, 3, number=1)
    >>> positions.tolist(), mask.tolist()
    ([3, 4, 0], [True, True, False])

    Args:
        count: number of all items, at least 1.
        batch_size: items in each batch.
        number: number of the batch, from 0.

    Returns:
        ``int64 [batch_size]`` and ``bool [batch_size]``.
    """
    positions = number * batch_size + np.arange(batch_size)
    mask = positions < count
    return np.where(mask, positions, 0), mask


def batches(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields :func:`batch_positions` of every batch, in order."""
    for number in range(batch_count(count, batch_size)):
        yield batch_positions(count, batch_size, number)
