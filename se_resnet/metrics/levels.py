"""All metrics of images and of patients, each with what its interval rests on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.metrics.binary import (
    OUTCOMES,
    RATIOS,
    REQUIREMENTS,
    binary_metrics,
    count_outcomes,
    precision_at_rank,
)
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import Metric, variance_of_classes, variance_over
from se_resnet.metrics.intervals import (
    clopper_pearson,
    image_auc_interval,
    newcombe_auc,
    share_interval,
)
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions

_VOTE_NAMES = ("accuracy", "precision", "recall", "specificity", "f1", "mcc")
_BOTH_CLASSES = ("balanced_accuracy", "roc_auc", "roc_auc_pooled", "average_precision", "mcc")


@dataclasses.dataclass(frozen=True)
class Patients:
    """Columns with one row per accession.

    Attributes:
        malignant: ``bool [G]``, true where any image of the patient is malignant.
        images: ``int [G]``, number of images.
        correct: ``int [G]``, number of correctly classified images.
        mean_probability: ``float64 [G]``, mean over the images.
        malignant_by_mean: ``bool [G]``, the prediction of the mean probability.
        vote_share: ``float64 [G]``, fraction of the images that are predicted malignant.
        malignant_by_vote: ``bool [G]``, the prediction of the majority vote.
    """

    malignant: np.ndarray
    images: np.ndarray
    correct: np.ndarray
    mean_probability: np.ndarray
    malignant_by_mean: np.ndarray
    vote_share: np.ndarray
    malignant_by_vote: np.ndarray

    @classmethod
    def of(
        cls, predictions: Predictions, threshold: float | np.ndarray, group: np.ndarray
    ) -> Patients:
        """Aggregates the images of each patient.

        Args:
            predictions: N images.
            threshold: of all images, or ``float64 [N]``; a patient gets the lowest of its images.
            group: ``int [N]``, the patient of each image.
        """
        predicted = predictions.probability >= threshold
        images = np.bincount(group)
        mean_probability = np.bincount(group, predictions.probability) / images
        threshold_of = np.ones(len(images))
        np.minimum.at(threshold_of, group, threshold)
        votes = np.bincount(group, predicted).astype(int)
        return cls(
            malignant=np.bincount(group, predictions.label) > 0,
            images=images,
            correct=np.bincount(group, (predictions.label == 1) == predicted).astype(int),
            mean_probability=mean_probability,
            malignant_by_mean=mean_probability >= threshold_of - 1e-12,  # rounding of the mean
            vote_share=votes / images,
            malignant_by_vote=2 * votes >= images,
        )


def all_metrics(
    predictions: Predictions, threshold: float | np.ndarray, cohort: Cohort
) -> dict[str, dict[str, Any]]:
    """Computes every metric at ``image`` and ``patient`` level, as trees of :class:`Metric`.

    Where the images come from several folds, ``roc_auc`` counts pairs within folds, and
    ``roc_auc_pooled`` counts all pairs.
    """
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    units = _Units("image", label, predictions.probability, cohort.group, cohort.fold, cohort)
    image = units.metrics(predicted)
    image["recognition_rate"] = image["accuracy"]

    patients = Patients.of(predictions, threshold, cohort.group)
    # From here on each group has a single unit, the patient.
    group, fold = np.arange(len(cohort)), np.zeros(len(cohort), int)
    by_mean, by_vote = (
        _Units("patient", patients.malignant, probability, group, fold, cohort).metrics(predicted)
        for probability, predicted in (
            (patients.mean_probability, patients.malignant_by_mean),
            (patients.vote_share, patients.malignant_by_vote),
        )
    )
    if cohort.fold.any():
        by_mean["roc_auc_pooled"] = by_mean["roc_auc"]
        by_mean["roc_auc"] = _patient_auc_within_folds(predictions, cohort)
    score = patients.correct / patients.images
    malignant = patients.malignant
    patient = {
        "recognition_rate": mean_metric(score, np.ones_like(malignant), "", cohort),
        "recognition_rate_benign": mean_metric(score, ~malignant, "benign", cohort),
        "recognition_rate_malignant": mean_metric(score, malignant, "malignant", cohort),
        "mean_probability": by_mean,
        "majority_vote": {name: by_vote[name] for name in _VOTE_NAMES},
    }
    return {"image": image, "patient": patient}


def patients_as_units(predictions: Predictions) -> Predictions:
    """Returns one row per patient with its mean probability, for curves and rates of patients.

    Fold, magnification and subtype are meaningless.
    """
    cohort = Cohort.of(predictions)
    patients = Patients.of(predictions, 0.5, cohort.group)
    first = np.unique(cohort.group, return_index=True)[1]
    return dataclasses.replace(
        predictions.take(first),
        label=patients.malignant.astype(np.int64),
        probability=patients.mean_probability,
        fold=np.zeros(len(cohort), np.int64),
    )


def map_metrics(function: Callable[..., Any], *trees: dict[str, Any]) -> dict[str, Any]:
    """Applies ``function`` to the metrics at the same position of each tree."""
    return {
        key: function(*entries)
        if isinstance(entries[0], Metric)
        else map_metrics(function, *entries)
        for key, *entries in ((key, *(tree[key] for tree in trees)) for key in trees[0])
    }


def mean_metric(
    score: np.ndarray, selected: np.ndarray, requirement: str, cohort: Cohort
) -> Metric:
    """Averages ``score [G]`` over the ``selected [G]`` accessions.

    ``requirement`` names the selected accessions in the reason for an undefined mean. It is empty
    where all accessions are selected.
    """
    sizes = np.stack([selected & ~cohort.malignant, selected & cohort.malignant], axis=1)
    present = {requirement: selected} if requirement else {}
    return share_metric(score * selected, sizes.astype(float), "patient", present, cohort)


def share_metric(
    right: np.ndarray,
    sizes: np.ndarray,
    unit: str,
    present: dict[str, np.ndarray],
    cohort: Cohort,
) -> Metric:
    """Returns the ratio of ``right [G]`` to ``sizes [G, 2]``, each summed over the patients."""
    size = sizes.sum(axis=1)
    with np.errstate(invalid="ignore"):
        values = (cohort.weights @ right) / (cohort.weights @ size)
    return Metric(values, sizes, unit, present, lambda: tuple(share_interval(right, size)), "share")


@dataclasses.dataclass(frozen=True)
class _Units:
    """Images or patients, whose metrics are computed.

    Attributes:
        unit: ``image`` or ``patient``.
        label: ``bool [n]``, true for malignant.
        probability: ``float64 [n]``.
        group: ``int [n]``, the patient of each unit.
        fold: ``int [n]``, the fold of each unit.
        cohort: the patients.
    """

    unit: str
    label: np.ndarray
    probability: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    cohort: Cohort

    def metrics(self, predicted: np.ndarray) -> dict[str, Metric]:
        """Returns the metrics of ``REQUIREMENTS`` for a prediction, ``bool [n]``."""
        outcomes = count_outcomes(self.label, predicted, self.group, len(self.cohort))
        values = binary_metrics(
            self.label, self.probability, predicted, self.group, self.cohort.weights, self.fold
        )
        requirements = dict(REQUIREMENTS)
        if "roc_auc_pooled" in values:
            requirements["roc_auc_pooled"] = REQUIREMENTS["roc_auc"]
        present = {
            requirement: np.asarray(outcomes[:, columns].sum(axis=1) > 0)
            for requirement, columns in OUTCOMES.items()
        }
        exact = self.unit == "patient"
        metrics = {}
        for name, needed in requirements.items():
            counted = RATIOS[name][1] if name in RATIOS else range(4)
            sizes = np.stack(
                [
                    outcomes[:, sorted({*counted} & {*OUTCOMES[of]})].sum(axis=1)
                    for of in CLASS_NAMES
                ],
                axis=1,
            )
            if name == "roc_auc" and self.fold.any():
                sizes = self._sizes_in_pairs()
            bounds, method = self._bounds(name, values[name], outcomes, exact)
            metrics[name] = Metric(
                values[name],
                sizes,
                self.unit,
                {requirement: present[requirement] for requirement in needed},
                bounds,
                method,
                name in _BOTH_CLASSES,
                2.0 if name == "mcc" else 1.0,
            )
        return metrics

    def _bounds(
        self, name: str, values: np.ndarray, outcomes: np.ndarray, exact: bool
    ) -> tuple[Callable[[], tuple[float, float]], str]:
        """Returns the function that computes the interval of a metric, and its method."""
        if name in RATIOS:
            method = "exact" if exact and name != "f1" else "share"
            return lambda: ratio_bounds(name, outcomes, method), method
        if name == "brier":
            error = np.bincount(self.group, (self.probability - self.label) ** 2)
            size = outcomes.sum(axis=1)
            return lambda: tuple(share_interval(error, size)), "share"
        if name == "average_precision":
            return lambda: self._precision_bounds(values), "share"
        if name in ("balanced_accuracy", "mcc"):
            method = "exact" if exact else "share"
            function = balanced_accuracy if name == "balanced_accuracy" else matthews(outcomes)
            return lambda: rates_bounds(function, outcomes, method), "mover"
        patients = self._patients_by_fold(pooled=name == "roc_auc_pooled")
        if exact:
            return lambda: newcombe_auc(values[0], *patients.T), "newcombe"
        return lambda: self._auc_bounds(values, patients), "obuchowski"

    def _seen(self) -> np.ndarray:
        """``int [2, F, G]``: 1 where a patient has benign, or malignant, units in a fold."""
        folds = int(self.fold.max()) + 1
        seen = np.zeros((2, folds, len(self.cohort)), int)
        seen[self.label.astype(int), self.fold, self.group] = 1
        return seen

    def _patients_by_fold(self, pooled: bool) -> np.ndarray:
        """Counts benign and malignant patients by fold: ``int [F, 2]``.

        All patients count as one fold if ``pooled``, or where a patient is in several folds, which
        then are no independent samples.
        """
        seen = self._seen()
        if pooled or (seen.max(axis=0).sum(axis=0) > 1).any():
            seen = seen.max(axis=1, keepdims=True)
        return seen.sum(axis=2).T

    def _sizes_in_pairs(self) -> np.ndarray:
        """Counts the units of folds with both classes: ``float64 [G, 2]``."""
        both = (self._seen().max(axis=2).min(axis=0) > 0)[self.fold]
        return np.stack(
            [
                np.bincount(self.group, both & (self.label == value), minlength=len(self.cohort))
                for value in (False, True)
            ],
            axis=1,
        )

    def _auc_bounds(self, values: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
        sizes = self.cohort.images.sum(axis=1)
        spread = variance_of_classes(values, self.cohort.malignant, sizes)
        return image_auc_interval(values[0], *spread, *patients.T)

    def _precision_bounds(self, values: np.ndarray) -> tuple[float, float]:
        """Returns the interval of average precision, a mean over malignant units.

        The variance between malignant patients is that of a share. The variance between benign
        patients, who change the precision at each malignant unit, is added.
        """
        groups = len(self.cohort)
        precision = precision_at_rank(self.label, self.probability) * self.label
        benign = ~self.cohort.malignant
        low, high = share_interval(
            np.bincount(self.group, precision, minlength=groups),
            np.bincount(self.group, self.label, minlength=groups),
            *variance_over(values, benign, self.cohort.images[:, 0]),
        )
        return float(low), float(high)


def ratio_bounds(name: str, outcomes: np.ndarray, method: str) -> tuple[float, float]:
    """Returns the interval of a metric of ``RATIOS``.

    Args:
        name: of the metric.
        outcomes: ``float64 [G, 4]``, of :func:`~se_resnet.metrics.binary.count_outcomes`.
        method: ``exact`` for one unit per patient, or ``share``.
    """
    right, size = (outcomes[:, list(columns)].sum(axis=1) for columns in RATIOS[name])
    if method == "exact":
        low, high = clopper_pearson(right.sum(), size.sum())
    else:
        low, high = share_interval(right, size)
    return float(low), float(high)


def balanced_accuracy(recall: float, specificity: float) -> float:
    """Returns the mean of recall and specificity."""
    return (recall + specificity) / 2


def matthews(outcomes: np.ndarray) -> Callable[[float, float], float]:
    """Returns the Matthews correlation as a function of recall and specificity.

    The share of malignant units is that of ``outcomes [G, 4]``.
    """
    malignant = outcomes[:, OUTCOMES["malignant"]].sum() / outcomes.sum()

    def correlation(recall: float, specificity: float) -> float:
        called = malignant * recall + (1 - malignant) * (1 - specificity)
        scale = np.sqrt(malignant * (1 - malignant) / max(called * (1 - called), 1e-300))
        return (recall + specificity - 1) * scale

    return correlation


def rates_bounds(
    function: Callable[[float, float], float], outcomes: np.ndarray, method: str
) -> tuple[float, float]:
    """Returns the interval of a function of recall and specificity that grows with both.

    Benign and malignant patients are independent. The distances of the function to its values at
    one bound of one rate are squared and added (MOVER, Zou and Donner 2008).

    Args:
        function: of recall and specificity.
        outcomes: ``float64 [G, 4]``.
        method: ``exact`` for one unit per patient, or ``share``.
    """
    tp, fp, tn, fn = outcomes.sum(axis=0)
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    recalls, specificities = (
        ratio_bounds(name, outcomes, method) for name in ("recall", "specificity")
    )
    value = function(recall, specificity)
    distances = [
        np.hypot(value - function(one, specificity), value - function(recall, other))
        for one, other in zip(recalls, specificities, strict=True)
    ]
    low, high = value - distances[0], value + distances[1]
    ends = function(0.0, 0.0), function(1.0, 1.0)
    return float(max(low, ends[0])), float(min(high, ends[1]))


def _patient_auc_within_folds(predictions: Predictions, cohort: Cohort) -> Metric:
    """Returns the AUC of the mean probability of each patient, over pairs within folds.

    The unit is a patient in a fold, for the protocols that test a patient in several folds.
    """
    folds = int(cohort.fold.max()) + 1
    units, index = np.unique(cohort.group * folds + cohort.fold, return_inverse=True)
    images = np.bincount(index)
    group, fold = units // folds, units % folds
    mean = np.bincount(index, predictions.probability) / images
    label = np.bincount(index, predictions.label) > 0
    return _Units("patient", label, mean, group, fold, cohort).metrics(label)["roc_auc"]
