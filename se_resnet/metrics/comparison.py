"""Compares two runs on the same images, patient by patient."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import special

from se_resnet.errors import UserError
from se_resnet.metrics.binary import METRIC_NAMES
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import TOO_FEW, Metric, variance_of_classes, variance_over
from se_resnet.metrics.intervals import floor_of_difference, students_t
from se_resnet.metrics.levels import all_metrics, map_metrics
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.sample_size import patients_for_difference
from se_resnet.runtime.text_table import text_table


def compare(a: Predictions, b: Predictions) -> dict[str, Any]:
    """Computes the difference run A minus run B on the images of both.

    Images are matched by file name. Both runs are evaluated at the threshold 0.5. The variance of a
    difference is that between patients of their gain, found by leaving out one patient at a time in
    both runs (CR3); the difficulty of a patient therefore cancels. Student's t has at most as many
    degrees of freedom as patients that the metric rests on, less one, see
    :func:`se_resnet.metrics.intervals.degrees_of_freedom`. For metrics that compare the classes,
    such as an AUC, the variances within each class are added, with the degrees of freedom of Welch.
    The variance has a floor (:func:`se_resnet.metrics.intervals.floor_of_difference`): two runs
    that agree on every image are not known to agree on new patients.

    Args:
        a: predictions of run A.
        b: predictions of run B.

    Returns:
        ``image`` and ``patient`` as in :func:`se_resnet.metrics.evaluate`, without ``confusion``
        and ``patients``. Each estimate is replaced by ``value_a``, ``value_b``, ``difference`` (the
        estimate of A minus B), ``p_value`` (two-sided, of no difference) and ``patients_needed``
        (:func:`se_resnet.metrics.sample_size.patients_for_difference`), None without an interval.
        Note that a lower Brier score is better.

        ``images``, ``accessions``: numbers of compared images and accessions. ``only_a``,
        ``only_b``: numbers of images that the other run lacks. ``within_folds``: true where both
        runs are cross-validations with the same folds, so that AUC counts pairs within folds.

    Raises:
        UserError: the runs share no image, a file name occurs twice in a run, or the runs disagree
            on a label or an accession.
    """
    common_a, common_b = _common_images(a, b)
    within_folds = bool(common_a.fold.any()) and same_partition(common_a.fold, common_b.fold)
    if not within_folds:
        common_a, common_b = (without_folds(run) for run in (common_a, common_b))
    cohort = Cohort.of(common_a)
    metrics_a, metrics_b = (
        all_metrics(predictions, 0.5, cohort) for predictions in (common_a, common_b)
    )

    def difference_of(a: Metric, b: Metric) -> dict[str, Any]:
        return _difference(a, b, cohort)

    return {
        **map_metrics(difference_of, metrics_a, metrics_b),
        "images": len(common_a),
        "accessions": len(cohort),
        "only_a": len(a) - len(common_a),
        "only_b": len(b) - len(common_b),
        "within_folds": within_folds,
    }


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns true where two columns of folds, ``int [N]``, divide the images alike."""
    pairs = np.unique(np.stack([a, b]), axis=1).shape[1]
    return pairs == len(np.unique(a)) == len(np.unique(b))


def without_folds(predictions: Predictions) -> Predictions:
    """Returns the predictions as of a single network."""
    return dataclasses.replace(predictions, fold=np.zeros(len(predictions), np.int64))


def table(comparison: dict[str, Any]) -> str:
    """Formats the result of :func:`compare` as a table of text."""
    left_out = [f"{comparison[f'only_{run}']} only in {run.upper()}" for run in "ab"]
    patient = comparison["patient"]
    rows = {f"image {name}": comparison["image"][name] for name in METRIC_NAMES}
    rows |= {f"patient {name}": patient[name] for name in patient if "value_a" in patient[name]}
    for score in ("mean_probability", "majority_vote"):
        rows |= {f"patient {score} {name}": row for name, row in patient[score].items()}
    lines: list[tuple[str, ...]] = [("", "A", "B", "A - B", "95 % interval", "p", "patients")]
    lines += [(_title(name), *_cells(row)) for name, row in rows.items()]
    folds = "; ROC AUC over pairs within folds" if comparison["within_folds"] else ""
    return "\n".join(
        [
            f"{comparison['images']} images of {comparison['accessions']} patients in common "
            f"({', '.join(left_out)}){folds}",
            "",
            *text_table(lines, "<>>>>>>"),
        ]
    )


