"""Whether a predicted probability means what it says, before and after temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize

from se_resnet.metrics.bootstrap import estimate, interval, resample
from se_resnet.metrics.predictions import Predictions, logit_of, probability_of

# Range of temperatures; where the likelihood has no finite maximum the nearer end is taken.
LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(label: np.ndarray, logits: np.ndarray) -> float:
    """The temperature T that makes ``sigmoid(logit / T)`` most likely (Guo et al., ICML 2017).

    The mean negative log-likelihood is convex in 1/T; the root of its derivative is bracketed and
    found by Brent's method. Temperature scaling keeps the order of the images and, at the threshold
    0.5, every decision. Fit it on validation images.

    Args:
        label: ``int [n]``, 0 or 1.
        logits: ``float [n]``, finite.

    Returns:
        A number in [0.05, 20]. It is 0.05 where the sign of the logits tells the labels apart (as
        it may when there is one class only), for the likelihood then grows without end as T falls;
        20 where the logits are no better than a coin, or turned round, for it then grows with T;
        and 1 where every logit is 0 or there is no image, for T then changes nothing.

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

    # In this order, because the slope of very large logits that are right is 0 at both ends.
    if slope(1 / LOWEST) <= 0:
        return LOWEST
    if slope(1 / HIGHEST) >= 0:
        return HIGHEST
    return 1 / optimize.brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12)


def scale(probability: np.ndarray, temperature: float) -> np.ndarray:
    """``sigmoid(logit / temperature)`` of a probability, ``float64`` of the same shape."""
    return probability_of(logit_of(probability) / temperature)


def expected_calibration_error(label: np.ndarray, probability: np.ndarray, bins: int = 15) -> float:
    """Mean distance between the predicted probability of malignant and its frequency.

    The images fall into ``bins`` bins of equal width by their probability, each open below and
    closed above, but for the first, which holds 0 too (Guo et al., ICML 2017). The result is the
    sum over bins of (images in the bin / all images) x |mean probability - share of malignant|. It
    is the error of the probability of malignant, not of the confidence in the decision, so that
    errors of both classes count in the place where they occur.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]`` in [0, 1].
        bins: number of bins, at least 1.
    """
    one = np.zeros(len(label), int)
    return float(_ece(_binned(label, probability, one, bins), np.ones((1, 1)))[0])


def reliability_curve(
    predictions: Predictions, bins: int = 15, resamples: int = 2000, seed: int = 0
) -> dict[str, list]:
    """Observed against predicted probability of malignant, in the bins of the calibration error.

    Args:
        predictions: N >= 1 images.
        bins: number of bins of equal width, at least 1.
        resamples: number of bootstrap resamples over accessions, at least 1.
        seed: seed of the resamples.

    Returns:
        One entry per bin that holds an image, from low to high: ``lower`` and ``upper``, the bin's
        edges; ``count``, its images; ``accessions``, how many they come from;
        ``mean_probability``; ``frequency``, the share of malignant images; ``low`` and ``high``,
        the 95 % interval of the frequency, None where the bin's images come from one accession.
    """
    _, group, weights = resample(predictions.accession, resamples, seed)
    binned = _binned(predictions.label, predictions.probability, group, bins)
    count, malignant, predicted = (column.sum(axis=0) for column in binned)
    accessions = (binned[0] > 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        draws = (weights @ binned[1] / (weights @ binned[0]))[1:]
    curve: dict[str, list] = {
        key: []
        for key in (
            "lower", "upper", "count", "accessions", "mean_probability", "frequency", "low", "high"
        )
    }  # fmt: skip
    for k in np.flatnonzero(count).tolist():
        defined = draws[np.isfinite(draws[:, k]), k]
        enough = accessions[k] > 1 and len(defined)
        low, high = interval(defined).tolist() if enough else (None, None)
        row = (
            k / bins,
            (k + 1) / bins,
            int(count[k]),
            int(accessions[k]),
            float(predicted[k] / count[k]),
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
    """Calibration before and after temperature scaling, ready for JSON.

    Args:
        predictions: N >= 1 images, probabilities as the model gave them.
        temperature: of :func:`fit_temperature`, fitted on other images.
        bins: number of bins of the calibration error, at least 1.
        resamples: number of bootstrap resamples over accessions, at least 1.
        seed: seed of the resamples.

    Returns:
        ``before`` and ``after``, each with the figures ``ece``
        (:func:`expected_calibration_error`), ``brier`` (mean squared error of the probability) and
        ``nll`` (mean negative log-likelihood in nats; probabilities of 0 and 1 are moved inwards by
        2.2e-16, so that one sure mistake costs 36 nats and not infinitely many). A figure is
        ``{"value", "low", "high"}`` as in :func:`se_resnet.metrics.evaluate`. ``temperature`` and
        ``bins`` as given.

        The calibration error of a resample is biased upwards, as every binned calibration error of
        few images is, so that its interval lies higher than the value suggests and may not hold it.
    """
    names, group, weights = resample(predictions.accession, resamples, seed)
    label = predictions.label
    count = weights @ np.bincount(group)

    def figures(probability: np.ndarray) -> dict[str, Any]:
        tiny = np.finfo(np.float64).eps
        inner = np.clip(probability, tiny, 1 - tiny)
        loss = -np.log(np.where(label == 1, inner, 1 - inner))
        values = {
            "ece": _ece(_binned(label, probability, group, bins), weights),
            "brier": weights @ np.bincount(group, (probability - label) ** 2) / count,
            "nll": weights @ np.bincount(group, loss) / count,
        }
        return {name: estimate(value, "image", {}, len(names)) for name, value in values.items()}

    return {
        "temperature": float(temperature),
        "bins": int(bins),
        "before": figures(predictions.probability),
        "after": figures(scale(predictions.probability, temperature)),
    }


def _binned(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, malignant images and sum of probabilities per group and bin, ``[G, bins]`` each."""
    edges = np.linspace(0, 1, bins + 1)
    cell = group * bins + np.searchsorted(edges[1:-1], probability)
    shape = (int(group.max()) + 1, bins)
    count, malignant, predicted = (
        np.bincount(cell, column, minlength=shape[0] * bins).reshape(shape)
        for column in (np.ones(len(label)), label, probability)
    )
    return count, malignant, predicted


def _ece(binned: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray) -> np.ndarray:
    count, malignant, predicted = (weights @ column for column in binned)
    return np.abs(predicted - malignant).sum(axis=1) / count.sum(axis=1)
