"""Figures of calls and probabilities of two classes, under many weightings at once."""

from __future__ import annotations

import numpy as np

from se_resnet.metrics.bootstrap import cumulated

# Columns of a tally of outcomes.
TP, FP, TN, FN = range(4)

# What must occur for a metric to mean something, and the outcomes that count as its occurring.
OUTCOMES = {
    "malignant": (TP, FN),
    "benign": (TN, FP),
    "predicted malignant": (TP, FP),
    "predicted benign": (TN, FN),
}
NEEDS: dict[str, tuple[str, ...]] = {
    "accuracy": (),
    "balanced_accuracy": ("malignant", "benign"),
    "precision": ("predicted malignant",),
    "recall": ("malignant",),
    "specificity": ("benign",),
    "f1": ("malignant",),
    "roc_auc": ("malignant", "benign"),
    "average_precision": ("malignant", "benign"),
    "mcc": ("malignant", "benign", "predicted malignant", "predicted benign"),
    "brier": (),
}
METRIC_NAMES = tuple(NEEDS)


def binary_metrics(
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    """The metrics of ``METRIC_NAMES`` under R weightings at once.

    Args:
        label: ``bool [n]``, malignant.
        probability: ``float64 [n]``.
        predicted: ``bool [n]``, called malignant.
        group: ``int [n]``, in [0, G), the group (accession) each unit belongs to.
        weights: ``float64 [R, G]``, weight of each group, not negative; every row counts some unit.

    Returns:
        Name to ``float64 [R]``, NaN where the metric is undefined.
    """
    tally = tally_outcomes(label, predicted, group, weights.shape[1])
    tp, fp, tn, fn = (weights @ tally).T
    total = tp + fp + tn + fn
    error = np.bincount(group, (probability - label) ** 2, minlength=weights.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = tp / (tp + fn)
        specificity = tn / (tn + fp)
        roc_auc, average_precision = _ranking(label, probability, group, weights)
        values = {
            "accuracy": (tp + tn) / total,
            "balanced_accuracy": (recall + specificity) / 2,
            "precision": tp / (tp + fp),
            "recall": recall,
            "specificity": specificity,
            "f1": 2 * tp / (2 * tp + fp + fn),
            "roc_auc": roc_auc,
            "average_precision": average_precision,
            "mcc": (tp * tn - fp * fn)
            / np.sqrt((tp + fn) * (tn + fp))
            / np.sqrt((tp + fp) * (tn + fn)),
            "brier": (weights @ error) / total,
        }
    for name, needs in NEEDS.items():
        for need in needs:
            occurs = weights @ tally[:, OUTCOMES[need]].sum(axis=1)
            values[name] = np.where(occurs > 0, values[name], np.nan)
    return values


def tally_outcomes(
    label: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int
) -> np.ndarray:
    """Outcomes per group, ``float64 [groups, 4]`` in the order TP, FP, TN, FN."""
    outcome = np.where(label, np.where(predicted, TP, FN), np.where(predicted, FP, TN))
    return np.bincount(group * 4 + outcome, minlength=groups * 4).reshape(groups, 4).astype(float)


def confusion(label: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """The counts ``tp``, ``fp``, ``tn`` and ``fn``."""
    tally = tally_outcomes(label, predicted, np.zeros(len(label), int), 1)[0].astype(int).tolist()
    return dict(zip(("tp", "fp", "tn", "fn"), tally, strict=True))


def _ranking(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC (trapezoids) and average precision (steps), ``float64 [R]`` each, ties as one."""
    roc_auc, average_precision = [], []
    for tp, fp in cumulated(probability, (label, ~label), group, weights):
        gained = np.diff(tp, axis=1, prepend=0)
        area = (np.diff(fp, axis=1, prepend=0) * (tp - gained / 2)).sum(axis=1)
        precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
        roc_auc.append(area / (tp[:, -1] * fp[:, -1]))
        average_precision.append((gained * precision).sum(axis=1) / tp[:, -1])
    return np.concatenate(roc_auc), np.concatenate(average_precision)
