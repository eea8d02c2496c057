"""The bootstrap over accessions, by which every figure gets its interval.

Images of one patient resemble each other, so it is accessions that are drawn with replacement,
unstratified by class, and all images of a drawn accession follow (the cluster bootstrap, Davison
and Hinkley 1997, section 3.8). A resample is kept as the number of times each accession is drawn,
so that a metric which is a ratio of sums costs one matrix product for all resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from se_resnet.errors import UserError

# Floats held at once in a running total; larger falls out of the processor's cache.
_CHUNK = 1_000_000


def resample(
    accession: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ResampledMetric accessions for the estimate and for every resample.

    Args:
        accession: ``str [N]``, the accession of each image.
        resamples: number of resamples R.
        seed: seed of the resamples.

    Returns:
        The G accessions in order of name, ``int [N]`` in [0, G) saying which one each image is of,
        and the weights ``float64 [1 + R, G]``: a row of ones, which gives the estimate, above
        :func:`bootstrap_weights`.

    Raises:
        UserError: ``resamples`` is below 1.
    """
    if resamples < 1:
        raise UserError(f"{resamples} bootstrap resamples are too few: choose at least 1.")
    names, group = np.unique(accession, return_inverse=True)
    weights = np.vstack([np.ones((1, len(names))), bootstrap_weights(len(names), resamples, seed)])
    return names, group, weights


def bootstrap_weights(accessions: int, resamples: int, seed: int) -> np.ndarray:
    """How often each accession is drawn in each resample.

    Returns:
        ``float64 [resamples, accessions]`` of whole numbers; every row sums to ``accessions``.
    """
    draw = np.random.default_rng(seed).multinomial(
        accessions, np.full(accessions, 1 / accessions), size=resamples
    )
    return draw.astype(np.float64)


def estimate(
    values: np.ndarray, unit: str, supply: dict[str, np.ndarray], accessions: int
) -> dict[str, Any]:
    """A value with its interval, ready for JSON: the 95 % percentile interval.

    Args:
        values: ``float64 [1 + R]``: the estimate, then the resamples; NaN where undefined.
        unit: what is counted, for the reason: ``image`` or ``patient``.
        supply: each thing the metric needs, for example ``malignant``, to ``bool [accessions]``,
            the accessions that have any of it.
        accessions: number of accessions.

    Returns:
        ``value``, ``low`` and ``high``. Undefined values are left out of the interval. What cannot
        be given is None, and ``reason`` says why: no accession has what the metric needs, only one
        has, or no resample defines it.
    """
    for need, has in supply.items():
        if not has.any():
            return {"value": None, "low": None, "high": None, "reason": f"no {unit} is {need}"}
    value = float(values[0])
    if reason := too_few(unit, supply, accessions):
        return {"value": value, "low": None, "high": None, "reason": reason}
    defined = values[1:][np.isfinite(values[1:])]
    if not len(defined):
        reason = "undefined in every resample"
        return {"value": value, "low": None, "high": None, "reason": reason}
    low, high = interval(defined).tolist()
    return {"value": value, "low": low, "high": high}


def interval(draws: np.ndarray) -> np.ndarray:
    """Bounds of the 95 % percentile interval, ``[2, ...]``, of ``draws [R, ...]``."""
    return np.quantile(draws, (0.025, 0.975), axis=0)


def too_few(unit: str, supply: dict[str, np.ndarray], accessions: int) -> str:
    """Returns why there is no interval, or an empty string; arguments as of :func:`estimate`.

    Drawing one accession again and again says nothing about the next.
    """
    if accessions < 2:
        return "only one accession"
    few = [need for need, has in supply.items() if has.sum() < 2]
    return f"{few[0]} {unit}s in one accession only" if few else ""


def cumulated(
    score: np.ndarray, columns: tuple[np.ndarray, ...], group: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, ...]]:
    """Running totals from the highest score down, under R weightings, a few weightings at a time.

    Args:
        score: ``float64 [n]``; equal scores count as one step.
        columns: what to total, each ``bool [n]`` or ``float64 [n]``.
        group: ``int [n]``, in [0, G), the group each unit belongs to.
        weights: ``float64 [R, G]``.

    Yields:
        One ``float64 [r, m]`` per column, where m is the number of distinct scores and the r add up
        to R, in order. About ``_CHUNK`` floats are held at once.
    """
    order, last = rank(score)
    ordered = [column[order] for column in columns]
    rows = max(1, _CHUNK // len(score))
    for start in range(0, len(weights), rows):
        part = weights[start : start + rows, group[order]]
        yield tuple(np.cumsum(part * column, axis=1)[:, last] for column in ordered)


def rank(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of falling probability and, in it, the position of the last of each run of ties."""
    order = np.argsort(-np.asarray(probability), kind="stable")
    return order, np.flatnonzero(np.append(np.diff(np.asarray(probability)[order]) != 0, True))
