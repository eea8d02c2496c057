"""Calibration intercept and slope, by logistic regression of the label on the logit."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import Metric, variance_of_classes
from se_resnet.metrics.intervals import students_t
from se_resnet.metrics.predictions import logit_of, probability_of


def calibration_line(
    label: np.ndarray, probability: np.ndarray, cohort: Cohort
) -> dict[str, dict[str, Any]]:
    """Estimates the calibration intercept and slope of the images (Cox 1958; Van Calster 2019).

    ``slope`` is b of the logistic regression of the label on a + b x logit(probability): below 1
    the probabilities are too extreme. ``intercept`` is a of the regression on
    a + logit(probability), calibration in the large: below 0 the probability of malignant is too
    high on average. A calibrated model has 1 and 0. Probabilities of 0 and 1 are moved inwards by
    1e-6. The intervals are Student's t with the variance between patients of each class, from
    leaving out one patient at a time.

    Args:
        label: ``int [N]``, 0 or 1.
        probability: ``float64 [N]``.
        cohort: the patients.

    Returns:
        ``intercept`` and ``slope`` as estimates of :func:`se_resnet.metrics.evaluate`. Without
        both classes they are undefined, and so is the slope where the probabilities separate the
        labels. Where they do so without one of the patients, there is no interval.
    """
    logit = logit_of(np.clip(probability, 1e-6, 1 - 1e-6))
    weights = cohort.weights[:, cohort.group]
    ones = np.ones((len(label), 1))
    spread = max(float(logit.std()), 1e-300)  # logits of one size, which the iteration needs
    present = {"malignant": cohort.images[:, 1] > 0, "benign": cohort.images[:, 0] > 0}
    estimates = {}
    for name, design, offset in (
        ("intercept", ones, logit),
        ("slope", np.column_stack([ones, (logit - logit.mean()) / spread]), np.zeros_like(logit)),
    ):
        values = np.full(len(weights), np.nan)
        possible = np.array([_has_maximum(label, logit, row, name == "slope") for row in weights])
        if possible.any():
            values[possible] = _regression(label, design, offset, weights[possible])[:, -1]
        if name == "slope":
            values /= spread
        estimates[name] = _estimate(values, cohort, present, not np.ptp(logit))
    return estimates


def _estimate(
    values: np.ndarray, cohort: Cohort, present: dict[str, np.ndarray], alike: bool
) -> dict[str, Any]:
    def bounds() -> tuple[float, float]:
        sizes = cohort.images.sum(axis=1)
        variance, freedom = variance_of_classes(values, cohort.malignant, sizes)
        width = float(students_t(freedom) * np.sqrt(variance))
        return values[0] - width, values[0] + width

    metric = Metric(values, cohort.images, "image", present, bounds, "jackknife", True)
    if all(meets.any() for meets in present.values()) and not np.isfinite(values[0]):
        reason = "all probabilities are equal" if alike else "the probabilities separate the labels"
        return {"value": None, "low": None, "high": None, "reason": reason}
    estimate = metric.estimate()
    if estimate["low"] is not None and not np.isfinite(values).all():
        reason = "without one of the patients the probabilities separate the labels"
        return {"value": estimate["value"], "low": None, "high": None, "reason": reason}
    if estimate["low"] is not None and estimate["high"] - estimate["low"] < 1e-12:
        reason = "all patients of a class are alike"
        return {"value": estimate["value"], "low": None, "high": None, "reason": reason}
    return estimate


def _has_maximum(label: np.ndarray, logit: np.ndarray, weights: np.ndarray, slope: bool) -> bool:
    """Returns true where the likelihood of the images with a weight has a finite maximum."""
    malignant, benign = logit[(weights > 0) & (label == 1)], logit[(weights > 0) & (label == 0)]
    if not len(malignant) or not len(benign):
        return False
    return not slope or (malignant.min() < benign.max() and benign.min() < malignant.max())


def _regression(
    label: np.ndarray, design: np.ndarray, offset: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Fits logistic regressions under R weightings by Newton's method: ``float64 [R, k]``.

    Args:
        label: ``int [n]``, 0 or 1.
        design: ``float64 [n, k]``.
        offset: ``float64 [n]``, added to the linear predictor.
        weights: ``float64 [R, n]``; under each the likelihood has a finite maximum.
    """
    fitted = np.zeros((len(weights), design.shape[1]))
    products = np.einsum("ni,nj->nij", design, design).reshape(len(design), -1)
    for _ in range(100):
        p = probability_of(fitted @ design.T + offset)
        gradient = (weights * (label - p)) @ design
        hessian = ((weights * p * (1 - p)) @ products).reshape(-1, *2 * [design.shape[1]])
        hessian += 1e-9 * np.eye(design.shape[1])  # never singular; the solution stays the same
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        fitted += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return fitted
