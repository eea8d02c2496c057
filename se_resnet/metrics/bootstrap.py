"""The bootstrap over accessions, which gives every metric its interval.

Images of one patient resemble each other. Therefore accessions are resampled with replacement,
unstratified by class. Every image of a resampled accession is included (the cluster bootstrap,
Davison and Hinkley 1997, section 3.8). A resample is stored as the number of times each accession
occurs in it. A metric that is a ratio of sums then costs one matrix product for all resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from se_resnet.errors import UserError

# Floats in one block of cumulative sums; a larger block no longer fits the processor's cache.
_CHUNK = 1_000_000


def resample(
    accession: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights of the accessions in the estimate and in every resample.

    Args:
        accession: ``str [N]``, the accession of each image.
        resamples: number of resamples R.
        seed: seed of the resamples.

    Returns:
        The G accessions sorted by name; ``int [N]`` in [0, G), the index of each image's accession;
        and the weights ``float64 [1 + R, G]``. The first row of the weights is all ones and gives
        the estimate. The other rows are those of :func:`bootstrap_weights`.

    Raises:
        UserError: ``resamples`` is below 1.
    """
    if resamples < 1:
        raise UserError(f"{resamples} bootstrap resamples are too few: choose at least 1.")
    names, group = np.unique(accession, return_inverse=True)
    weights = np.vstack([np.ones((1, len(names))), bootstrap_weights(len(names), resamples, seed)])
    return names, group, weights


def bootstrap_weights(accessions: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each accession occurs in each resample.

    Returns:
        ``float64 [resamples, accessions]`` of whole numbers; every row sums to ``accessions``.
    """
    counts = np.random.default_rng(seed).multinomial(
        accessions, np.full(accessions, 1 / accessions), size=resamples
    )
    return counts.astype(np.float64)


def estimate(
    values: np.ndarray, unit: str, present: dict[str, np.ndarray], accessions: int
) -> dict[str, Any]:
    """Returns a value with its 95 % percentile interval, ready for JSON.

    Args:
        values: ``float64 [1 + R]``: the estimate, then the resamples; NaN where undefined.
        unit: the unit that is counted, for the reason: ``image`` or ``patient``.
        present: requirements of the metric, for example ``malignant``. Each maps to
            ``bool [accessions]``, true for the accessions that meet it.
        accessions: number of accessions.

    Returns:
        ``value``, ``low`` and ``high``. The interval ignores undefined resamples. A missing value
        or bound is None, and ``reason`` explains it: no accession meets a requirement, only one
        does, or every resample is undefined.
    """
    for requirement, meets in present.items():
        if not meets.any():
            reason = f"no {unit} is {requirement}"
            return {"value": None, "low": None, "high": None, "reason": reason}
    value = float(values[0])
    if reason := no_interval_reason(unit, present, accessions):
        return {"value": value, "low": None, "high": None, "reason": reason}
    defined = values[1:][np.isfinite(values[1:])]
    if not len(defined):
        reason = "undefined in every resample"
        return {"value": value, "low": None, "high": None, "reason": reason}
    low, high = interval(defined).tolist()
    return {"value": value, "low": low, "high": high}


def interval(values: np.ndarray) -> np.ndarray:
    """Returns the bounds ``[2, ...]`` of the 95 % percentile interval of ``values [R, ...]``."""
    return np.quantile(values, (0.025, 0.975), axis=0)


def no_interval_reason(unit: str, present: dict[str, np.ndarray], accessions: int) -> str:
    """Returns the reason for a missing interval, or an empty string.

    The same accession resampled many times carries no information about other accessions. The
    arguments are those of :func:`estimate`.
    """
    if accessions < 2:
        return "only one accession"
    scarce = [requirement for requirement, meets in present.items() if meets.sum() < 2]
    return f"{scarce[0]} {unit}s in one accession only" if scarce else ""


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
