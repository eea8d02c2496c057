"""Compares two runs on the same images by a paired bootstrap over patients."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.binary import METRIC_NAMES
from se_resnet.metrics.bootstrap import estimate, resample
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.resampled import ResampledMetric, all_metrics, map_metrics
from se_resnet.runtime.text_table import text_table


def compare(a: Predictions, b: Predictions, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Computes the difference run B minus run A by a paired bootstrap over accessions.

    Only images of both runs are compared, matched by file name. Each resample contains the same
    accessions for both runs. The difficulty of a patient therefore cancels in the difference (Efron
    and Tibshirani 1993). Both runs are evaluated at the threshold 0.5.

    Args:
        a: predictions of run A.
        b: predictions of run B.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.

    Returns:
        ``image`` and ``patient`` as in :func:`se_resnet.metrics.evaluate`, without ``confusion``
        and ``patients``. Each estimate is replaced by ``value_a``, ``value_b``, ``difference`` (the
        estimate of B minus A) and ``probability_above_zero``, the fraction of the resamples in
        which the value of B is strictly above that of A. It is None if there is no interval. Note
        that a lower Brier score is better.

        ``images``, ``accessions``: numbers of compared images and accessions. ``only_a``,
        ``only_b``: numbers of images that the other run lacks. ``resamples`` and ``seed`` are
        returned unchanged.

    Raises:
        UserError: the runs share no image, a file name occurs twice in a run, the runs disagree on
            a label or an accession, or ``resamples`` is below 1.
    """
    common_a, common_b = _common_images(a, b)
    names, group, weights = resample(common_a.accession, resamples, seed)
    metrics_a, metrics_b = (
        all_metrics(predictions, 0.5, group, weights) for predictions in (common_a, common_b)
    )
    return {
        **map_metrics(_difference, metrics_a, metrics_b),
        "images": len(common_a),
        "accessions": len(names),
        "only_a": len(a) - len(common_a),
        "only_b": len(b) - len(common_b),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def table(comparison: dict[str, Any]) -> str:
    """Formats the result of :func:`compare` as a table of text."""
    left_out = [f"{comparison[f'only_{run}']} only in {run.upper()}" for run in "ab"]
    patient = comparison["patient"]
    rows = {f"image {name}": comparison["image"][name] for name in METRIC_NAMES}
    rows |= {f"patient {name}": patient[name] for name in patient if "value_a" in patient[name]}
    for score in ("mean_probability", "majority_vote"):
        rows |= {f"patient {score} {name}": row for name, row in patient[score].items()}
    lines: list[tuple[str, ...]] = [("", "A", "B", "B - A", "95 % interval", "P(B > A)")]
    lines += [(_title(name), *_cells(row)) for name, row in rows.items()]
    return "\n".join(
        [
            f"{comparison['images']} images of {comparison['accessions']} patients in common "
            f"({', '.join(left_out)})",
            "",
            *text_table(lines, "<>>>><"),
        ]
    )


def _difference(a: ResampledMetric, b: ResampledMetric) -> dict[str, Any]:
    estimates = [a.estimate(), b.estimate()]
    value_a, value_b = (run_estimate["value"] for run_estimate in estimates)
    difference: dict[str, Any] = {"value": None, "low": None, "high": None}
    if value_a is not None and value_b is not None:
        difference = estimate(b.values - a.values, a.unit, {}, a.accessions)
    probability = None
    for run, run_estimate in zip("AB", estimates, strict=True):
        if "reason" in run_estimate:
            reason = f"run {run}: {run_estimate['reason']}"
            difference |= {"low": None, "high": None, "reason": reason}
            break
    if difference["low"] is not None:
        values = (b.values - a.values)[1:]
        # Equal runs differ by rounding errors if the metric is a mean of fractions.
        probability = float((values[np.isfinite(values)] > 1e-12).mean())
    return {
        "value_a": value_a,
        "value_b": value_b,
        "difference": difference,
        "probability_above_zero": probability,
    }


def _common_images(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Returns the rows of both runs for the images of both, in the same order."""
    for run, predictions in (("A", a), ("B", b)):
        names, counts = np.unique(predictions.file, return_counts=True)
        if (counts > 1).any():
            raise UserError(
                f"run {run} contains {names[counts > 1][0]} more than once: compare runs in which "
                "file names are unique."
            )
    common, row_a, row_b = np.intersect1d(a.file, b.file, assume_unique=True, return_indices=True)
    if not len(common):
        raise UserError(
            "the two runs have no image in common: compare the same split of both runs."
        )
    a, b = a.take(row_a), b.take(row_b)
    for name in ("label", "accession"):
        column_a, column_b = a.columns()[name], b.columns()[name]
        if len(different := np.flatnonzero(column_a != column_b)):
            first = different[0]
            raise UserError(
                f"the two runs disagree on the {name} of {common[first]} ({column_a[first]} in A, "
                f"{column_b[first]} in B): compare runs on the same images."
            )
    return a, b


def _title(name: str) -> str:
    lower_is_better = " (lower is better)" if name.endswith("brier") else ""
    return name.replace("_", " ") + lower_is_better


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    difference = row["difference"]
    interval, probability = "", difference.get("reason", "")
    if difference["low"] is not None:
        interval = f"{_signed(difference['low'])} to {_signed(difference['high'])}"
        probability = f"{row['probability_above_zero']:.3f}"
    values = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("value_a", "value_b"))
    change = "-" if difference["value"] is None else _signed(difference["value"])
    return (*values, change, interval, probability)


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # adding 0.0 turns -0.000 into +0.000
