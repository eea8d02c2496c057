"""Metrics of the validation images after an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.binary import binary_metrics
from se_resnet.metrics.predictions import probability_of


def validation_metrics(label: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """Returns ``val/loss``, ``val/accuracy`` and ``val/roc_auc`` of one epoch.

    Args:
        label: ``int [n]``, 0 or 1.
        logits: ``float64 [n]``, of malignant.

    Returns:
        The mean binary cross-entropy, the accuracy at the threshold 0.5 and the AUC, which is None
        where one class is missing.
    """
    one_group = np.zeros(len(label), int)
    probability = probability_of(logits)
    metrics = binary_metrics(
        label == 1, probability, probability >= 0.5, one_group, np.ones((1, 1))
    )
    auc = float(metrics["roc_auc"][0])
    return {
        "val/loss": float(np.logaddexp(0, -logits * (2 * label - 1)).mean()),
        "val/accuracy": float(metrics["accuracy"][0]),
        "val/roc_auc": None if np.isnan(auc) else auc,
    }
