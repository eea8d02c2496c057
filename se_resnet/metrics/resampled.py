"""All metrics of images and of patients, for the estimate and for every bootstrap resample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.metrics.binary import OUTCOMES, REQUIREMENTS, binary_metrics, count_outcomes
from se_resnet.metrics.bootstrap import estimate
from se_resnet.metrics.predictions import Predictions

_VOTE_NAMES = ("accuracy", "precision", "recall", "specificity", "f1", "mcc")


@dataclasses.dataclass(frozen=True)
class ResampledMetric:
    """The estimate and the resamples of a metric; the fields are the arguments of `estimate`."""

    values: np.ndarray
    unit: str
    present: dict[str, np.ndarray]
    accessions: int

    def estimate(self) -> dict[str, Any]:
        """Returns the value with its interval, or with the reason for the missing interval."""
        return estimate(self.values, self.unit, self.present, self.accessions)


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
    def of(cls, predictions: Predictions, threshold: float, group: np.ndarray) -> Patients:
        """Aggregates the images of each patient; ``group`` is ``int [N]``, their accessions."""
        predicted = predictions.probability >= threshold
        images = np.bincount(group)
        mean_probability = np.bincount(group, predictions.probability) / images
        votes = np.bincount(group, predicted).astype(int)
        return cls(
            malignant=np.bincount(group, predictions.label) > 0,
            images=images,
            correct=np.bincount(group, (predictions.label == 1) == predicted).astype(int),
            mean_probability=mean_probability,
            malignant_by_mean=mean_probability >= threshold,
            vote_share=votes / images,
            malignant_by_vote=2 * votes >= images,
        )


def all_metrics(
    predictions: Predictions, threshold: float, group: np.ndarray, weights: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Computes every metric at ``image`` and ``patient`` level.

    The first row of ``weights`` gives the estimate, the others give the resamples.
    """
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    image = _resampled_metrics("image", label, predictions.probability, predicted, group, weights)
    image["recognition_rate"] = image["accuracy"]

    # From here on each group has a single unit, the patient.
    patients = Patients.of(predictions, threshold, group)
    malignant, patient_group = patients.malignant, np.arange(weights.shape[1])
    by_mean, by_vote = (
        _resampled_metrics("patient", malignant, probability, predicted, patient_group, weights)
        for probability, predicted in (
            (patients.mean_probability, patients.malignant_by_mean),
            (patients.vote_share, patients.malignant_by_vote),
        )
    )
    score = patients.correct / patients.images
    patient = {
        "recognition_rate": mean_metric(score, np.ones_like(malignant), "", weights),
        "recognition_rate_benign": mean_metric(score, ~malignant, "benign", weights),
        "recognition_rate_malignant": mean_metric(score, malignant, "malignant", weights),
        "mean_probability": by_mean,
        "majority_vote": {name: by_vote[name] for name in _VOTE_NAMES},
    }
    return {"image": image, "patient": patient}


def map_metrics(function: Callable[..., Any], *trees: dict[str, Any]) -> dict[str, Any]:
    """Applies ``function`` to the metrics at the same position of each tree."""
    return {
        key: function(*entries)
        if isinstance(entries[0], ResampledMetric)
        else map_metrics(function, *entries)
        for key, *entries in ((key, *(tree[key] for tree in trees)) for key in trees[0])
    }


def mean_metric(
    score: np.ndarray, selected: np.ndarray, requirement: str, weights: np.ndarray
) -> ResampledMetric:
    """Averages ``score [G]`` over the ``selected [G]`` accessions.

    ``requirement`` names the selected accessions in the reason for an undefined mean. It is empty
    where all accessions are selected.
    """
    with np.errstate(invalid="ignore"):
        values = (weights @ (score * selected)) / (weights @ selected)
    present = {requirement: selected} if requirement else {}
    return ResampledMetric(values, "patient", present, len(score))


def _resampled_metrics(
    unit: str,
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Any]:
    values = binary_metrics(label, probability, predicted, group, weights)
    outcomes = count_outcomes(label, predicted, group, weights.shape[1])
    return {
        name: ResampledMetric(
            values[name],
            unit,
            {
                requirement: np.asarray(outcomes[:, OUTCOMES[requirement]].sum(axis=1) > 0)
                for requirement in requirements
            },
            weights.shape[1],
        )
        for name, requirements in REQUIREMENTS.items()
    }
