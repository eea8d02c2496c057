"""Selective prediction: how well the model does on the images it is surest of."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.bootstrap import cumulated, estimate, interval, resample, too_few
from se_resnet.metrics.predictions import Predictions


def risk_coverage(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 100
) -> dict[str, Any]:
    """The error rate among the most confident share of the images (El-Yaniv and Wiener 2010).

    The confidence of an image is the probability of the class it is called, max(p, 1 - p), which
    orders images as |p - 0.5| does; the decision is that at 0.5, the only threshold at which the
    least confident images are those next to it. Images of equal confidence are accepted together,
    in proportion: half of a tied lot brings half of its errors, which is the mean over all orders
    of the lot.

    Args:
        predictions: N >= 1 images.
        resamples: number of bootstrap resamples over accessions, at least 1.
        seed: seed of the resamples.
        points: size of the grid of coverages, at least 1.

    Returns:
        ``aurc``, the area under the risk-coverage curve (Geifman and El-Yaniv 2017): the mean of
        the risk over the coverages 1/N, 2/N, ..., 1; 0 is best. ``accuracy_at_80``: the accuracy on
        the most confident 80 % of the images. Both are figures, ``{"value", "low", "high"}``, as in
        :func:`se_resnet.metrics.evaluate`.

        ``curve``: lists of ``points`` floats, ``coverage`` (1/points, ..., 1), ``risk``, and its
        pointwise 95 % interval ``low`` and ``high``, both None with a ``reason`` where there is one
        accession only.
    """
    names, group, weights = resample(predictions.accession, resamples, seed)
    probability, label = predictions.probability, predictions.label == 1
    wrong = (probability >= 0.5) != label
    coverage = np.arange(1, points + 1) / points
    columns = (np.ones_like(wrong), wrong)
    risks, aurc, accuracy = [], [], []
    for chunk in cumulated(np.maximum(probability, 1 - probability), columns, group, weights):
        for covered, errors in zip(*chunk, strict=True):
            covered, errors = np.append(0, covered), np.append(0, errors)
            share = coverage * covered[-1]
            risks.append(np.interp(share, covered, errors) / share)
            # Weights are whole numbers, so this is one place per image, drawn twice or not.
            place = np.arange(1, covered[-1] + 1)
            aurc.append((np.interp(place, covered, errors) / place).mean())
            most = 0.8 * covered[-1]
            accuracy.append(1 - np.interp(most, covered, errors) / most)
    curve: dict[str, Any] = {"coverage": coverage.tolist(), "risk": risks[0].tolist()}
    if reason := too_few("image", {}, len(names)):
        curve |= {"low": None, "high": None, "reason": reason}
    else:
        low, high = interval(np.array(risks[1:])).tolist()
        curve |= {"low": low, "high": high}
    return {
        "aurc": estimate(np.array(aurc), "image", {}, len(names)),
        "accuracy_at_80": estimate(np.array(accuracy), "image", {}, len(names)),
        "curve": curve,
    }
