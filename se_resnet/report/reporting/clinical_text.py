"""Sentences about the use of the predictions: predictive values, likelihood ratios, net benefit.

Every function returns an empty text for a version that did not record the part ``clinical`` of
``metrics.json``, see :func:`se_resnet.metrics.clinical.describe`.
"""

from __future__ import annotations

from collections.abc import Mapping

from se_resnet.report.reporting.study import Study
from se_resnet.report.reporting.wording import listing, sentence

_RATIOS = {
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "positive_likelihood_ratio": "positive likelihood ratio",
    "negative_likelihood_ratio": "negative likelihood ratio",
}


def measures(study: Study) -> str:
    """Names the measures and the prevalence that they assume."""
    clinical = study.metrics.get("clinical")
    if not clinical or "reason" in clinical:
        return ""
    origin = "a given value" if clinical["prevalence_given"] else "that of the evaluated patients"
    return sentence(
        "the use for patients was measured by predictive values and likelihood ratios, by the "
        "sensitivity at given specificities and the reverse, and by the net benefit in a decision "
        f"curve (Vickers and Elkin 2006), at a prevalence of {100 * clinical['prevalence']:.3g} % "
        f"({origin})"
    )


def values(study: Study) -> str:
    """States predictive values, likelihood ratios and operating points."""
    clinical = study.metrics.get("clinical")
    if not clinical:
        return ""
    if "reason" in clinical:
        return sentence(f"predictive values are undefined: {clinical['reason']}")
    parts = [f"{label} {_ratio(clinical[name])}" for name, label in _RATIOS.items()]
    for name, rate, given in (
        ("sensitivity_at_specificity", "sensitivity", "specificity"),
        ("specificity_at_sensitivity", "specificity", "sensitivity"),
    ):
        parts += [f"{rate} at {given} {point['at']:g}: {_ratio(point)}" for point in clinical[name]]
    remark = f" ({clinical['remark']})" if "remark" in clinical else ""
    return sentence(
        f"for patients at a prevalence of {100 * clinical['prevalence']:.3g} %{remark}: "
        f"{listing(parts)}"
    )


def patients_needed(study: Study) -> str:
    """States the number of patients for an interval of the AUC of width 0.1."""
    needed = (study.metrics.get("clinical") or {}).get("patients_needed")
    if needed is None:
        return ""
    return sentence(
        "an interval of width 0.1 for the ROC AUC of patients, at the value found here, would need "
        f"about {needed:,} patients"
    )


def _ratio(estimate: Mapping[str, float | None]) -> str:
    value, low, high = (
        "infinite or undefined" if (number := estimate[name]) is None else f"{number:.3f}"
        for name in ("value", "low", "high")
    )
    return f"{value} (95 % interval {low} to {high})"
