"""All metrics of an evaluation, as in ``metrics.json``."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from se_resnet.metrics import calibration, selective
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.evaluation import HEADLINE, evaluate, headline
from se_resnet.metrics.predictions import Predictions


def all_metrics(predictions: Predictions, decision: Decision, resamples: int) -> dict[str, Any]:
    """Returns the metrics at 0.5 and at the chosen threshold, calibration and selective prediction.

    Args:
        predictions: predictions of the images.
        decision: threshold and temperature, chosen on validation images.
        resamples: number of bootstrap resamples of every interval.
    """
    results = evaluate(predictions, resamples=resamples)
    at_threshold = evaluate(predictions, decision.threshold, resamples)
    results["decision"] = dataclasses.asdict(decision)
    results["at_chosen_threshold"] = {part: at_threshold[part] for part in ("image", "patient")}
    results["calibration"] = calibration.describe(
        predictions, decision.temperature, resamples=resamples
    )
    results["calibration"]["reliability"] = calibration.reliability_curve(
        predictions, resamples=resamples
    )
    results["selective"] = selective.risk_coverage(predictions, resamples)
    return results


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
