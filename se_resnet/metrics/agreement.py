"""Agreement of the calls for a patient over magnifications."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.levels import Patients, mean_metric
from se_resnet.metrics.predictions import Predictions

MOST_PAIRED = 10  # magnifications; more have no agreement by pair, which nobody would read


def magnification_agreement(
    predictions: Predictions, threshold: float | np.ndarray
) -> dict[str, Any]:
    """Returns the share of pairs of magnifications whose calls for a patient agree.

    The mean probability of a patient's images at one magnification gives the call at this
    magnification. Of m calls for a patient, k are malignant; the share of agreeing pairs is
    (k(k - 1) + (m - k)(m - k - 1)) / (m(m - 1)). It is Fleiss' observed agreement of a subject
    ("Measuring nominal scale agreement among many raters", Psychological Bulletin 76, 1971), with
    the magnifications as raters. The mean over patients gives every patient the same weight.
    Agreement is not corrected for chance, and calls that agree may all be wrong.

    Args:
        predictions: N images. Images of magnification 0, which is not known, do not count.
        threshold: of all images, or ``float64 [N]``; a patient gets the lowest of its images at
            the magnification.

    Returns:
        ``all_pairs``: the estimate for the patients with two or more magnifications. ``by_pair``:
        for example ``"40-100"``, the share of patients with both magnifications whose two calls
        agree; empty with more than ``MOST_PAIRED`` magnifications. Estimates are those of
        :meth:`se_resnet.metrics.estimates.Metric.estimate`; without such a patient, the value is
        None and ``reason`` explains it.
    """
    scales = np.unique(predictions.magnification[predictions.magnification > 0]).tolist()
    patient, called = _calls(predictions, threshold, scales)
    malignant, benign = ((called == value).sum(axis=1) for value in (1, 0))
    count = malignant + benign
    agreeing = malignant * (malignant - 1) + benign * (benign - 1)

    def estimate(share: np.ndarray, chosen: np.ndarray, requirement: str) -> dict[str, Any]:
        images = predictions
        if chosen.any():  # the cohort is that of the chosen patients
            images, share, requirement = predictions.take(chosen[patient]), share[chosen], ""
        cohort = Cohort.of(images)
        selected = np.full(len(cohort), not requirement)
        return mean_metric(share, selected, requirement, cohort).estimate()

    pairs = {}
    paired = list(enumerate(scales)) if len(scales) <= MOST_PAIRED else []
    for (i, first), (j, second) in combinations(paired, 2):
        both = (called[:, i] >= 0) & (called[:, j] >= 0)
        same = (called[:, i] == called[:, j]).astype(float)
        pairs[f"{first}-{second}"] = estimate(same, both, f"seen at both {first}X and {second}X")
    share = agreeing / np.maximum(count * (count - 1), 1)
    return {
        "all_pairs": estimate(share, count >= 2, "seen at two magnifications"),
        "by_pair": pairs,
    }


def _calls(
    predictions: Predictions, threshold: float | np.ndarray, scales: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the calls of the patients at each magnification.

    Returns:
        ``int [N]``, the patient of each image; and ``int [G, S]``, 1 malignant, 0 benign, -1
        without an image.
    """
    accession, patient = np.unique(predictions.accession, return_inverse=True)
    called = np.full((len(accession), len(scales)), -1)
    known = predictions.magnification > 0
    if known.any():
        scale = np.searchsorted(scales, predictions.magnification[known])
        unit, group = np.unique(patient[known] * len(scales) + scale, return_inverse=True)
        threshold = np.broadcast_to(threshold, len(predictions))[known]
        of_unit = Patients.of(predictions.take(known), threshold, group)
        called.flat[unit] = of_unit.malignant_by_mean
    return patient, called
