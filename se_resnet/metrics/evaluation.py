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
from se_resnet.metrics.agreement import magnification_agreement
from se_resnet.metrics.binary import confusion
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import Metric
from se_resnet.metrics.levels import (
    Patients,
    all_metrics,
    map_metrics,
    mean_metric,
    share_metric,
)
from se_resnet.metrics.permutation import auc_p_value
from se_resnet.metrics.predictions import Predictions

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
    predictions: Predictions,
    threshold: float | np.ndarray = 0.5,
    permutations: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes all metrics of one set of predictions, ready for JSON.

    Each metric is an estimate: ``value``, the bounds ``low`` and ``high`` of its 95 % interval,
    ``method`` (a name of :data:`se_resnet.metrics.estimates.METHODS`), and ``patients`` and
    ``effective_patients``, for ``all``, ``benign`` and ``malignant``, that it rests on. The
    interval applies to new patients, not to new images of the same patients. Effective patients
    are fewer than patients where some have more images than others
    (:func:`se_resnet.metrics.intervals.kish`). ``remark`` is added to the estimate where a class
    that it needs has fewer than 4 patients: too few to tell.

    An undefined metric has the value None and a ``reason``, for example AUC with a single class,
    or precision if nothing is predicted malignant. If the images a metric depends on come from a
    single accession, the value is given, ``low`` and ``high`` are None, and ``reason`` is added: a
    single patient carries no information about the difference between patients.

    In a cross-validation, ``roc_auc`` is the share of correctly ordered pairs within the folds.
    ``roc_auc_pooled``, which also ranks images of different networks against each other, is added
    beside it.

    Args:
        predictions: N >= 1 images.
        threshold: minimum probability, in [0, 1], of the prediction malignant; or one for each
            image, ``float64 [N]``, where folds have their own. A patient gets the lowest
            of its images.
        permutations: number of permutations of the p-values, at least 1.
        seed: seed of the permutations.

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

        ``magnification_agreement``: of the calls for a patient, see
        :func:`se_resnet.metrics.agreement.magnification_agreement`.

        ``by_subtype``: ``"A"``, ``"F"``, ...: ``images`` and ``accessions`` (counts), ``accuracy``
        and ``patient_recognition_rate``. A subtype has a single class, so other metrics are
        undefined. Benign subtypes come first, sorted by name within each class.

        ``counts``: ``images``, ``slides`` and ``accessions``, each for ``all``, ``benign`` and
        ``malignant``. ``p_value``: of the ``image`` and the ``patient`` ROC AUC, see
        :func:`se_resnet.metrics.permutation.auc_p_value`; ``resamples`` is the number of their
        permutations. ``threshold`` (the mean, if
        there are several) and ``seed`` are returned unchanged.

    Raises:
        UserError: there is no image, or ``threshold`` or ``permutations`` is out of range.
    """
    if not len(predictions):
        raise UserError(
            "there are no predictions to evaluate: choose a split that contains images."
        )
    thresholds = np.broadcast_to(np.asarray(threshold, float), len(predictions))
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise UserError(
            f"the threshold {threshold} is not a probability: choose a number from 0 to 1."
        )

    image, patient = image_and_patient(predictions, thresholds)
    by_magnification = {}
    for magnification in np.unique(predictions.magnification):
        chosen = predictions.magnification == magnification
        image_metrics, patient_metrics = image_and_patient(
            predictions.take(chosen), thresholds[chosen]
        )
        image_metrics["patient_recognition_rate"] = patient_metrics["recognition_rate"]
        by_magnification[str(magnification)] = image_metrics
    return {
        "image": image,
        "patient": patient,
        "by_magnification": by_magnification,
        "magnification_agreement": magnification_agreement(predictions, thresholds),
        "by_subtype": _by_subtype(predictions, thresholds),
        "counts": _counts(predictions, patient["patients"]),
        "p_value": auc_p_value(predictions, permutations, seed),
        "threshold": float(thresholds.mean()),
        "resamples": int(permutations),
        "seed": int(seed),
    }


def headline(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the metrics of ``HEADLINE`` by name, from the results of :func:`evaluate`."""
    return {
        name: functools.reduce(dict.__getitem__, path, results) for name, path in HEADLINE.items()
    }


def image_and_patient(
    predictions: Predictions, threshold: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the parts ``image`` and ``patient`` of :func:`evaluate`.

    Args:
        predictions: N >= 1 images.
        threshold: ``float64 [N]``, see :func:`evaluate`.
    """
    cohort = Cohort.of(predictions)
    estimates = map_metrics(Metric.estimate, all_metrics(predictions, threshold, cohort))
    image, patient = estimates["image"], estimates["patient"]
    patients = Patients.of(predictions, threshold, cohort.group)
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
        for i, name in enumerate(cohort.accession)
    ]
    return image, patient


def _by_subtype(predictions: Predictions, threshold: np.ndarray) -> dict[str, dict[str, Any]]:
    order = np.lexsort((predictions.subtype, predictions.label))
    metrics = {}
    for subtype in dict.fromkeys(predictions.subtype[order].tolist()):
        chosen = predictions.subtype == subtype
        subset = predictions.take(chosen)
        cohort = Cohort.of(subset)
        correct = (subset.probability >= threshold[chosen]) == (subset.label == 1)
        correct_images = np.bincount(cohort.group, correct)
        score = correct_images / cohort.images.sum(axis=1)
        everyone = np.ones(len(cohort), bool)
        metrics[subtype] = {
            "images": len(subset),
            "accessions": len(cohort),
            "accuracy": share_metric(correct_images, cohort.images, "image", {}, cohort).estimate(),
            "patient_recognition_rate": mean_metric(score, everyone, "", cohort).estimate(),
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
