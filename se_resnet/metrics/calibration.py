"""Calibration of the predicted probabilities, before and after temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize

from se_resnet.metrics.bootstrap import estimate, interval, resample
from se_resnet.metrics.predictions import Predictions, logit_of, probability_of

# Range of temperatures. Its ends stand for a likelihood without a finite maximum.
LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(label: np.ndarray, logits: np.ndarray) -> float:
    """Fits the temperature T that maximises the likelihood of ``sigmoid(logit / T)``.

    The method is that of Guo et al. (ICML 2017). The mean negative log-likelihood is convex in 1/T.
    Brent's method finds the root of its derivative. Temperature scaling changes neither the order
    of the images nor, at the threshold 0.5, any prediction. Fit it on validation images.

    Args:
        label: ``int [n]``, 0 or 1.
        logits: ``float [n]``, finite.

    Returns:
        A number in [0.05, 20]. Special cases: 0.05 if the sign of the logits separates the labels
        (also possible with a single class), because the likelihood then grows as T falls; 20 if the
        logits are no better than chance or inverted, because the likelihood then grows with T; 1 if
        every logit is 0 or there is no image, because T then has no effect.

    Raises:
        ValueError: the shapes differ or a logit is not finite.
    """
    label, logits = np.asarray(label, np.float64), np.asarray(logits, np.float64)
    if label.shape != logits.shape:
        raise ValueError(f"one logit per label is needed, got {logits.shape} and {label.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("every logit must be finite")
    if not logits.any():
        return 1.0

    def slope(inverse: float) -> float:
        return float(np.mean((probability_of(inverse * logits) - label) * logits))

    # The order matters: very large logits of the correct sign have slope 0 at both ends.
    if slope(1 / LOWEST) <= 0:
        return LOWEST
    if slope(1 / HIGHEST) >= 0:
        return HIGHEST
    return 1 / optimize.brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12)


def scale(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Returns ``sigmoid(logit / temperature)`` of a probability, ``float64`` of the same shape."""
    return probability_of(logit_of(probability) / temperature)


def expected_calibration_error(label: np.ndarray, probability: np.ndarray, bins: int = 15) -> float:
    """Computes the expected calibration error (ECE) of the probability of malignant.

    The images are divided by their probability into ``bins`` bins of equal width, each open below
    and closed above; the first bin also contains 0 (Guo et al., ICML 2017). The error is the sum
    over bins of (images in the bin / all images) x |mean probability - fraction of malignant|. It
    concerns the probability of malignant, not the confidence in the predicted class. Errors of both
    classes therefore count in the bin where they occur.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]`` in [0, 1].
        bins: number of bins, at least 1.
    """
    single_group = np.zeros(len(label), int)
    return float(_ece(_bin_sums(label, probability, single_group, bins), np.ones((1, 1)))[0])


def reliability_curve(
    predictions: Predictions, bins: int = 15, resamples: int = 2000, seed: int = 0
) -> dict[str, list]:
    """Compares observed and predicted probability of malignant in the bins of the ECE.

    Args:
        predictions: N >= 1 images.
        bins: number of bins of equal width, at least 1.
        resamples: number of bootstrap resamples over accessions, at least 1.
        seed: seed of the resamples.

    Returns:
        Lists with one entry per non-empty bin, from low to high: ``lower`` and ``upper``, the edges
        of the bin; ``count``, its number of images; ``accessions``, their number of accessions;
        ``mean_probability``; ``frequency``, the fraction of malignant images; ``low`` and ``high``,
        the 95 % interval of the frequency, None if the images come from a single accession.
    """
    _, group, weights = resample(predictions.accession, resamples, seed)
    sums = _bin_sums(predictions.label, predictions.probability, group, bins)
    count, malignant, probability = (column.sum(axis=0) for column in sums)
    accessions = (sums[0] > 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        frequencies = (weights @ sums[1] / (weights @ sums[0]))[1:]
    curve: dict[str, list] = {
        key: []
        for key in (
            "lower", "upper", "count", "accessions", "mean_probability", "frequency", "low", "high"
        )
    }  # fmt: skip
    for k in np.flatnonzero(count).tolist():
        defined = frequencies[np.isfinite(frequencies[:, k]), k]
        has_interval = accessions[k] > 1 and len(defined)
        low, high = interval(defined).tolist() if has_interval else (None, None)
        row = (
            k / bins,
            (k + 1) / bins,
            int(count[k]),
            int(accessions[k]),
            float(probability[k] / count[k]),
            float(malignant[k] / count[k]),
            low,
            high,
        )
        for column, value in zip(curve.values(), row, strict=True):
            column.append(value)
    return curve


def describe(
    predictions: Predictions,
    temperature: float,
    bins: int = 15,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes calibration metrics before and after temperature scaling, ready for JSON.

    Args:
        predictions: N >= 1 images with the probabilities of the model.
        temperature: result of :func:`fit_temperature` on other images.
        bins: number of bins of the calibration error, at least 1.
        resamples: number of bootstrap resamples over accessions, at least 1.
        seed: seed of the resamples.

    Returns:
        ``before`` and ``after``, each with the estimates ``ece``
        (:func:`expected_calibration_error`), ``brier`` (mean squared error of the probability) and
        ``nll`` (mean negative log-likelihood in nats). For ``nll``, probabilities of 0 and 1 are
        moved inwards by 2.2e-16: an error with full confidence costs 36 nats instead of infinity.
        An estimate is ``{"value", "low", "high"}`` as in :func:`se_resnet.metrics.evaluate`.
        ``temperature`` and ``bins`` are returned unchanged.

        The ECE of few images is biased upwards, and so is that of a resample. The interval can
        therefore lie above the value.
    """
    names, group, weights = resample(predictions.accession, resamples, seed)
    label = predictions.label
    count = weights @ np.bincount(group)

    def estimates(probability: np.ndarray) -> dict[str, Any]:
        epsilon = np.finfo(np.float64).eps
        clipped = np.clip(probability, epsilon, 1 - epsilon)
        loss = -np.log(np.where(label == 1, clipped, 1 - clipped))
        values = {
            "ece": _ece(_bin_sums(label, probability, group, bins), weights),
            "brier": weights @ np.bincount(group, (probability - label) ** 2) / count,
            "nll": weights @ np.bincount(group, loss) / count,
        }
        return {name: estimate(value, "image", {}, len(names)) for name, value in values.items()}

    return {
        "temperature": float(temperature),
        "bins": int(bins),
        "before": estimates(predictions.probability),
        "after": estimates(scale(predictions.probability, temperature)),
    }


def _bin_sums(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums images, malignant images and probabilities per group and bin, ``[G, bins]`` each."""
    edges = np.linspace(0, 1, bins + 1)
    cell = group * bins + np.searchsorted(edges[1:-1], probability)
    shape = (int(group.max()) + 1, bins)
    count, malignant, total = (
        np.bincount(cell, column, minlength=shape[0] * bins).reshape(shape)
        for column in (np.ones(len(label)), label, probability)
    )
    return count, malignant, total


def _ece(sums: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray) -> np.ndarray:
    count, malignant, probability = (weights @ column for column in sums)
    return np.abs(probability - malignant).sum(axis=1) / count.sum(axis=1)
