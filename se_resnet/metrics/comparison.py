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
    """What run B gains over run A, by a paired bootstrap over accessions.

    Only images that both runs hold, by file name, are compared. Each resample draws the same
    accessions for both runs, so that what makes a patient hard for both cancels in the difference
    (Efron and Tibshirani 1993). Both runs are judged at the threshold 0.5.

    Args:
        a: predictions of run A.
        b: predictions of run B.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.

    Returns:
        ``image`` and ``patient`` as in :func:`se_resnet.metrics.evaluate`, without ``confusion``
        and ``patients``; in place of each figure stand ``value_a``, ``value_b``, ``difference`` (B
        minus A, a figure) and ``probability_above_zero``, the share of the resamples in which B's
        value is strictly above A's, which is None where there is no interval. Mind that a lower
        Brier score is the better one.

        ``images``, ``accessions``: what was compared. ``only_a``, ``only_b``: images left out
        because the other run lacks them. ``resamples`` and ``seed`` as given.

    Raises:
        UserError: no image is common, a file name occurs twice in a run, the runs disagree on a
            label or an accession, or ``resamples`` is below 1.
    """
    part_a, part_b = _common(a, b)
    names, group, weights = resample(part_a.accession, resamples, seed)
    draws_a, draws_b = (all_metrics(part, 0.5, group, weights) for part in (part_a, part_b))
    return {
        **map_metrics(_difference, draws_a, draws_b),
        "images": len(part_a),
        "accessions": len(names),
        "only_a": len(a) - len(part_a),
        "only_b": len(b) - len(part_b),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def table(found: dict[str, Any]) -> str:
    """What :func:`compare` returned, as aligned lines of text."""
    left_out = [f"{found[f'only_{run}']} only in {run.upper()}" for run in "ab"]
    patient = found["patient"]
    rows = {f"image {name}": found["image"][name] for name in METRIC_NAMES}
    rows |= {f"patient {name}": patient[name] for name in patient if "value_a" in patient[name]}
    for score in ("mean_probability", "majority_vote"):
        rows |= {f"patient {score} {name}": row for name, row in patient[score].items()}
    lines: list[tuple[str, ...]] = [("", "A", "B", "B - A", "95 % interval", "P(B > A)")]
    lines += [(_spoken(name), *_cells(row)) for name, row in rows.items()]
    return "\n".join(
        [
            f"{found['images']} images of {found['accessions']} patients in common "
            f"({', '.join(left_out)})",
            "",
            *text_table(lines, "<>>>><"),
        ]
    )


def _difference(a: ResampledMetric, b: ResampledMetric) -> dict[str, Any]:
    figures = [a.estimate(), b.estimate()]
    value_a, value_b = (one["value"] for one in figures)
    difference: dict[str, Any] = {"value": None, "low": None, "high": None}
    if value_a is not None and value_b is not None:
        difference = estimate(b.values - a.values, a.unit, {}, a.accessions)
    probability = None
    for run, one in zip("AB", figures, strict=True):
        if "reason" in one:
            difference |= {"low": None, "high": None, "reason": f"run {run}: {one['reason']}"}
            break
    if difference["low"] is not None:
        values = (b.values - a.values)[1:]
        # Runs that tie differ by rounding where the metric is a mean of fractions.
        probability = float((values[np.isfinite(values)] > 1e-12).mean())
    return {
        "value_a": value_a,
        "value_b": value_b,
        "difference": difference,
        "probability_above_zero": probability,
    }


def _common(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """The rows of both runs that show the same images, in the same order."""
    for run, predictions in (("A", a), ("B", b)):
        names, times = np.unique(predictions.file, return_counts=True)
        if (times > 1).any():
            raise UserError(
                f"run {run} holds {names[times > 1][0]} more than once: compare runs in which "
                "every image has a name of its own."
            )
    common, row_a, row_b = np.intersect1d(a.file, b.file, assume_unique=True, return_indices=True)
    if not len(common):
        raise UserError("the two runs have no image in common: compare the same split of both.")
    a, b = a.take(row_a), b.take(row_b)
    for name in ("label", "accession"):
        column_a, column_b = a.columns()[name], b.columns()[name]
        if len(differs := np.flatnonzero(column_a != column_b)):
            at = differs[0]
            raise UserError(
                f"the two runs disagree on the {name} of {common[at]} ({column_a[at]} in A, "
                f"{column_b[at]} in B): compare runs on the same images."
            )
    return a, b


def _spoken(name: str) -> str:
    lower_is_better = " (lower is better)" if name.endswith("brier") else ""
    return name.replace("_", " ") + lower_is_better


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    difference = row["difference"]
    interval, probability = "", difference.get("reason", "")
    if difference["low"] is not None:
        interval = f"{_signed(difference['low'])} to {_signed(difference['high'])}"
        probability = f"{row['probability_above_zero']:.3f}"
    values = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("value_a", "value_b"))
    gain = "-" if difference["value"] is None else _signed(difference["value"])
    return (*values, gain, interval, probability)


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # adding 0.0 spares the reader a -0.000
