"""ROC and precision-recall curves, with confidence bands from the bootstrap over accessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.metrics.bootstrap import (
    cumulative_sums,
    interval,
    no_interval_reason,
    rank,
    resample,
)
from se_resnet.metrics.predictions import Predictions


def roc_curve(
    label: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the ROC curve, one point per distinct probability.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]``.

    Returns:
        False positive rate, true positive rate and threshold, each ``float64 [m + 1]``. The curve
        runs from (0, 0) at an infinite threshold to (1, 1) at the smallest probability.

    Raises:
        ValueError: only one class is present.
    """
    label = np.asarray(label, dtype=bool)
    if label.all() or not label.any():
        raise ValueError("a ROC curve needs both classes")
    order, last = rank(probability)
    tp = np.cumsum(label[order])[last]
    fp = last + 1 - tp
    return (
        np.append(0.0, fp / fp[-1]),
        np.append(0.0, tp / tp[-1]),
        np.append(np.inf, np.asarray(probability)[order][last]),
    )


def pr_curve(
    label: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the precision-recall curve, one point per distinct probability.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]``.

    Returns:
        Precision, recall and threshold, each ``float64 [m]``, from the largest probability to the
        smallest, where recall is 1. Plot the curve as steps: the precision at a recall is that of
        the next point. The area under the steps is the average precision. A straight line between
        two points would be too optimistic (Davis and Goadrich 2006).

    Raises:
        ValueError: no label is 1.
    """
    label = np.asarray(label, dtype=bool)
    if not label.any():
        raise ValueError("a precision-recall curve needs malignant images")
    order, last = rank(probability)
    tp = np.cumsum(label[order])[last]
    return tp / (last + 1), tp / tp[-1], np.asarray(probability)[order][last]


def roc_band(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 101
) -> dict[str, Any]:
    """Computes the ROC curve of the images on an even grid, with a pointwise 95 % band.

    The band is the bootstrap of :func:`se_resnet.metrics.evaluate` applied to the true positive
    rate at each false positive rate (vertical averaging, Fawcett 2006). The level of 95 % applies
    to any single false positive rate, not to the whole curve at once.

    Args:
        predictions: N images.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.
        points: number of grid points, at least 2.

    Returns:
        Lists of ``points`` floats: ``false_positive_rate``, from 0 to 1; ``true_positive_rate``;
        ``low`` and ``high``. The true positive rate is linear between the points of
        :func:`roc_curve`; where the curve is vertical, it is the highest. If all benign or all
        malignant images come from one accession, ``low`` and ``high`` are None and ``reason`` is
        added.

    Raises:
        ValueError: only one class is present.
    """
    label = predictions.label == 1
    if label.all() or not label.any():
        raise ValueError("a ROC curve needs both classes")

    def on_grid(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        # The product of whole numbers is exact. A grid point on a vertical part of the curve
        # therefore does not depend on rounding.
        grid = np.arange(points) * fp[-1] / (points - 1)
        return np.interp(grid, np.append(0, fp), np.append(0, tp)) / tp[-1]

    return {
        "false_positive_rate": np.linspace(0, 1, points).tolist(),
        **_band(
            "true_positive_rate", predictions, ("malignant", "benign"), on_grid, resamples, seed
        ),
    }


def pr_band(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 101
) -> dict[str, Any]:
    """Computes the precision-recall curve of the images on an even grid, with a 95 % band.

    Args:
        predictions: N images.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.
        points: number of grid points, at least 2.

    Returns:
        Lists of ``points`` floats: ``recall``, from 0 to 1; ``precision``; ``low`` and ``high``, as
        in :func:`roc_band`. The precision is that of the highest threshold that reaches the recall,
        as in average precision. At recall 0 it is that of the highest threshold with a true
        positive. If all malignant images come from one accession, ``low`` and ``high`` are None
        and ``reason`` is added.

    Raises:
        ValueError: no image is malignant.
    """
    if not (predictions.label == 1).any():
        raise ValueError("a precision-recall curve needs malignant images")

    def on_grid(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        grid = np.maximum(np.arange(points) * tp[-1] / (points - 1), np.finfo(float).tiny)
        step = np.searchsorted(tp, grid)
        return tp[step] / (tp[step] + fp[step])

    return {
        "recall": np.linspace(0, 1, points).tolist(),
        **_band("precision", predictions, ("malignant",), on_grid, resamples, seed),
    }


def _band(
    name: str,
    predictions: Predictions,
    requirements: tuple[str, ...],
    on_grid: Callable[[np.ndarray, np.ndarray], np.ndarray],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Returns a curve under ``name`` with its band.

    ``on_grid`` turns the cumulative TP and FP counts of a weighting into a curve.
    """
    names, group, weights = resample(predictions.accession, resamples, seed)
    label = predictions.label == 1
    classes = {"malignant": label, "benign": ~label}
    present = {
        requirement: np.bincount(group, classes[requirement]) > 0 for requirement in requirements
    }
    curves = np.array(
        [
            on_grid(tp, fp)
            for chunk in cumulative_sums(predictions.probability, (label, ~label), group, weights)
            for tp, fp in zip(*chunk, strict=True)
            if all({"malignant": tp, "benign": fp}[name][-1] > 0 for name in requirements)
        ]
    )
    band: dict[str, Any] = {name: curves[0].tolist()}
    reason = no_interval_reason("image", present, len(names))
    if not reason and len(curves) == 1:
        reason = "undefined in every resample"
    if reason:
        return band | {"low": None, "high": None, "reason": reason}
    low, high = interval(curves[1:]).tolist()
    return band | {"low": low, "high": high}
