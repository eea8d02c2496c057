"""A metric with its interval, and the patients that both rest on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.metrics.intervals import degrees_of_freedom, kish, welch
from se_resnet.metrics.labels import CLASS_NAMES

# Names of the methods in ``method`` of an estimate, and what the report says of each.
METHODS = {
    "exact": "Clopper-Pearson interval with patients as units",
    "share": (
        "Student's t interval on the logit scale with the variance between patients (CR3), without "
        "and with half a patient added; the wider of both ends"
    ),
    "mover": "square-and-add interval (MOVER) from the intervals of recall and specificity",
    "newcombe": "score interval of Newcombe (2006, method 5) with patients as units",
    "obuchowski": (
        "Student's t interval on the logit scale with the variance between patients of each class "
        "(leaving one out), and Newcombe's interval at three independent images per patient; the "
        "wider of both ends"
    ),
    "two-level": "square-and-add interval (MOVER) of the intervals and the spread of the repeats",
    "jackknife": "Student's t interval with the variance from leaving out one patient at a time",
}
FEWEST = 4  # patients of a class below which an interval cannot tell anything
TOO_FEW = "too few patients to tell"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a cohort of G patients.

    Attributes:
        values: ``float64 [1 + G]``: the metric, then the metric without each patient; NaN where
            undefined.
        sizes: ``float64 [G, 2]``, the benign and the malignant units of each patient that the
            metric rests on.
        unit: the unit that is counted, for the reason: ``image`` or ``patient``.
        present: requirements of the metric, for example ``malignant``. Each maps to ``bool [G]``,
            true for the patients that meet it.
        bounds: returns the bounds of the 95 % interval.
        method: a name of ``METHODS``.
        both_classes: true where the metric compares the classes, such as an AUC. Its variance is
            then that between benign patients plus that between malignant patients.
        span: the largest possible difference of two values.
    """

    values: np.ndarray
    sizes: np.ndarray
    unit: str
    present: dict[str, np.ndarray]
    bounds: Callable[[], tuple[float, float]]
    method: str
    both_classes: bool = False
    span: float = 1.0

    def estimate(self) -> dict[str, Any]:
        """Returns the metric with its interval, ready for JSON.

        Returns:
            ``value``, ``low`` and ``high``; ``method``; ``patients`` and ``effective_patients``,
            each for ``all``, ``benign`` and ``malignant``. A missing value or bound is None, and
            ``reason`` explains it: no patient meets a requirement, or only one does. ``remark`` is
            added where a class that the metric needs has fewer than 4 patients.
        """
        reason = self.undefined_reason()
        if reason:
            return {"value": None, "low": None, "high": None, "reason": reason, **self._patients()}
        result: dict[str, Any] = {"value": float(self.values[0])}
        if reason := no_interval_reason(self.unit, self._sampled(), len(self.sizes)):
            return {**result, "low": None, "high": None, "reason": reason, **self._patients()}
        low, high = self.bounds()
        result |= {"low": float(low), "high": float(high), "method": self.method}
        if self.is_scarce():
            result["remark"] = TOO_FEW
        return result | self._patients()

    def undefined_reason(self) -> str:
        """Returns the reason why the metric has no value, or an empty string."""
        for requirement, meets in self.present.items():
            if not meets.any():
                return f"no {self.unit} is {requirement}"
        return "" if np.isfinite(self.values[0]) else "no fold contains both classes"

    def is_scarce(self) -> bool:
        """Returns true where a class that the metric needs has fewer than 4 patients."""
        counts = (self.sizes > 0).sum(axis=0)
        if self.both_classes:
            return bool(counts.min() < FEWEST)
        return bool((self.sizes.sum(axis=1) > 0).sum() < FEWEST)

    def _sampled(self) -> dict[str, np.ndarray]:
        """Returns the requirements that patients of a sample meet or not.

        A metric of both classes rests on the patients of each class, whatever was predicted.
        """
        if not self.both_classes:
            return self.present
        return {name: self.sizes[:, label] > 0 for label, name in enumerate(CLASS_NAMES)}

    def _patients(self) -> dict[str, dict[str, float]]:
        columns = {
            "all": self.sizes.sum(axis=1),
            "benign": self.sizes[:, 0],
            "malignant": self.sizes[:, 1],
        }
        return {
            "patients": {name: int((column > 0).sum()) for name, column in columns.items()},
            "effective_patients": {
                name: round(float(kish(column)), 1) if column.any() else 0.0
                for name, column in columns.items()
            },
        }


def no_interval_reason(unit: str, present: dict[str, np.ndarray], patients: int) -> str:
    """Returns the reason for a missing interval, or an empty string.

    A single patient carries no information about the difference between patients. The arguments
    are those of :class:`Metric`.
    """
    if patients < 2:
        return "only one patient"
    scarce = [requirement for requirement, meets in present.items() if meets.sum() < 2]
    if not scarce:
        return ""
    of_images = f"{scarce[0]} {unit}s of one patient only"
    return f"only one {scarce[0]} patient" if unit == "patient" else of_images


def variance_of_classes(
    values: np.ndarray, malignant: np.ndarray, sizes: np.ndarray
) -> tuple[float, float]:
    """Returns the variance between benign patients plus that between malignant patients.

    Args:
        values: ``float64 [1 + G]``, as in :class:`Metric`.
        malignant: ``bool [G]``.
        sizes: ``float64 [G]``, units of each patient.

    Returns:
        The sum, and its degrees of freedom (:func:`se_resnet.metrics.intervals.welch`).
    """
    benign_part, malignant_part = (
        variance_over(values, selected, sizes) for selected in (~malignant, malignant)
    )
    return benign_part[0] + malignant_part[0], float(welch(*benign_part, *malignant_part))


def variance_over(
    values: np.ndarray, selected: np.ndarray, sizes: np.ndarray
) -> tuple[float, float]:
    """Returns the variance of a metric between patients, by leaving out each (CR3).

    Args:
        values: ``float64 [1 + G]``, as in :class:`Metric`; NaN counts as the whole metric.
        selected: ``bool [G]``, the patients whose variance is wanted.
        sizes: ``float64 [G]``, units of each patient.

    Returns:
        The variance, and its degrees of freedom
        (:func:`se_resnet.metrics.intervals.degrees_of_freedom`). Without patients they are 0 and 1.
    """
    change = np.nan_to_num(values[1:][selected] - values[0])
    count = len(change)
    if not count or not sizes[selected].any():
        return 0.0, 1.0
    patients = np.count_nonzero(sizes[selected])
    freedom = float(degrees_of_freedom(change, kish(sizes[selected]), patients))
    return float((count - 1) / count * (change**2).sum()), freedom
