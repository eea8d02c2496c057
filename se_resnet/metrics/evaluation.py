"""Metrics of a classifier per image and per patient, each with an interval.

Malignant is the positive class. An image or a patient is predicted malignant if its probability is
at least the threshold. A patient is an accession. A patient is malignant if any image of the
patient is malignant. The patient score and the recognition rates are those of Spanhol et al.,
"A Dataset for Breast Cancer Histopathological Image Classification" (IEEE TBME 2016). Later papers
define "patient accuracy" differently. The accuracy of the mean probability and of the majority vote
are therefore reported beside the recognition rate, under separate names.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.binary import confusion
from se_resnet.metrics.bootstrap import estimate, resample
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.resampled import (
    Patients,
    ResampledMetric,
    all_metrics,
    map_metrics,
    mean_metric,
)

# The main metrics, and their paths in the results of `evaluate`.
HEADLINE: dict[str, tuple[str, ...]] = {
    "image_accuracy": ("image", "accuracy"),
    "image_balanced_accuracy": ("image", "balanced_accuracy"),
    "image_roc_auc": ("image", "roc_auc"),
    "patient_recognition_rate": ("patient", "recognition_rate"),
    "patient_accuracy": ("patient", "mean_probability", "accuracy"),
    "patient_roc_auc": ("patient", "mean_probability", "roc_auc"),
}


def evaluate(
    predictions: Predictions, threshold: float = 0.5, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Computes all metrics of one set of predictions, ready for JSON.

    Each metric is an estimate ``{"value", "low", "high"}``. The interval is the 95 % percentile
    bootstrap over accessions (the cluster bootstrap, Davison and Hinkley 1997, section 3.8):
    accessions are resampled with replacement, unstratified by class, with all their images. The
    interval therefore applies to new patients, not to new images of the same patients. It ignores
    resamples in which the metric is undefined.

    An undefined metric is ``{"value": None, "low": None, "high": None, "reason": "..."}``, for
    example AUC with a single class, or precision if nothing is predicted malignant. If the images a
    metric depends on come from a single accession, the value is given, ``low`` and ``high`` are
    None, and ``reason`` is added: the same accession resampled many times carries no information
    about other accessions.

    Args:
        predictions: N >= 1 images.
        threshold: minimum probability, in [0, 1], of the prediction malignant.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.

    Returns:
        ``image``: the metrics of ``METRIC_NAMES``, ``recognition_rate`` (the accuracy, as the
        authors of BreaKHis name it) and ``confusion`` (``tp``, ``fp``, ``tn``, ``fn``).

        ``patient``: ``recognition_rate``, the mean over patients of the patient score (correct
        images / images); ``recognition_rate_benign`` and ``recognition_rate_malignant``, the same
        mean over the patients of one class; ``mean_probability``, the metrics of ``METRIC_NAMES``
        and ``confusion`` of the mean probability of each patient; ``majority_vote``, accuracy,
        precision, recall, specificity, F1, MCC and ``confusion`` of the majority vote of the
        images; ``patients``, one row per patient. A tied vote counts as malignant, because a false
        alarm harms a patient less than a missed tumour.

        ``by_magnification``: ``"40"``, ...: the entries of ``image`` and
        ``patient_recognition_rate`` for the images of one magnification and their accessions.

        ``by_subtype``: ``"A"``, ``"F"``, ...: ``images`` and ``accessions`` (counts), ``accuracy``
        and ``patient_recognition_rate``. A subtype has a single class, so other metrics are
        undefined. Benign subtypes come first, sorted by name within each class.

        ``counts``: ``images``, ``slides`` and ``accessions``, each for ``all``, ``benign`` and
        ``malignant``. ``threshold``, ``resamples`` and ``seed`` are returned unchanged.

    Raises:
        UserError: there is no image, or ``threshold`` or ``resamples`` is out of range.
    """
    if not len(predictions):
        raise UserError(
            "there are no predictions to evaluate: choose a split that contains images."
        )
    if not 0 <= threshold <= 1:
        raise UserError(
            f"the threshold {threshold} is not a probability: choose a number from 0 to 1."
        )

    image, patient = _image_and_patient(predictions, threshold, resamples, seed)
    by_magnification = {}
    for magnification in np.unique(predictions.magnification):
        subset = predictions.take(predictions.magnification == magnification)
        image_metrics, patient_metrics = _image_and_patient(subset, threshold, resamples, seed)
        image_metrics["patient_recognition_rate"] = patient_metrics["recognition_rate"]
        by_magnification[str(magnification)] = image_metrics
    return {
        "image": image,
        "patient": patient,
        "by_magnification": by_magnification,
        "by_subtype": _by_subtype(predictions, threshold, resamples, seed),
        "counts": _counts(predictions, patient["patients"]),
        "threshold": float(threshold),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def headline(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the metrics of ``HEADLINE`` by name, from the results of :func:`evaluate`."""
    return {
        name: functools.reduce(dict.__getitem__, path, results) for name, path in HEADLINE.items()
    }


def _image_and_patient(
    predictions: Predictions, threshold: float, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    names, group, weights = resample(predictions.accession, resamples, seed)
    estimates = map_metrics(
        ResampledMetric.estimate, all_metrics(predictions, threshold, group, weights)
    )
    image, patient = estimates["image"], estimates["patient"]
    patients = Patients.of(predictions, threshold, group)
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    image["confusion"] = confusion(label, predicted)
    patient["mean_probability"]["confusion"] = confusion(
        patients.malignant, patients.malignant_by_mean
    )
    patient["majority_vote"]["confusion"] = confusion(
        patients.malignant, patients.malignant_by_vote
    )
    patient["patients"] = [
        {
            "accession": str(name),
            "label": int(patients.malignant[i]),
            "images": int(patients.images[i]),
            "correct": int(patients.correct[i]),
            "patient_score": float(patients.correct[i] / patients.images[i]),
            "mean_probability": float(patients.mean_probability[i]),
        }
        for i, name in enumerate(names)
    ]
    return image, patient


def _by_subtype(
    predictions: Predictions, threshold: float, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    order = np.lexsort((predictions.subtype, predictions.label))
    metrics = {}
    for subtype in dict.fromkeys(predictions.subtype[order].tolist()):
        subset = predictions.take(predictions.subtype == subtype)
        names, group, weights = resample(subset.accession, resamples, seed)
        correct = (subset.probability >= threshold) == (subset.label == 1)
        images, correct_images = np.bincount(group), np.bincount(group, correct)
        accuracy = (weights @ correct_images) / (weights @ images)
        all_patients = np.ones(len(names), bool)
        recognition_rate = mean_metric(correct_images / images, all_patients, "", weights)
        metrics[subtype] = {
            "images": len(subset),
            "accessions": len(names),
            "accuracy": estimate(accuracy, "image", {}, len(names)),
            "patient_recognition_rate": recognition_rate.estimate(),
        }
    return metrics


def _counts(predictions: Predictions, patients: list[dict]) -> dict[str, dict[str, int]]:
    malignant = predictions.label == 1
    malignant_patients = sum(row["label"] for row in patients)
    return {
        "images": {
            "all": len(predictions),
            "benign": int((~malignant).sum()),
            "malignant": int(malignant.sum()),
        },
        "slides": {
            "all": len(np.unique(predictions.slide)),
            "benign": len(np.unique(predictions.slide[~malignant])),
            "malignant": len(np.unique(predictions.slide[malignant])),
        },
        "accessions": {
            "all": len(patients),
            "benign": len(patients) - malignant_patients,
            "malignant": malignant_patients,
        },
    }
