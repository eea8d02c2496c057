"""Meaning of the predictions of patients in use: predictive values, operating points, benefit.

The unit is the patient with its mean probability. Everything here is a function of sensitivity and
specificity. The prevalence of malignant patients where the model is to be used can therefore be
given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.binary import count_outcomes
from se_resnet.metrics.curves import sensitivity_bounds
from se_resnet.metrics.decision import choose_threshold
from se_resnet.metrics.estimates import FEWEST, TOO_FEW
from se_resnet.metrics.levels import patients_as_units, rates_bounds
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.sample_size import patients_for_auc

RATES = (0.8, 0.9, 0.95)  # specificities and sensitivities of the operating points
THRESHOLDS = np.linspace(0.05, 0.95, 19).round(2)  # of the decision curve
WIDTH = 0.1  # wanted width of the interval of the AUC


def describe(
    predictions: Predictions, prevalence: float | None = None, auc: float | None = None
) -> dict[str, Any]:
    """Computes predictive values, operating points and the decision curve of the patients.

    Args:
        predictions: N >= 1 images.
        prevalence: share of malignant patients where the model is to be used, between 0 and 1; None
            for that of the evaluated patients. Intervals take it as known.
        auc: of the patients, as reported, for ``patients_needed``.

    Returns:
        ``prevalence``, and ``prevalence_given``, true if it was an argument.

        At the threshold 0.5: ``ppv`` and ``npv``, the predictive values at the prevalence;
        ``positive_likelihood_ratio``, sensitivity / (1 - specificity), and
        ``negative_likelihood_ratio``, (1 - sensitivity) / specificity. Each has ``value``, ``low``
        and ``high``; None stands for an infinite number, or for 0/0 where nobody is called.
        Intervals are square-and-add (MOVER) of the exact intervals of both rates.

        ``sensitivity_at_specificity`` and ``specificity_at_sensitivity``: one entry for each of
        0.8, 0.9 and 0.95, with the given rate ``at``, ``value``, ``low``, ``high`` and the
        ``threshold`` that keeps the given rate on these patients, None where none does. The
        intervals include the uncertainty of both rates, as those of
        :func:`se_resnet.metrics.curves.roc_band`.

        ``decision_curve`` (Vickers and Elkin 2006): lists over the thresholds 0.05, 0.1, ..., 0.95:
        ``threshold``; ``net_benefit`` per patient of treating whoever has at least the threshold,
        with its 95 % interval ``low`` and ``high``; ``treat_all``. Treating none has the net
        benefit 0.

        ``patients_needed``: patients for an interval of the AUC of width 0.1, see
        :func:`se_resnet.metrics.sample_size.patients_for_auc`; None without ``auc``.

        Without two patients of each class, ``prevalence``, ``prevalence_given`` and ``reason`` are
        all. ``remark`` is added where a class has fewer than 4 patients.

    Raises:
        UserError: ``prevalence`` is not between 0 and 1.
    """
    check_prevalence(prevalence)
    patients = patients_as_units(predictions)
    share = float(patients.label.mean())
    used = share if prevalence is None else prevalence
    result: dict[str, Any] = {"prevalence": used, "prevalence_given": prevalence is not None}
    scarcest = min(np.bincount(patients.label, minlength=2).tolist())
    if scarcest < 2:
        return result | {"reason": "there are not two patients of each class"}
    if scarcest < FEWEST:
        result["remark"] = TOO_FEW
    outcomes = _outcomes(patients, 0.5)
    # At equal shares of both classes the odds of a predictive value are the likelihood ratio.
    tp, fp, tn, fn = outcomes.sum(axis=0)
    positive = _if_called(_estimate(_positive_predictive_value(0.5), outcomes), tp + fp)
    negative = _if_called(_estimate(_negative_predictive_value(0.5), outcomes), tn + fn)
    return result | {
        "ppv": _if_called(_estimate(_positive_predictive_value(used), outcomes), tp + fp),
        "npv": _if_called(_estimate(_negative_predictive_value(used), outcomes), tn + fn),
        "positive_likelihood_ratio": {name: _odds(value) for name, value in positive.items()},
        "negative_likelihood_ratio": {
            "value": _odds(_complement(negative["value"])),
            "low": _odds(_complement(negative["high"])),
            "high": _odds(_complement(negative["low"])),
        },
        "sensitivity_at_specificity": [_sensitivity_at(patients, rate) for rate in RATES],
        "specificity_at_sensitivity": [_specificity_at(patients, rate) for rate in RATES],
        "decision_curve": _decision_curve(patients, used),
        "patients_needed": None if auc is None else patients_for_auc(auc, WIDTH, share),
    }


def check_prevalence(prevalence: float | None) -> None:
    """Checks the argument of :func:`describe`, before predictions are computed.

    Raises:
        UserError: it is not between 0 and 1.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise UserError(
            f"the prevalence {prevalence} is out of range: give a share between 0 and 1, for "
            "example 0.1."
        )


