"""Calibration of the predicted probabilities, before and after temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize

from se_resnet.metrics.binary import binary_metrics
from se_resnet.metrics.calibration_line import calibration_line
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.estimates import Metric, variance_of_classes
from se_resnet.metrics.intervals import kish, ratio_of_sums, share_interval, students_t
from se_resnet.metrics.levels import share_metric
from se_resnet.metrics.predictions import Predictions, logit_of, probability_of
from se_resnet.metrics.simulation import calibrated_sample

# Range of temperatures. Its ends stand for a likelihood without a finite maximum.
LOWEST, HIGHEST = 0.05, 20.0


# Standard deviation of log(T) that is expected before any image is seen.
_SPREAD = 0.5


def fit_temperature(label: np.ndarray, logits: np.ndarray, patients: float = np.inf) -> float:
    """Fits the temperature T of ``sigmoid(logit / T)``.

    T minimises ``patients`` times the mean negative log-likelihood (Guo et al., ICML 2017), plus
    (log T / 0.5)^2 / 2. The second term draws T towards 1, the more so the fewer patients there
    are: images of one patient do not count as independent. Without a number of patients it has no
    effect. Temperature scaling changes neither the order of the images nor, at the threshold 0.5,
    any prediction. Fit it on images that were not trained on.

    Args:
        label: ``int [n]``, 0 or 1.
        logits: ``float [n]``, finite.
        patients: effective number of patients, positive.

    Returns:
        A number in [0.05, 20]; 1 if every logit is 0 or there is no image, because T then has no
        effect. Without a number of patients: 0.05 if the sign of the logits separates the labels,
        because the likelihood then grows as T falls; 20 if the logits are no better than chance or
        inverted.

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

    def slope(log_inverse: float) -> float:
        """Returns the derivative of the loss by -log T, which grows with it."""
        inverse = np.exp(log_inverse)
        likelihood = inverse * np.mean((probability_of(inverse * logits) - label) * logits)
        return float(likelihood + log_inverse / _SPREAD**2 / patients)

    # The order matters: very large logits of the correct sign have slope 0 at both ends.
    if slope(-np.log(LOWEST)) <= 0:
        return LOWEST
    if slope(-np.log(HIGHEST)) >= 0:
        return HIGHEST
    ends = -np.log(HIGHEST), -np.log(LOWEST)
    return float(np.exp(-optimize.brentq(slope, *ends, xtol=1e-12)))


