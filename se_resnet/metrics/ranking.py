"""Cumulative sums by falling score, under many weightings of the patients at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Floats in one block of cumulative sums; a larger block no longer fits the processor's cache.
_CHUNK = 1_000_000


def cumulative_sums(
    score: np.ndarray, columns: tuple[np.ndarray, ...], group: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields cumulative sums by falling score, a few of the R weightings at a time.

    Args:
        score: ``float64 [n]``; units of equal score form one step.
        columns: columns to sum, each ``bool [n]`` or ``float64 [n]``.
        group: ``int [n]`` in [0, G), the group of each unit.
        weights: ``float64 [R, G]``.

    Yields:
        One ``float64 [r, m]`` per column. m is the number of distinct scores. The blocks of r rows
        follow the rows of ``weights`` in order. A block holds about ``_CHUNK`` floats.
    """
    order, last = rank(score)
    ordered = [column[order] for column in columns]
    rows = max(1, _CHUNK // len(score))
    for start in range(0, len(weights), rows):
        unit_weights = weights[start : start + rows, group[order]]
        yield tuple(np.cumsum(unit_weights * column, axis=1)[:, last] for column in ordered)


def rank(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the order of falling score, and the position of the last unit of each tie in it."""
    order = np.argsort(-np.asarray(score), kind="stable")
    return order, np.flatnonzero(np.append(np.diff(np.asarray(score)[order]) != 0, True))