def _outcomes(patients: Predictions, threshold: float) -> np.ndarray:
    called = patients.probability >= threshold - 1e-12  # a mean of equal numbers is rounded
    return count_outcomes(patients.label == 1, called, np.arange(len(patients)), len(patients))


def _estimate(
    rule: Callable[[float, float], float], outcomes: np.ndarray
) -> dict[str, float | None]:
    """Returns a function of sensitivity and specificity with its interval."""
    tp, fp, tn, fn = outcomes.sum(axis=0)
    low, high = rates_bounds(rule, outcomes, "exact")
    return {"value": float(rule(tp / (tp + fn), tn / (tn + fp))), "low": low, "high": high}


def _if_called(estimate: dict[str, float | None], called: float) -> dict[str, float | None]:
    """Returns the estimate without its value where nobody is called, benign or malignant."""
    return estimate if called else {**estimate, "value": None}


def _positive_predictive_value(prevalence: float) -> Callable[[float, float], float]:
    def rule(sensitivity: float, specificity: float) -> float:
        right = prevalence * sensitivity
        return right / (right + (1 - prevalence) * (1 - specificity)) if right else 0.0

    return rule


def _negative_predictive_value(prevalence: float) -> Callable[[float, float], float]:
    opposite = _positive_predictive_value(1 - prevalence)
    return lambda sensitivity, specificity: opposite(specificity, sensitivity)


def _net_benefit(prevalence: float, threshold: float) -> Callable[[float, float], float]:
    weight = threshold / (1 - threshold)  # of a false alarm

    def rule(sensitivity: float, specificity: float) -> float:
        return prevalence * sensitivity - (1 - prevalence) * (1 - specificity) * weight

    return rule


def _odds(share: float | None) -> float | None:
    return None if share is None or share >= 1 else share / (1 - share)


def _complement(share: float | None) -> float | None:
    return None if share is None else 1 - share


def _sensitivity_at(patients: Predictions, specificity: float) -> dict[str, float | None]:
    mirrored = choose_threshold(
        1 - patients.label, 1 - patients.probability, f"sensitivity>={specificity}"
    )
    threshold = 1 - mirrored[0]
    if (patients.probability[patients.label == 0] < threshold).mean() < specificity - 1e-12:
        # A benign patient has the probability 1: only calling nobody keeps the specificity.
        return _point(patients, specificity, 0.0, None)
    value = float((patients.probability[patients.label == 1] >= threshold).mean())
    return _point(patients, specificity, value, threshold)


def _specificity_at(patients: Predictions, sensitivity: float) -> dict[str, float | None]:
    threshold, _ = choose_threshold(
        patients.label, patients.probability, f"sensitivity>={sensitivity}"
    )
    value = float((patients.probability[patients.label == 0] < threshold).mean())
    mirrored = dataclasses.replace(
        patients, label=1 - patients.label, probability=1 - patients.probability
    )
    return _point(mirrored, sensitivity, value, threshold)


def _point(
    patients: Predictions, at: float, value: float, threshold: float | None
) -> dict[str, float | None]:
    """Returns an operating point; ``value`` is the sensitivity of ``patients``."""
    ((low,), (high,)) = sensitivity_bounds(patients, np.array([1 - at]), exact=True)
    return {
        "at": at,
        "value": value,
        "low": min(float(low), value),
        "high": max(float(high), value),
        "threshold": threshold,
    }


def _decision_curve(patients: Predictions, prevalence: float) -> dict[str, list[float]]:
    curve: dict[str, list[float]] = {
        name: [] for name in ("threshold", "net_benefit", "low", "high", "treat_all")
    }
    for threshold in THRESHOLDS.tolist():
        rule = _net_benefit(prevalence, threshold)
        estimate = _estimate(rule, _outcomes(patients, threshold))
        row = (threshold, *estimate.values(), rule(1.0, 0.0))
        for column, value in zip(curve.values(), row, strict=True):
            column.append(value)
    return curve
