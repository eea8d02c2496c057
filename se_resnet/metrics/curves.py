"""ROC and precision-recall curves, with bands from the bootstrap over accessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.metrics.bootstrap import cumulated, interval, rank, resample, too_few
from se_resnet.metrics.predictions import Predictions


def roc_curve(
    label: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The receiver operating characteristic, one point per distinct probability.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]``.

    Returns:
        False positive rate, true positive rate and threshold, each ``float64 [m + 1]``, from (0, 0)
        at an infinite threshold to (1, 1) at the smallest probability.

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
    """Precision against recall, one point per distinct probability.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]``.

    Returns:
        Precision, recall and threshold, each ``float64 [m]``, from the largest probability to the
        smallest, where recall is 1. Draw it as steps, precision at a recall being that of the next
        point: a straight line between two points promises more than any threshold gives (Davis and
        Goadrich 2006), and the area under the steps is the average precision.

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
    """The ROC curve of the images on an even grid, with a pointwise 95 % band.

    The band is the bootstrap of :func:`se_resnet.metrics.evaluate` applied to the true positive
    rate at each false positive rate (vertical averaging, Fawcett 2006). Pointwise means that it
    speaks of any one false positive rate, not of the whole curve at once.

    Args:
        predictions: N images.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.
        points: size of the grid, at least 2.

    Returns:
        Lists of ``points`` floats: ``false_positive_rate``, from 0 to 1; ``true_positive_rate``,
        linear between the points of :func:`roc_curve` and the highest where the curve is upright;
        ``low`` and ``high``. These two are None, and ``reason`` says why, where benign or malignant
        images come from one accession only.

    Raises:
        ValueError: only one class is present.
    """
    label = predictions.label == 1
    if label.all() or not label.any():
        raise ValueError("a ROC curve needs both classes")

    def read(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        # A whole number of images times a whole number: exact, so that a grid point which falls on
        # an upright stretch of the curve does not depend on rounding.
        at = np.arange(points) * fp[-1] / (points - 1)
        return np.interp(at, np.append(0, fp), np.append(0, tp)) / tp[-1]

    return {
        "false_positive_rate": np.linspace(0, 1, points).tolist(),
        **_band("true_positive_rate", predictions, ("malignant", "benign"), read, resamples, seed),
    }


def pr_band(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 101
) -> dict[str, Any]:
    """The precision-recall curve of the images on an even grid, with a pointwise 95 % band.

    Args:
        predictions: N images.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.
        points: size of the grid, at least 2.

    Returns:
        Lists of ``points`` floats: ``recall``, from 0 to 1; ``precision``, that of the highest
        threshold which reaches the recall, as average precision has it, and at recall 0 of the
        highest that finds anything malignant; ``low`` and ``high``, as in :func:`roc_band`, with
        ``reason`` where malignant images come from one accession only.

    Raises:
        ValueError: no image is malignant.
    """
    if not (predictions.label == 1).any():
        raise ValueError("a precision-recall curve needs malignant images")

    def read(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        reach = np.maximum(np.arange(points) * tp[-1] / (points - 1), np.finfo(float).tiny)
        at = np.searchsorted(tp, reach)
        return tp[at] / (tp[at] + fp[at])

    return {
        "recall": np.linspace(0, 1, points).tolist(),
        **_band("precision", predictions, ("malignant",), read, resamples, seed),
    }


def _band(
    name: str,
    predictions: Predictions,
    needs: tuple[str, ...],
    read: Callable[[np.ndarray, np.ndarray], np.ndarray],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """A curve under ``name`` with its band; ``read`` makes a curve of running TP and FP counts."""
    names, group, weights = resample(predictions.accession, resamples, seed)
    label = predictions.label == 1
    classes = {"malignant": label, "benign": ~label}
    supply = {need: np.bincount(group, classes[need]) > 0 for need in needs}
    curves = np.array(
        [
            read(tp, fp)
            for chunk in cumulated(predictions.probability, (label, ~label), group, weights)
            for tp, fp in zip(*chunk, strict=True)
            if all({"malignant": tp, "benign": fp}[need][-1] > 0 for need in needs)
        ]
    )
    band: dict[str, Any] = {name: curves[0].tolist()}
    reason = too_few("image", supply, len(names))
    if not reason and len(curves) == 1:
        reason = "undefined in every resample"
    if reason:
        return band | {"low": None, "high": None, "reason": reason}
    low, high = interval(curves[1:]).tolist()
    return band | {"low": low, "high": high}
