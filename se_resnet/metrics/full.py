"""All metrics of an evaluation, as in ``metrics.json``."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from se_resnet.metrics import calibration, clinical, selective
from se_resnet.metrics.decision import Decision, combine
from se_resnet.metrics.evaluation import (
    HEADLINE,
    by_part,
    evaluate,
    headline,
    image_and_patient,
)
from se_resnet.metrics.predictions import Predictions


def all_metrics(
    predictions: Predictions,
    decisions: Sequence[Decision],
    permutations: int,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Returns the metrics at 0.5 and at the chosen threshold, calibration and selective prediction.

    Args:
        predictions: predictions of the images.
        decisions: threshold and temperature of each fold of ``predictions``; a single one for a
            single network.
        permutations: number of permutations of the p-values.
        prevalence: see :func:`se_resnet.metrics.clinical.describe`.
    """
    fold = np.minimum(predictions.fold, len(decisions) - 1)
    threshold, temperature = (
        np.array([getattr(decision, name) for decision in decisions])[fold]
        for name in ("threshold", "temperature")
    )
    results = evaluate(predictions, permutations=permutations)
    at_threshold = image_and_patient(predictions, threshold)
    results["decision"] = dataclasses.asdict(combine(decisions))
    results["decisions"] = [dataclasses.asdict(decision) for decision in decisions]
    results["at_chosen_threshold"] = {
        **dict(zip(("image", "patient"), at_threshold, strict=True)),
        **by_part(predictions, threshold),
    }
    results["calibration"] = calibration.describe(predictions, temperature)
    results["calibration"]["reliability"] = calibration.reliability_curve(predictions)
    results["clinical"] = clinical.describe(
        predictions, prevalence, results["patient"]["mean_probability"]["roc_auc"]["value"]
    )
    results["selective"] = selective.risk_coverage(predictions)
    return results


def at_used_threshold(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns metrics whose main parts are those at the threshold that predictions use.

    Args:
        metrics: content of ``metrics.json``, whose main parts are those at 0.5.

    Returns:
        The same content, except that ``threshold`` and the parts of ``at_chosen_threshold`` are
        those of the decision, and ``at_plain_threshold`` has ``image``, ``patient`` and
        ``threshold`` of the argument. Metrics without a decision are returned unchanged.
    """
    chosen, decision = metrics.get("at_chosen_threshold"), metrics.get("decision")
    if not chosen or not decision:
        return metrics
    plain = {name: metrics[name] for name in ("image", "patient", "threshold")}
    used = {**metrics, **chosen, "threshold": decision["threshold"]}
    return {**used, "at_plain_threshold": plain}


def used_thresholds(metrics: dict[str, Any], fold: np.ndarray) -> np.ndarray:
    """Returns the threshold of each image, ``float64 [N]``: that of its fold.

    Args:
        metrics: result of :func:`at_used_threshold`.
        fold: ``int [N]``, see :class:`se_resnet.metrics.predictions.Predictions`.
    """
    decisions = metrics.get("decisions", [])
    if "at_plain_threshold" not in metrics or len(decisions) < 2:
        return np.full(len(fold), float(metrics["threshold"]))
    thresholds = np.array([decision["threshold"] for decision in decisions])
    return thresholds[np.minimum(fold, len(decisions) - 1)]


def across_folds(folds: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns ``mean``, ``sd`` and ``values`` of each headline metric over the folds.

    Args:
        folds: result of :func:`all_metrics` for each fold.
    """
    return {name: _across([headline(fold)[name]["value"] for fold in folds]) for name in HEADLINE}


def _across(values: list[float | None]) -> dict[str, Any]:
    """Returns mean and sample standard deviation over the folds with a defined metric."""
    defined = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(defined) if defined else None,
        "sd": statistics.stdev(defined) if len(defined) > 1 else None,
        "values": values,
    }