def _difference(a: Metric, b: Metric, cohort: Cohort) -> dict[str, Any]:
    estimates = [a.estimate(), b.estimate()]
    value_a, value_b = (run_estimate["value"] for run_estimate in estimates)
    difference: dict[str, Any] = {"value": None, "low": None, "high": None}
    p_value = patients_needed = None
    if value_a is not None and value_b is not None:
        difference["value"] = value_a - value_b
    for run, run_estimate in zip("AB", estimates, strict=True):
        if "reason" in run_estimate:
            difference["reason"] = f"run {run}: {run_estimate['reason']}"
            break
    else:
        error, freedom = standard_error(a, b, cohort)
        width = float(students_t(freedom)) * error
        difference |= {
            "low": max(difference["value"] - width, -a.span),
            "high": min(difference["value"] + width, a.span),
            "method": "jackknife",
        }
        if a.is_scarce():
            difference["remark"] = TOO_FEW
        patients_needed = patients_for_difference(
            difference["value"], error, int((a.sizes.sum(axis=1) > 0).sum())
        )
        p_value = float(2 * special.stdtr(freedom, -abs(difference["value"]) / error))
    return {
        "value_a": value_a,
        "value_b": value_b,
        "difference": difference,
        "p_value": p_value,
        "patients_needed": patients_needed,
    }


def standard_error(a: Metric, b: Metric, cohort: Cohort) -> tuple[float, float]:
    """Returns the standard error of the difference of two runs, and its degrees of freedom.

    Args:
        a: metric of run A.
        b: the same metric of run B.
        cohort: the patients of both.
    """
    gains = a.values - b.values
    sizes = np.maximum(a.sizes, b.sizes)
    used = sizes.sum(axis=1) > 0
    floor = floor_of_difference(int(used.sum()))
    if not a.both_classes:
        variance, freedom = variance_over(gains, used, np.ones(len(used)))
        return float(np.sqrt(max(variance, floor))), freedom
    variance, freedom = variance_of_classes(gains, cohort.malignant, sizes.sum(axis=1))
    return float(np.sqrt(max(variance, floor))), freedom


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
    for name, noun in (("label", "label"), ("accession", "patient")):
        column_a, column_b = getattr(a, name), getattr(b, name)
        if len(different := np.flatnonzero(column_a != column_b)):
            first = different[0]
            raise UserError(
                f"the two runs disagree on the {noun} of {common[first]} ({column_a[first]} in A, "
                f"{column_b[first]} in B): compare runs on the same images."
            )
    return a, b


def _title(name: str) -> str:
    lower_is_better = " (lower is better)" if name.endswith("brier") else ""
    return name.replace("_", " ") + lower_is_better


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    difference = row["difference"]
    interval, p_value = "", difference.get("reason", "")
    if difference["low"] is not None:
        interval = f"{signed(difference['low'])} to {signed(difference['high'])}"
        p_value = f"{row['p_value']:.3f}"
        if remark := difference.get("remark"):
            p_value += f" ({remark})"
    needed = row["patients_needed"]
    values = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("value_a", "value_b"))
    change = "-" if difference["value"] is None else signed(difference["value"])
    return (*values, change, interval, p_value, "-" if needed is None else f"{needed:,}")


def signed(value: float) -> str:
    """Returns a difference with its sign and 3 decimals."""
    return f"{round(value, 3) + 0.0:+.3f}"  # adding 0.0 turns -0.000 into +0.000
