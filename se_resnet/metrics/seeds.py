"""Metrics over repeats with other seeds, with an interval for patients and seeds together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.comparison import compare
from se_resnet.metrics.estimates import Metric
from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.intervals import students_t
from se_resnet.metrics.levels import all_metrics, map_metrics
from se_resnet.metrics.predictions import Predictions


def across_repeats(
    predictions: Sequence[Predictions], threshold: float = 0.5
) -> dict[str, dict[str, Any]]:
    """Summarises the headline metrics of several repeats of a run.

    The two-level interval applies to the mean over seeds, for new patients. Patients and seeds are
    two independent sources of error, whose distances to the mean are squared and added (MOVER, Zou
    and Donner 2008): the mean distance of the bounds of each repeat, and Student's t times the
    standard error of the mean over the repeats. It is conservative, because networks with other
    seeds share some of the error of the patients.

    Args:
        predictions: of the test images of each repeat, at least 2.
        threshold: minimum probability of the prediction malignant.

    Returns:
        For each metric of :func:`se_resnet.metrics.headline`: ``values`` by repeat, ``mean``,
        ``sd``, ``low`` and ``high``. Where a repeat has no value or no interval, the bounds are
        None and ``reason`` explains it. ``remark`` is added where a repeat has it.
    """
    return _summaries([_estimates(repeat, threshold) for repeat in predictions])


def compare_repeats(a: Sequence[Predictions], b: Sequence[Predictions]) -> dict[str, Any]:
    """Compares two runs repeat by repeat: A minus B with the same seed.

    Args:
        a: predictions of run A by repeat, at least 2.
        b: predictions of run B by repeat, as many.

    Returns:
        For each metric of :func:`se_resnet.metrics.headline` the differences, as in
        :func:`across_repeats`; their intervals come from
        :func:`se_resnet.metrics.comparison.compare`.

    Raises:
        ValueError: the numbers of repeats differ.
        UserError: two repeats cannot be compared.
    """
    comparisons = [headline(compare(*pair)) for pair in zip(a, b, strict=True)]
    return _summaries(
        [
            {name: row["difference"] for name, row in comparison.items()}
            for comparison in comparisons
        ],
        lowest=-1.0,
    )


def _estimates(predictions: Predictions, threshold: float) -> dict[str, Any]:
    metrics = all_metrics(predictions, threshold, Cohort.of(predictions))
    return headline(map_metrics(Metric.estimate, metrics))


def _summaries(
    repeats: Sequence[Mapping[str, Any]], lowest: float = 0.0
) -> dict[str, dict[str, Any]]:
    return {name: _summary([repeat[name] for repeat in repeats], lowest) for name in repeats[0]}


def _summary(estimates: Sequence[Mapping[str, Any]], lowest: float) -> dict[str, Any]:
    """Returns the summary of one metric, whose values are at least ``lowest`` and at most 1."""
    values = [estimate["value"] for estimate in estimates]
    defined = [value for value in values if value is not None]
    summary: dict[str, Any] = {
        "values": values,
        "mean": statistics.fmean(defined) if defined else None,
        "sd": statistics.stdev(defined) if len(defined) > 1 else None,
    }
    for number, estimate in enumerate(estimates):
        if estimate["low"] is None:
            reason = f"repeat {number}: {estimate['reason']}"
            return summary | {"low": None, "high": None, "reason": reason}
    below, above = (
        statistics.fmean(abs(estimate[bound] - estimate["value"]) for estimate in estimates)
        for bound in ("low", "high")
    )
    seeds = float(students_t(len(values) - 1)) * summary["sd"] / np.sqrt(len(values))
    summary |= {
        "low": max(float(summary["mean"] - np.hypot(below, seeds)), lowest),
        "high": min(float(summary["mean"] + np.hypot(above, seeds)), 1.0),
        "method": "two-level",
    }
    remarks = [estimate["remark"] for estimate in estimates if "remark" in estimate]
    return summary | ({"remark": remarks[0]} if remarks else {})
