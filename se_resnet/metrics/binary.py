"""Metrics of binary classification, computed under many weightings at once."""

from __future__ import annotations

import numpy as np

from se_resnet.metrics.ranking import cumulative_sums, rank

# Columns of a table of outcomes.
TP, FP, TN, FN = range(4)

# Requirements of metrics, and the outcomes that meet each.
OUTCOMES = {
    "malignant": (TP, FN),
    "benign": (TN, FP),
    "predicted malignant": (TP, FP),
    "predicted benign": (TN, FN),
}
# A metric is defined where every one of its requirements is met.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
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
# Numerator and denominator, in outcomes, of the metrics that are ratios of counts.
RATIOS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "accuracy": ((TP, TN), (TP, FP, TN, FN)),
    "precision": ((TP,), (TP, FP)),
    "recall": ((TP,), (TP, FN)),
    "specificity": ((TN,), (TN, FP)),
    "f1": ((TP, TP), (TP, TP, FP, FN)),
}
METRIC_NAMES = tuple(REQUIREMENTS)


def binary_metrics(
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
    fold: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Computes the metrics of ``METRIC_NAMES`` under R weightings at once.

    Args:
        label: ``bool [n]``, true for malignant.
        probability: ``float64 [n]``.
        predicted: ``bool [n]``, true for predicted malignant.
        group: ``int [n]`` in [0, G), the group (accession) of each unit.
        weights: ``float64 [R, G]``, the weight of each group, not negative; in every row some unit
            has a positive weight.
        fold: ``int [n]`` in [0, F), the fold whose network predicted the unit; None for a single
            network. ``roc_auc`` then compares the units of a fold with each other only, because
            the networks of two folds differ by an offset that says nothing about the units
            (Airola et al. 2011). ``average_precision`` ranks all units together.

    Returns:
        Metric name to ``float64 [R]``, NaN where the metric is undefined. With several folds
        ``roc_auc_pooled``, over all pairs, is added.
    """
    outcomes = count_outcomes(label, predicted, group, weights.shape[1])
    tp, fp, tn, fn = (weights @ outcomes).T
    total = tp + fp + tn + fn
    error = np.bincount(group, (probability - label) ** 2, minlength=weights.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = tp / (tp + fn)
        specificity = tn / (tn + fp)
        pairs, ordered, average_precision = _ranking_metrics(label, probability, group, weights)
        pooled_auc = ordered / pairs
        if fold is not None and fold.any():
            pairs, ordered = (
                np.sum(column, axis=0)
                for column in zip(
                    *(
                        _ranking_metrics(label[part], probability[part], group[part], weights)[:2]
                        for part in (fold == number for number in np.unique(fold))
                    ),
                    strict=True,
                )
            )
        roc_auc = ordered / pairs
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
    if fold is not None and fold.any():
        values["roc_auc_pooled"] = pooled_auc
    for name, requirements in REQUIREMENTS.items():
        for requirement in requirements:
            weight = weights @ outcomes[:, OUTCOMES[requirement]].sum(axis=1)
            values[name] = np.where(weight > 0, values[name], np.nan)
    return values


def count_outcomes(
    label: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int
) -> np.ndarray:
    """Counts the outcomes of each group: ``float64 [groups, 4]`` in the order TP, FP, TN, FN."""
    outcome = np.where(label, np.where(predicted, TP, FN), np.where(predicted, FP, TN))
    return np.bincount(group * 4 + outcome, minlength=groups * 4).reshape(groups, 4).astype(float)


def confusion(label: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """Returns the counts ``tp``, ``fp``, ``tn`` and ``fn``."""
    outcomes = count_outcomes(label, predicted, np.zeros(len(label), int), 1)[0]
    return dict(zip(("tp", "fp", "tn", "fn"), outcomes.astype(int).tolist(), strict=True))


def _ranking_metrics(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the pairs of a malignant and a benign unit, those in order, and average precision.

    Each is ``float64 [R]``. A tied pair is half in order. Units of equal probability form one step
    of the curve.
    """
    pairs, ordered, average_precision = [], [], []
    for tp, fp in cumulative_sums(probability, (label, ~label), group, weights):
        tp_of_step = np.diff(tp, axis=1, prepend=0)
        ordered.append((np.diff(fp, axis=1, prepend=0) * (tp - tp_of_step / 2)).sum(axis=1))
        pairs.append(tp[:, -1] * fp[:, -1])
        precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
        average_precision.append((tp_of_step * precision).sum(axis=1) / tp[:, -1])
    return np.concatenate(pairs), np.concatenate(ordered), np.concatenate(average_precision)


def precision_at_rank(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Returns the precision among the units of at least the same probability: ``float64 [n]``.

    The average precision is its mean over the malignant units.
    """
    order, last = rank(probability)
    step = np.searchsorted(last, np.arange(len(order)))  # of each unit in the order
    tp = np.cumsum(label[order])[last]
    precision = np.empty(len(order))
    precision[order] = (tp / (last + 1))[step]
    return precision
