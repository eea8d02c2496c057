"""Selective prediction: accuracy on the images with the most confident predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import Metric, no_interval_reason
from se_resnet.metrics.intervals import share_interval
from se_resnet.metrics.levels import share_metric
from se_resnet.metrics.predictions import Predictions


def risk_coverage(predictions: Predictions, points: int = 100) -> dict[str, Any]:
    """Computes the error rate among the most confident images (El-Yaniv and Wiener 2010).

    The confidence of an image is the probability of its predicted class, max(p, 1 - p), which
    orders images as |p - 0.5| does. The threshold is always 0.5. At any other threshold, the images
    near the threshold would not be the least confident ones. Images of equal confidence are
    accepted in proportion: half of a group of ties adds half of the errors of that group. This is
    the mean over all orders of the ties.

    Args:
        predictions: N >= 1 images.
        points: number of coverages in the grid, at least 1.

    Returns:
        ``aurc``, the area under the risk-coverage curve (Geifman and El-Yaniv 2017): the mean of
        the risk over the coverages 1/N, 2/N, ..., 1; 0 is best. ``accuracy_at_80``: the accuracy on
        the most confident 80 % of the images. Both are estimates, as in
        :func:`se_resnet.metrics.evaluate`. Their intervals treat the set of accepted images as
        given.

        ``curve``: lists of ``points`` floats, ``coverage`` (1/points, ..., 1), ``risk``, and its
        pointwise 95 % interval ``low`` and ``high``. With a single accession these two are None and
        ``reason`` is added.
    """
    cohort = Cohort.of(predictions)
    probability, label = predictions.probability, predictions.label == 1
    wrong = (probability >= 0.5) != label
    confidence = np.maximum(probability, 1 - probability)
    coverage = np.arange(1, points + 1) / points
    start, end = _positions(confidence)
    target = (np.append(coverage, 0.8)[:, None] * len(wrong)).round(9)
    accepted = np.clip((target - start) / (end - start), 0, 1)
    sizes, errors = (_by_patient(rows, cohort) for rows in (accepted, accepted * wrong))
    risk = errors.sum(axis=1) / sizes.sum(axis=1)
    curve: dict[str, Any] = {"coverage": coverage.tolist(), "risk": risk[:-1].tolist()}
    if reason := no_interval_reason("image", {}, len(cohort)):
        curve |= {"low": None, "high": None, "reason": reason}
    else:
        low, high = share_interval(errors[:-1], sizes[:-1]).tolist()
        curve |= {"low": low, "high": high}

    # The mean risk is a weighted sum of errors: an image in position k counts 1/k + ... + 1/N. Tied
    # images share the mean of their positions.
    tails = np.append(np.cumsum(1 / np.arange(len(wrong), 0, -1))[::-1], 0)  # 1/k + ... + 1/N
    sums = np.append(0, np.cumsum(tails[:-1]))
    importance = (sums[end] - sums[start]) / (end - start)
    return {
        "aurc": _share(importance, wrong, label, cohort).estimate(),
        "accuracy_at_80": _share(accepted[-1], ~wrong, label, cohort).estimate(),
        "curve": curve,
    }


def _positions(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many images precede each image and its ties, and how many end with them.

    Both are ``int [N]``, in the order of falling confidence.
    """
    ordered = np.sort(-confidence)
    return np.searchsorted(ordered, -confidence), np.searchsorted(ordered, -confidence, "right")


def _by_patient(rows: np.ndarray, cohort: Cohort) -> np.ndarray:
    """Sums ``rows [T, N]`` over the images of each patient: ``float64 [T, G]``."""
    return np.stack([np.bincount(cohort.group, row, minlength=len(cohort)) for row in rows])


def _share(weight: np.ndarray, counted: np.ndarray, label: np.ndarray, cohort: Cohort) -> Metric:
    """Returns the weighted share of the images that are ``counted``, ``bool [N]``."""
    counted_of, *sizes = _by_patient(
        np.stack([weight * counted, weight * ~label, weight * label]), cohort
    )
    return share_metric(counted_of, np.stack(sizes, axis=1), "image", {}, cohort)
