"""How well a classifier does, per image and per patient, with an interval on every figure.

Malignant is the positive class; an image or a patient is called malignant when its probability is
at least the threshold. A patient is an accession, and a patient is malignant when any of the
patient's images is. The patient score and the recognition rates are those of Spanhol et al.,
"A Dataset for Breast Cancer Histopathological Image Classification" (IEEE TBME 2016). Later papers
mean other things by "patient accuracy", so the accuracy of the mean probability and of the majority
vote stand beside the recognition rate under their own names.
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
    mean_metrics,
)

# The figures to look at first, and where the results of `evaluate` hold them.
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
    """All figures of one set of predictions, ready for JSON.

    A figure is ``{"value", "low", "high"}``. The interval is the 95 % percentile bootstrap over
    accessions (the cluster bootstrap, Davison and Hinkley 1997, section 3.8): accessions are drawn
    with replacement, unstratified by class, and all images of a drawn accession follow, so that the
    interval speaks of new patients and not of new images of the same patients. Resamples in which a
    metric is undefined are left out of its interval.

    An undefined figure is ``{"value": None, "low": None, "high": None, "reason": "..."}``: AUC with
    one class only, precision when nothing is predicted malignant. Where all that a metric depends
    on comes from one accession, the value stands and ``low`` and ``high`` are None with the reason,
    because drawing one accession again and again says nothing about the next.

    Args:
        predictions: N >= 1 images.
        threshold: probability in [0, 1] from which an image or a patient is called malignant.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.

    Returns:
        ``image``: the metrics of ``METRIC_NAMES``, ``recognition_rate`` (the accuracy under its
        authors' name) and ``confusion`` (``tp``, ``fp``, ``tn``, ``fn``).

        ``patient``: ``recognition_rate`` (mean over patients of the patient score, that is of
        correct images / images), the same over the patients of one class as
        ``recognition_rate_benign`` and ``recognition_rate_malignant``; ``mean_probability``, the
        metrics of ``METRIC_NAMES`` and ``confusion`` of one probability per patient, the mean over
        its images; ``majority_vote``, accuracy, precision, recall, specificity, F1, MCC and
        ``confusion`` when each image votes and a tie counts as malignant, the error that costs a
        patient less; ``patients``, one row each.

        ``by_magnification``: ``"40"``, ...: as ``image`` with ``patient_recognition_rate``, over
        the images of one magnification and the accessions that have any.

        ``by_subtype``: ``"A"``, ``"F"``, ...: ``images`` and ``accessions`` (counts), ``accuracy``
        (the share of the subtype's images called right; with one class in it, no more can be said)
        and ``patient_recognition_rate``. Benign subtypes come first, each class in order of name.

        ``counts``: ``images``, ``slides`` and ``accessions``, each over ``all``, ``benign`` and
        ``malignant``. ``threshold``, ``resamples`` and ``seed`` as given.

    Raises:
        UserError: there is no image, or ``threshold`` or ``resamples`` is out of range.
    """
    if not len(predictions):
        raise UserError("there are no predictions to evaluate: choose a split that holds images.")
    if not 0 <= threshold <= 1:
        raise UserError(f"the threshold {threshold} is not a probability: choose one from 0 to 1.")

    image, patient = _image_and_patient(predictions, threshold, resamples, seed)
    by_magnification = {}
    for magnification in np.unique(predictions.magnification):
        part = predictions.take(predictions.magnification == magnification)
        figures, patients = _image_and_patient(part, threshold, resamples, seed)
        figures["patient_recognition_rate"] = patients["recognition_rate"]
        by_magnification[str(magnification)] = figures
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
    """The figures of ``HEADLINE`` out of what :func:`evaluate` returned, by name."""
    return {
        name: functools.reduce(dict.__getitem__, path, results) for name, path in HEADLINE.items()
    }


def _image_and_patient(
    predictions: Predictions, threshold: float, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    names, group, weights = resample(predictions.accession, resamples, seed)
    figures = map_metrics(
        ResampledMetric.estimate, all_metrics(predictions, threshold, group, weights)
    )
    image, patient = figures["image"], figures["patient"]
    patients = Patients.of(predictions, threshold, group)
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    image["confusion"] = confusion(label, predicted)
    patient["mean_probability"]["confusion"] = confusion(patients.malignant, patients.called)
    patient["majority_vote"]["confusion"] = confusion(patients.malignant, patients.voted)
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
    found = {}
    for subtype in dict.fromkeys(predictions.subtype[order].tolist()):
        part = predictions.take(predictions.subtype == subtype)
        names, group, weights = resample(part.accession, resamples, seed)
        correct = (part.probability >= threshold) == (part.label == 1)
        images, right = np.bincount(group), np.bincount(group, correct)
        share = estimate((weights @ right) / (weights @ images), "image", {}, len(names))
        rate = mean_metrics(right / images, np.ones(len(names), bool), "", weights).estimate()
        found[subtype] = {
            "images": len(part),
            "accessions": len(names),
            "accuracy": share,
            "patient_recognition_rate": rate,
        }
    return found


def _counts(predictions: Predictions, patients: list[dict]) -> dict[str, dict[str, int]]:
    malignant = predictions.label == 1
    positive = sum(row["label"] for row in patients)
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
            "benign": len(patients) - positive,
            "malignant": positive,
        },
    }
