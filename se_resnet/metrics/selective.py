"""Selective prediction: accuracy on the images with the most confident predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.bootstrap import (
    cumulative_sums,
    estimate,
    interval,
    no_interval_reason,
    resample,
)
from se_resnet.metrics.predictions import Predictions


def risk_coverage(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 100
) -> dict[str, Any]:
    """Computes the error rate among the most confident images (El-Yaniv and Wiener 2010).

    The confidence of an image is the probability of its predicted class, max(p, 1 - p), which
    orders images as |p - 0.5| does. The threshold is always 0.5. At any other threshold, the images
    near the threshold would not be the least confident ones. Images of equal confidence are
    accepted in proportion: half of a group of ties adds half of the errors of that group. This is
    the mean over all orders of the ties.

    Args:
        predictions: N >= 1 images.
        resamples: number of bootstrap resamples over accessions, at least 1.
        seed: seed of the resamples.
        points: number of coverages in the grid, at least 1.

    Returns:
        ``aurc``, the area under the risk-coverage curve (Geifman and El-Yaniv 2017): the mean of
        the risk over the coverages 1/N, 2/N, ..., 1; 0 is best. ``accuracy_at_80``: the accuracy on
        the most confident 80 % of the images. Both are estimates, ``{"value", "low", "high"}``, as
        in :func:`se_resnet.metrics.evaluate`.

        ``curve``: lists of ``points`` floats, ``coverage`` (1/points, ..., 1), ``risk``, and its
        pointwise 95 % interval ``low`` and ``high``. With a single accession these two are None and
        ``reason`` is added.
    """
    names, group, weights = resample(predictions.accession, resamples, seed)
    probability, label = predictions.probability, predictions.label == 1
    wrong = (probability >= 0.5) != label
    coverage = np.arange(1, points + 1) / points
    columns = (np.ones_like(wrong), wrong)
    risks, aurc, accuracy = [], [], []
    for chunk in cumulative_sums(np.maximum(probability, 1 - probability), columns, group, weights):
        for covered, errors in zip(*chunk, strict=True):
            covered, errors = np.append(0, covered), np.append(0, errors)
            accepted = coverage * covered[-1]
            risks.append(np.interp(accepted, covered, errors) / accepted)
            # Weights are whole numbers, so each image counts as often as it was resampled.
            position = np.arange(1, covered[-1] + 1)
            aurc.append((np.interp(position, covered, errors) / position).mean())
            accepted_at_80 = 0.8 * covered[-1]
            accuracy.append(1 - np.interp(accepted_at_80, covered, errors) / accepted_at_80)
    curve: dict[str, Any] = {"coverage": coverage.tolist(), "risk": risks[0].tolist()}
    if reason := no_interval_reason("image", {}, len(names)):
        curve |= {"low": None, "high": None, "reason": reason}
    else:
        low, high = interval(np.array(risks[1:])).tolist()
        curve |= {"low": low, "high": high}
    return {
        "aurc": estimate(np.array(aurc), "image", {}, len(names)),
        "accuracy_at_80": estimate(np.array(accuracy), "image", {}, len(names)),
        "curve": curve,
    }