def scale(probability: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
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
    count, malignant, total = _bin_sums(label, probability, np.zeros(len(label), int), bins)
    return float(np.abs(total - malignant).sum() / count.sum())


def reliability_curve(predictions: Predictions, bins: int = 15) -> dict[str, list]:
    """Compares observed and predicted probability of malignant in the bins of the ECE.

    Args:
        predictions: N >= 1 images.
        bins: number of bins of equal width, at least 1.

    Returns:
        Lists with one entry per non-empty bin, from low to high: ``lower`` and ``upper``, the edges
        of the bin; ``count``, its number of images; ``accessions``, their number of accessions;
        ``mean_probability``; ``frequency``, the fraction of malignant images; ``low`` and ``high``,
        the 95 % interval of the frequency
        (:func:`se_resnet.metrics.intervals.share_interval`), None if the images come from a single
        accession.
    """
    group = Cohort.of(predictions).group
    counts, malignant, probability = _bin_sums(
        predictions.label, predictions.probability, group, bins
    )
    curve: dict[str, list] = {
        key: []
        for key in (
            "lower", "upper", "count", "accessions", "mean_probability", "frequency", "low", "high"
        )
    }  # fmt: skip
    for k in np.flatnonzero(counts.sum(axis=0)).tolist():
        count, accessions = counts[:, k].sum(), int((counts[:, k] > 0).sum())
        low, high = (
            share_interval(malignant[:, k], counts[:, k]).tolist()
            if accessions > 1
            else (None, None)
        )
        row = (
            k / bins,
            (k + 1) / bins,
            int(count),
            accessions,
            float(probability[:, k].sum() / count),
            float(malignant[:, k].sum() / count),
            low,
            high,
        )
        for column, value in zip(curve.values(), row, strict=True):
            column.append(value)
    return curve


def describe(
    predictions: Predictions, temperature: float | np.ndarray, bins: int = 15
) -> dict[str, Any]:
    """Computes calibration metrics before and after temperature scaling, ready for JSON.

    Args:
        predictions: N >= 1 images with the probabilities of the model.
        temperature: result of :func:`fit_temperature` on other images; or one for each image,
            ``float64 [N]``, where folds have their own.
        bins: number of bins of the calibration error, at least 1.

    Returns:
        ``before`` and ``after``, each with the estimates ``intercept`` and ``slope``
        (:func:`se_resnet.metrics.calibration_line.calibration_line`), ``brier`` (mean squared error
        of the probability), ``nll`` (mean negative log-likelihood in nats) and ``ece``
        (:func:`expected_calibration_error`). For
        ``nll``, probabilities of 0 and 1 are moved inwards by 2.2e-16: an error with full
        confidence costs 36 nats instead of infinity. Estimates are those of
        :func:`se_resnet.metrics.evaluate`. ``temperature`` (the geometric mean of several) and
        ``bins`` are returned unchanged.

        The ECE of few patients is far above 0 even if the model is calibrated. It therefore has no
        interval but a ``reference``: the median and the 95 % quantile of the ECE of a calibrated
        model of the same AUC on as many images of as many patients
        (:func:`se_resnet.metrics.simulation.calibrated_sample`).
    """
    cohort = Cohort.of(predictions)
    reference = _ece_reference(predictions, cohort, bins)
    estimates = []
    for probability in (predictions.probability, scale(predictions.probability, temperature)):
        of_loss = losses(predictions, probability, cohort)
        ece = expected_calibration_error(predictions.label, probability, bins)
        reason = "biased upwards, compare with the reference"
        estimates.append(
            {
                **calibration_line(predictions.label, probability, cohort),
                **{name: loss.estimate() for name, loss in of_loss.items()},
                "ece": {
                    "value": ece, "low": None, "high": None, "reason": reason,
                    "reference": reference,
                },
            }
        )  # fmt: skip
    return {
        "temperature": float(np.exp(np.mean(np.log(temperature)))),
        "bins": int(bins),
        "before": estimates[0],
        "after": estimates[1],
    }


def losses(predictions: Predictions, probability: np.ndarray, cohort: Cohort) -> dict[str, Metric]:
    """Returns the metrics ``brier`` and ``nll`` of :func:`describe` for ``float64 [N]``."""
    label = predictions.label
    epsilon = np.finfo(np.float64).eps
    clipped = np.clip(probability, epsilon, 1 - epsilon)
    loss = np.bincount(cohort.group, -np.log(np.where(label == 1, clipped, 1 - clipped)))
    error = np.bincount(cohort.group, (probability - label) ** 2)
    size = cohort.images.sum(axis=1)
    with np.errstate(invalid="ignore"):  # without the only patient
        values = (cohort.weights @ loss) / (cohort.weights @ size)
    return {
        "brier": share_metric(error, cohort.images, "image", {}, cohort),
        "nll": Metric(
            values,
            cohort.images,
            "image",
            {},
            lambda: loss_bounds(values, loss, cohort),
            "jackknife",
        ),
    }


def loss_bounds(values: np.ndarray, loss: np.ndarray, cohort: Cohort) -> tuple[float, float]:
    """Returns the interval of a mean loss per image.

    Student's t on the logarithmic scale, with three variances: that between patients (CR3), the
    same with a patient of mean size added, whose images lose as much as those of the worst patient
    and at least ln 2, as at a probability of 0.5, and the sum of those within each class; the
    widest of all ends. The patient stands for those who hold most of the loss and whom a small
    sample misses.

    Args:
        values: ``float64 [1 + G]``, the mean loss, and without each patient.
        loss: ``float64 [G]``, not negative, sum of each patient.
        cohort: the patients.
    """
    sizes = cohort.images.sum(axis=1)
    size, worst = sizes.mean(), max((loss / sizes).max(), np.log(2))
    parts = [
        ratio_of_sums(loss, sizes, kish(sizes)),
        ratio_of_sums(np.append(loss, size * worst), np.append(sizes, size), kish(sizes)),
        (values[0], *variance_of_classes(values, cohort.malignant, sizes)),
    ]
    mean, variance, freedom = np.array(parts, np.float64).T
    width = students_t(freedom) * np.sqrt(variance) / np.maximum(mean, 1e-300)
    width = np.minimum(width, 700.0)  # no number is larger than exp(709)
    return float((mean * np.exp(-width)).min()), float((mean * np.exp(width)).max())


def _ece_reference(
    predictions: Predictions, cohort: Cohort, bins: int, samples: int = 200
) -> dict[str, float] | None:
    """Returns the median and 95 % quantile of the ECE of calibrated models like this one.

    None where a class is missing.
    """
    values = binary_metrics(
        predictions.label == 1,
        predictions.probability,
        predictions.probability >= 0.5,
        cohort.group,
        cohort.weights[:1],
        cohort.fold,
    )
    auc = float(values["roc_auc"][0])
    if np.isnan(auc):
        return None
    rng = np.random.default_rng(0)
    errors = [
        expected_calibration_error(*calibrated_sample(cohort.images, auc, rng), bins)
        for _ in range(samples)
    ]
    median, high = np.quantile(errors, (0.5, 0.95)).tolist()
    return {"median": median, "high": high}


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
