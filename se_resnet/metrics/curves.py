"""ROC and precision-recall curves with their bands."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import no_interval_reason
from se_resnet.metrics.intervals import clopper_pearson, share_interval
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.ranking import cumulative_sums, rank

_THRESHOLDS = 400  # of a band; more do not change its plot


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


def roc_band(predictions: Predictions, points: int = 101, exact: bool = False) -> dict[str, Any]:
    """Computes the ROC curve of the units on an even grid, with a pointwise 95 % band.

    Each threshold has an interval of sensitivity and one of specificity, as in
    :func:`se_resnet.metrics.evaluate`. At a false positive rate f, the band reaches from the
    highest lower bound of sensitivity among the thresholds whose false positive rate is surely at
    most f, to the lowest upper bound among those whose rate is surely at least f (Campbell 1994).
    It therefore includes the uncertainty of both rates, and applies to any single false positive
    rate, not to the whole curve at once. Where the curve is steep or patients are few, it is wide.

    Args:
        predictions: N units.
        points: number of grid points, at least 2.
        exact: true where each patient is a single unit; the intervals are then exact.

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
    ((tp, fp),) = (
        tuple(column[0] for column in chunk)
        for chunk in cumulative_sums(
            predictions.probability, (label, ~label), np.zeros(len(label), int), np.ones((1, 1))
        )
    )
    # The product of whole numbers is exact. A grid point on a vertical part of the curve therefore
    # does not depend on rounding.
    grid = np.arange(points) * fp[-1] / (points - 1)
    curve = np.interp(grid, np.append(0, fp), np.append(0, tp)) / tp[-1]
    result: dict[str, Any] = {
        "false_positive_rate": np.linspace(0, 1, points).tolist(),
        "true_positive_rate": curve.tolist(),
    }
    cohort = Cohort.of(predictions)
    if reason := _reason(cohort, ("malignant", "benign")):
        return result | {"low": None, "high": None, "reason": reason}
    low, high = sensitivity_bounds(predictions, np.linspace(0, 1, points), exact)
    return result | {
        "low": np.minimum(low, curve).tolist(),
        "high": np.maximum(high, curve).tolist(),
    }


def pr_band(predictions: Predictions, points: int = 101, exact: bool = False) -> dict[str, Any]:
    """Computes the precision-recall curve of the units on an even grid, with a 95 % band.

    The band at a recall is the interval of the precision at the threshold that reaches this recall,
    as in :func:`se_resnet.metrics.evaluate`, as if the threshold were given.

    Args:
        predictions: N units.
        points: number of grid points, at least 2.
        exact: true where each patient is a single unit; the intervals are then exact.

    Returns:
        Lists of ``points`` floats: ``recall``, from 0 to 1; ``precision``; ``low`` and ``high``, as
        in :func:`roc_band`. The precision is that of the highest threshold that reaches the recall,
        as in average precision. At recall 0 it is that of the highest threshold with a true
        positive. If all malignant images come from one accession, ``low`` and ``high`` are None
        and ``reason`` is added.

    Raises:
        ValueError: no image is malignant.
    """
    label = predictions.label == 1
    precision, recall, threshold = pr_curve(predictions.label, predictions.probability)
    tp = recall * label.sum()
    grid = np.maximum(np.arange(points) * label.sum() / (points - 1), np.finfo(float).tiny)
    step = np.searchsorted(np.round(tp), grid)
    result: dict[str, Any] = {
        "recall": np.linspace(0, 1, points).tolist(),
        "precision": precision[step].tolist(),
    }
    cohort = Cohort.of(predictions)
    if reason := _reason(cohort, ("malignant",)):
        return result | {"low": None, "high": None, "reason": reason}
    called = _called_above(predictions, cohort, threshold[step])
    low, high = _intervals(called[..., 1], called.sum(axis=-1), exact)
    return result | {"low": low.tolist(), "high": high.tolist()}


def sensitivity_bounds(
    predictions: Predictions, rates: np.ndarray, exact: bool = False
) -> np.ndarray:
    """Returns the bounds of the band of :func:`roc_band` at other false positive rates.

    Args:
        predictions: N units of both classes, each of two patients or more.
        rates: ``float64 [T]`` in [0, 1].
        exact: see :func:`roc_band`.

    Returns:
        ``float64 [2, T]``, low and high.
    """
    cohort = Cohort.of(predictions)
    called = _called_above(predictions, cohort)
    sensitivity, false_positives = (
        # Below all probabilities both rates are surely 1.
        np.column_stack(
            [_intervals(called[..., column], cohort.images[:, column], exact), np.ones(2)]
        )
        for column in (1, 0)
    )
    rates = np.asarray(rates)[:, None]
    low = np.where(false_positives[1] <= rates, sensitivity[0], 0).max(axis=1)
    high = np.where(false_positives[0] >= rates, sensitivity[1], 1).min(axis=1)
    return np.stack([low, high])


def _reason(cohort: Cohort, requirements: tuple[str, ...]) -> str:
    present = {
        requirement: cohort.images[:, CLASS_NAMES.index(requirement)] > 0
        for requirement in requirements
    }
    return no_interval_reason("image", present, len(cohort))


def _called_above(
    predictions: Predictions, cohort: Cohort, thresholds: np.ndarray | None = None
) -> np.ndarray:
    """Counts the units of each patient and class with at least the probability of a threshold.

    Returns:
        ``float64 [T, G, 2]``. Without ``thresholds`` these are at most ``_THRESHOLDS`` of the
        distinct probabilities, evenly by rank.
    """
    if thresholds is None:
        distinct = np.unique(predictions.probability)
        index = np.linspace(0, len(distinct) - 1, min(len(distinct), _THRESHOLDS)).round()
        thresholds = distinct[index.astype(int)]
    counts = np.empty((len(thresholds), len(cohort), 2))
    for patient in range(len(cohort)):
        for label in range(2):
            chosen = (cohort.group == patient) & (predictions.label == label)
            ordered = np.sort(predictions.probability[chosen])
            counts[:, patient, label] = len(ordered) - np.searchsorted(ordered, thresholds)
    return counts


def _intervals(right: np.ndarray, sizes: np.ndarray, exact: bool) -> np.ndarray:
    """Returns the bounds ``[2, T]`` of the ratios of ``right [T, G]`` to ``sizes [T, G]``."""
    sizes = np.broadcast_to(sizes, right.shape)
    if exact:
        return clopper_pearson(right.sum(axis=1), sizes.sum(axis=1))
    return share_interval(right, sizes)
