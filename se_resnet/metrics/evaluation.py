"""Metrics of a classifier per image and per patient, each with an interval.

Malignant is the positive class. An image or a patient is predicted malignant if its probability is
at least the threshold. The column ``accession`` names the patient. A patient is malignant if any
image of the patient is malignant. The patient score and the recognition rates are those of Spanhol
et al., "A Dataset for Breast Cancer Histopathological Image Classification" (IEEE TBME 2016). Later
papers define "patient accuracy" differently. The accuracy of the mean probability and of the
majority vote are therefore reported beside the recognition rate, under separate names.
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

# The most values of a column whose images are evaluated separately: a table of more rows is of no
# use to a reader, and a column of names would cost an evaluation for every image.
MOST_PARTS = 50


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
    single patient, the value is given, ``low`` and ``high`` are None, and ``reason`` is added: a
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
        ``patient_recognition_rate`` for the images of one magnification and their patients. Images
        of unknown magnification (0) are left out.

        ``magnification_agreement``: of the calls for a patient, see
        :func:`se_resnet.metrics.agreement.magnification_agreement`.

        ``by_subtype``: ``"A"``, ``"F"``, ...: ``images`` and ``accessions`` (the numbers of images
        and patients), ``accuracy`` and ``patient_recognition_rate``. A subtype of BreaKHis has a
        single class, so other metrics are undefined. Benign subtypes come first, sorted by name
        within each class. Images without a subtype are left out.

        ``by_site``: by the column ``site``, sorted by name: the entries of ``by_magnification`` and
        ``images`` and ``accessions``. Images without a site are left out. The key is absent where
        no image has a site.

        ``too_many_parts``: the number of values by column (``magnification``, ``subtype``,
        ``site``) where a column has more than ``MOST_PARTS``. Its values are then not evaluated
        separately. The key is absent where no column has so many.

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
    values = {name: len(_known(column)) for name, column in _part_columns(predictions).items()}
    too_many = {name: count for name, count in values.items() if count > MOST_PARTS}
    return {
        "image": image,
        "patient": patient,
        **by_part(predictions, thresholds),
        **({"too_many_parts": too_many} if too_many else {}),
        "counts": _counts(predictions, patient["patients"]),
        "p_value": auc_p_value(predictions, permutations, seed),
        "threshold": float(thresholds.mean()),
        "resamples": int(permutations),
        "seed": int(seed),
    }


def by_part(predictions: Predictions, threshold: np.ndarray) -> dict[str, Any]:
    """Returns the parts ``by_*`` and ``magnification_agreement`` of :func:`evaluate`.

    Args:
        predictions: N >= 1 images.
        threshold: ``float64 [N]``, see :func:`evaluate`.
    """
    by_site = _by_site(predictions, threshold)
    return {
        "by_magnification": _by_magnification(predictions, threshold),
        "magnification_agreement": magnification_agreement(predictions, threshold),
        "by_subtype": _by_subtype(predictions, threshold),
        **({"by_site": by_site} if by_site else {}),
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


def _part_columns(predictions: Predictions) -> dict[str, np.ndarray]:
    columns = {"magnification": predictions.magnification, "subtype": predictions.subtype}
    site = {name: predictions.extra[name] for name in ("site",) if name in predictions.extra}
    return columns | site


def _known(column: np.ndarray) -> np.ndarray:
    """Returns the different values of a column, sorted, without 0 and the empty string."""
    return np.unique(column[column != column.dtype.type()])


def _parts(predictions: Predictions, name: str) -> list[Any]:
    """Returns the known values of a column, or none where they are too many to evaluate each."""
    column = _part_columns(predictions).get(name)
    values = [] if column is None else _known(column).tolist()
    return values if len(values) <= MOST_PARTS else []


def _by_magnification(predictions: Predictions, threshold: np.ndarray) -> dict[str, dict[str, Any]]:
    return {
        str(scale): _of_part(predictions, threshold, predictions.magnification == scale)[0]
        for scale in _parts(predictions, "magnification")
    }


def _by_site(predictions: Predictions, threshold: np.ndarray) -> dict[str, dict[str, Any]]:
    metrics = {}
    for site in _parts(predictions, "site"):
        chosen = predictions.extra["site"] == site
        of_site, patients = _of_part(predictions, threshold, chosen)
        metrics[site] = {"images": int(chosen.sum()), "accessions": patients, **of_site}
    return metrics


def _of_part(
    predictions: Predictions, threshold: np.ndarray, chosen: np.ndarray
) -> tuple[dict[str, Any], int]:
    """Returns the image metrics and patient recognition rate of a part, and its patients."""
    image, patient = image_and_patient(predictions.take(chosen), threshold[chosen])
    image["patient_recognition_rate"] = patient["recognition_rate"]
    return image, len(patient["patients"])


def _by_subtype(predictions: Predictions, threshold: np.ndarray) -> dict[str, dict[str, Any]]:
    order = np.lexsort((predictions.subtype, predictions.label))
    shown = set(_parts(predictions, "subtype"))
    metrics = {}
    for subtype in dict.fromkeys(predictions.subtype[order].tolist()):
        if subtype not in shown:
            continue
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
