"""Every metric of images and of patients under the resamples of the bootstrap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from se_resnet.metrics.binary import NEEDS, OUTCOMES, binary_metrics, tally_outcomes
from se_resnet.metrics.bootstrap import estimate
from se_resnet.metrics.predictions import Predictions

_VOTE_NAMES = ("accuracy", "precision", "recall", "specificity", "f1", "mcc")


@dataclasses.dataclass(frozen=True)
class ResampledMetric:
    """A metric's estimate and resamples, with what :func:`estimate` needs to judge them."""

    values: np.ndarray
    unit: str
    supply: dict[str, np.ndarray]
    accessions: int

    def estimate(self) -> dict[str, Any]:
        """The value with its interval, or the reason why there is none."""
        return estimate(self.values, self.unit, self.supply, self.accessions)


@dataclasses.dataclass(frozen=True)
class Patients:
    """Columns with one row per accession."""

    malignant: np.ndarray
    images: np.ndarray
    correct: np.ndarray
    mean_probability: np.ndarray
    called: np.ndarray
    vote: np.ndarray
    voted: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions, threshold: float, group: np.ndarray) -> Patients:
        """Joins images; ``group`` is ``int [N]``, the accession of each."""
        predicted = predictions.probability >= threshold
        images = np.bincount(group)
        mean_probability = np.bincount(group, predictions.probability) / images
        votes = np.bincount(group, predicted).astype(int)
        return cls(
            malignant=np.bincount(group, predictions.label) > 0,
            images=images,
            correct=np.bincount(group, (predictions.label == 1) == predicted).astype(int),
            mean_probability=mean_probability,
            called=mean_probability >= threshold,
            vote=votes / images,
            voted=2 * votes >= images,
        )


def all_metrics(
    predictions: Predictions, threshold: float, group: np.ndarray, weights: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Every metric at ``image`` and ``patient`` level; the first row of ``weights`` estimates."""
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    image = _metric_draws("image", label, predictions.probability, predicted, group, weights)
    image["recognition_rate"] = image["accuracy"]

    # One unit per group from here on: the patient.
    patients = Patients.of(predictions, threshold, group)
    malignant, own = patients.malignant, np.arange(weights.shape[1])
    by_mean, by_vote = (
        _metric_draws("patient", malignant, probability, called, own, weights)
        for probability, called in (
            (patients.mean_probability, patients.called),
            (patients.vote, patients.voted),
        )
    )
    score = patients.correct / patients.images
    patient = {
        "recognition_rate": mean_metrics(score, np.ones_like(malignant), "", weights),
        "recognition_rate_benign": mean_metrics(score, ~malignant, "benign", weights),
        "recognition_rate_malignant": mean_metrics(score, malignant, "malignant", weights),
        "mean_probability": by_mean,
        "majority_vote": {name: by_vote[name] for name in _VOTE_NAMES},
    }
    return {"image": image, "patient": patient}


def map_metrics(function: Callable[..., Any], *trees: dict[str, Any]) -> dict[str, Any]:
    """Applies ``function`` to the draws in the same place of each tree."""
    return {
        key: function(*parts)
        if isinstance(parts[0], ResampledMetric)
        else map_metrics(function, *parts)
        for key, *parts in ((key, *(tree[key] for tree in trees)) for key in trees[0])
    }


def mean_metrics(
    score: np.ndarray, chosen: np.ndarray, need: str, weights: np.ndarray
) -> ResampledMetric:
    """The mean of ``score [G]`` over the ``chosen [G]`` accessions."""
    with np.errstate(invalid="ignore"):
        values = (weights @ (score * chosen)) / (weights @ chosen)
    return ResampledMetric(values, "patient", {need: chosen} if need else {}, len(score))


def _metric_draws(
    unit: str,
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Any]:
    values = binary_metrics(label, probability, predicted, group, weights)
    tally = tally_outcomes(label, predicted, group, weights.shape[1])
    return {
        name: ResampledMetric(
            values[name],
            unit,
            {need: np.asarray(tally[:, OUTCOMES[need]].sum(axis=1) > 0) for need in needs},
            weights.shape[1],
        )
        for name, needs in NEEDS.items()
    }
