"""Simulated images of patients, with a known AUC, for references and for tests of intervals."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from se_resnet.metrics.predictions import probability_of

PATIENT_SHARE = 0.5  # of the variance of the logits, as measured on BreaKHis (0.43 to 0.57)


def separation(auc: float) -> float:
    """Returns the distance of two normal distributions of variance 1 with this AUC.

    An AUC outside [0.001, 0.999] counts as the nearest of these two.
    """
    return float(np.sqrt(2) * ndtri(np.clip(auc, 0.001, 0.999)))


def normal_scores(
    label: np.ndarray,
    group: np.ndarray,
    auc: float,
    rng: np.random.Generator,
    patient_share: float = PATIENT_SHARE,
) -> np.ndarray:
    """Draws a score for each image: class, plus an effect of the patient, plus one of the image.

    Args:
        label: ``int [N]``, 0 or 1.
        group: ``int [N]``, the patient of each image.
        auc: of images of different patients.
        rng: source of random numbers.
        patient_share: share of the variance between images of a class that is between patients.

    Returns:
        ``float64 [N]``, with mean -d/2 and d/2 in the classes and variance 1, for d =
        :func:`separation`.
    """
    patients = int(group.max()) + 1
    effect = np.sqrt(patient_share) * rng.standard_normal(patients)[group]
    noise = np.sqrt(1 - patient_share) * rng.standard_normal(len(group))
    return separation(auc) * (label - 0.5) + effect + noise


def calibrated_sample(
    images: np.ndarray, auc: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws labels and probabilities of a calibrated model.

    For normal scores with equal variance the log odds of malignant are linear in the score. The
    probability is exactly that, given the share of malignant images.

    Args:
        images: ``float64 [G, 2]``, benign and malignant images of each patient; of both some.
        auc: of images of different patients.
        rng: source of random numbers.

    Returns:
        ``int [N]`` labels and ``float64 [N]`` probabilities.
    """
    counts = images.astype(int)
    patient = np.repeat(np.tile(np.arange(len(counts)), 2), counts.T.ravel())
    label = np.repeat([0, 1], counts.sum(axis=0))
    share = label.mean()
    score = normal_scores(label, patient, auc, rng)
    return label, probability_of(separation(auc) * score + np.log(share / (1 - share)))
