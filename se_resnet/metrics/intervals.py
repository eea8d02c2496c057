"""95 % intervals of metrics of few patients, as closed formulas without resampling.

Images of one patient resemble each other, so the patient is the unit. Two to twelve patients of a
class cannot be resampled: a percentile bootstrap over so few patients covers the true value far
less often than it claims, and it has no width where every image is right. The formulas here were
chosen by simulation; ``python -m benchmarks.coverage`` prints how often each covers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

_ALPHA = 0.05
_Z = float(special.ndtri(1 - _ALPHA / 2))
_IMAGES = 3  # independent images that a patient is worth at least, see image_auc_interval


def kish(sizes: np.ndarray) -> np.ndarray:
    """Returns the effective number of patients, (sum of sizes)^2 / sum of squared sizes.

    It equals the number of patients where all have equally many images, and it is smaller where
    few patients have most of the images (Kish 1965).

    Args:
        sizes: ``float64 [..., K]``, images of each patient, not negative; some is positive.

    Returns:
        ``float64 [...]``, at least 1.
    """
    sizes = np.asarray(sizes, np.float64)
    return sizes.sum(axis=-1) ** 2 / (sizes**2).sum(axis=-1)


def clopper_pearson(right: ArrayLike, patients: ArrayLike) -> np.ndarray:
    """Returns the exact interval of a share of patients (Clopper and Pearson 1934).

    Args:
        right: ``int [...]``, patients that are counted, from 0 to ``patients``.
        patients: ``int [...]``, all patients, at least 1.

    Returns:
        ``float64 [2, ...]``, low and high.
    """
    right, patients = np.asarray(right, np.float64), np.asarray(patients, np.float64)
    low = special.betaincinv(np.maximum(right, 1e-9), patients - right + 1, _ALPHA / 2)
    high = special.betaincinv(right + 1, np.maximum(patients - right, 1e-9), 1 - _ALPHA / 2)
    return np.stack([np.where(right == 0, 0.0, low), np.where(right == patients, 1.0, high)])


def share_interval(
    right: np.ndarray, sizes: np.ndarray, other_variance: float = 0.0, other_freedom: float = 1.0
) -> np.ndarray:
    """Returns the interval of a ratio of sums over patients, such as a share of images.

    The method linearises the ratio, inflates the residual of each patient by its leverage (CR3),
    and uses Student's t on the logit scale (Korn and Graubard 1998) with the
    :func:`degrees_of_freedom` of the residuals. It does so twice: for the
    patients, and for the patients with half a patient of mean size added, half of whose images are
    right (Agresti and Coull 1998). The result contains both intervals, within the exact interval of
    so many effective patients, of whom each is right or wrong as a whole. A ratio of exactly 0 or 1
    gets the exact interval of so many patients.

    Args:
        right: ``float64 [..., K]``, sum of each patient, from 0 to its size.
        sizes: ``float64 [..., K]``, not negative. Patients of size 0 do not count; some size is
            positive.
        other_variance: variance of the ratio that comes from other patients than these.
        other_freedom: its degrees of freedom.

    Returns:
        ``float64 [2, ...]``, low and high.
    """
    right, sizes = np.asarray(right, np.float64), np.asarray(sizes, np.float64)
    patients = (sizes > 0).sum(axis=-1)
    half = (sizes.sum(axis=-1) / patients / 2)[..., None]
    value = right.sum(axis=-1) / sizes.sum(axis=-1)
    extreme = (value < 1e-12) | (value > 1 - 1e-12)

    def bounds(right: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):  # a single patient has no variance
            ratio, variance, freedom = ratio_of_sums(right, sizes, effective)
            # Patients who are all alike might differ: as if half a patient differed by half.
            floor = ratio * (1 - ratio) / 4 / ((sizes > 0).sum(axis=-1) + 0.5) ** 2
            variance = np.where(variance < 1e-20, floor, variance)
            freedom = welch(variance, freedom, other_variance, other_freedom)
            return logit_t(ratio, variance + other_variance, freedom)

    effective = kish(sizes)
    added = bounds(
        np.concatenate([right, half / 2], axis=-1), np.concatenate([sizes, half], axis=-1)
    )
    plain = bounds(right, sizes)
    hull = np.stack([np.fmin(added[0], plain[0]), np.fmax(added[1], plain[1])])
    if not other_variance:  # images of a patient cannot resemble each other more than by being one
        limits = clopper_pearson(value * effective, effective)
        hull = np.stack([np.maximum(hull[0], limits[0]), np.minimum(hull[1], limits[1])])
    exact = clopper_pearson(np.where(value > 0.5, patients, 0), patients)
    return np.where(extreme, exact, hull)


def ratio_of_sums(
    sums: np.ndarray, sizes: np.ndarray, effective: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a ratio of sums over patients, its variance (CR3) and degrees of freedom.

    Args:
        sums: ``float64 [..., K]``.
        sizes: ``float64 [..., K]``, not negative; patients of size 0 do not count.
        effective: ``float64 [...]``, effective number of patients.

    Returns:
        ``float64 [...]`` each.
    """
    total = sizes.sum(axis=-1, keepdims=True)
    ratio = sums.sum(axis=-1, keepdims=True) / total
    residual = (sums - ratio * sizes) / (1 - sizes / total)
    count = (sizes > 0).sum(axis=-1)
    variance = (count - 1) / count * (residual**2).sum(axis=-1) / total[..., 0] ** 2
    return ratio[..., 0], variance, degrees_of_freedom(residual, effective, count)


def degrees_of_freedom(
    residuals: np.ndarray, effective: np.ndarray, patients: ArrayLike
) -> np.ndarray:
    """Returns the degrees of freedom of a variance that is a sum of squared residuals.

    They are at most those of so many effective patients (Carter, Schnepel and Steigerwald 2017),
    and fewer where few patients make up most of the sum: 2 / (kurtosis share), by matching the
    variance of the variance (Satterthwaite 1946).

    Args:
        residuals: ``float64 [..., K]``, 0 for patients that do not count.
        effective: ``float64 [...]``, effective number of patients.
        patients: ``int [...]``, number of patients that count.

    Returns:
        ``float64 [...]``, at least 1.
    """
    squares = residuals**2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (squares**2).sum(axis=-1) / squares.sum(axis=-1) ** 2 - 1 / np.asarray(patients)
        matched = np.where(share > 1e-12, 2 / share, np.inf)
    return np.maximum(np.fmin(matched, effective - 1), 1)


def logit_t(value: ArrayLike, variance: ArrayLike, freedom: ArrayLike) -> np.ndarray:
    """Returns Student's interval of a value strictly between 0 and 1, on the logit scale.

    Args:
        value: ``float64 [...]``.
        variance: ``float64 [...]``, of the value.
        freedom: ``float64 [...]``, degrees of freedom; values below 1 count as 1.

    Returns:
        ``float64 [2, ...]``, low and high.
    """
    value = np.asarray(value)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        width = students_t(freedom) * np.sqrt(variance) / (value * (1 - value))
        logit = np.log(value) - np.log1p(-value)
        return 1 / (1 + np.exp(-np.stack([logit - width, logit + width])))


def students_t(freedom: ArrayLike) -> np.ndarray:
    """Returns the 97.5 % quantile of Student's t; ``freedom`` below 1 counts as 1."""
    return special.stdtrit(np.maximum(freedom, 1), 1 - _ALPHA / 2)


def newcombe_auc(auc: float, benign: ArrayLike, malignant: ArrayLike) -> tuple[float, float]:
    """Returns the score interval of an AUC of independent units (Newcombe 2006, method 5).

    The bounds are the values whose distance to the AUC is 1.96 standard errors. The standard error
    is that of Hanley and McNeil (1982) at the bound itself, with the numbers of both classes in its
    numerator replaced by their mean.

    Args:
        auc: in [0, 1]; with several folds, the share of correctly ordered pairs within folds.
        benign: ``float64 [F]``, benign units of each fold, or a single number.
        malignant: ``float64 [F]``, malignant units of each fold.
    """
    of_benign, of_malignant = (
        np.atleast_1d(np.asarray(units, np.float64)) for units in (benign, malignant)
    )
    both = of_benign * of_malignant > 0
    pairs = (of_benign * of_malignant)[both]
    others = ((of_benign + of_malignant) / 2 - 1)[both]

    def variance(theta: float) -> float:
        spread = 1 + others * (1 - theta) / (2 - theta) + others * theta / (1 + theta)
        return float(theta * (1 - theta) * (pairs * spread).sum() / pairs.sum() ** 2)

    def bound(end: float) -> float:
        def excess(theta: float) -> float:
            return abs(theta - auc) - _Z * np.sqrt(variance(theta))

        # At an AUC of 0 or 1 the excess is 0 at the AUC itself, and negative beside it.
        beside = auc + 1e-9 * (end - auc)
        return end if excess(end) <= 0 else float(optimize.brentq(excess, beside, end, xtol=1e-12))

    return bound(0.0), bound(1.0)


def welch(
    variance_a: ArrayLike, freedom_a: ArrayLike, variance_b: ArrayLike, freedom_b: ArrayLike
) -> np.ndarray:
    """Returns the degrees of freedom of a sum of two variances (Welch 1947), at least 1."""
    variance_a, variance_b = np.asarray(variance_a), np.asarray(variance_b)
    freedom_a, freedom_b = np.maximum(freedom_a, 1), np.maximum(freedom_b, 1)
    parts = variance_a**2 / freedom_a + variance_b**2 / freedom_b
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (variance_a + variance_b) ** 2 / parts
    return np.where(parts > 0, freedom, np.minimum(freedom_a, freedom_b))


def image_auc_interval(
    auc: float,
    variance: float,
    freedom: float,
    benign: np.ndarray,
    malignant: np.ndarray,
) -> tuple[float, float]:
    """Returns the interval of an AUC of images in patients.

    It is the hull of two intervals: Student's t on the logit scale with the variance between
    patients (Obuchowski 1997), estimated by leaving out one patient at a time, and
    :func:`newcombe_auc` as if each patient had three independent images. The second has a width
    where the first has none, at an AUC of 1.

    Args:
        auc: in [0, 1].
        variance: of the AUC between patients, the sum of that of both classes.
        freedom: its degrees of freedom.
        benign: ``float64 [F]``, benign patients by fold, or a single number.
        malignant: ``float64 [F]``, malignant patients by fold.
    """
    low, high = newcombe_auc(auc, _IMAGES * np.asarray(benign), _IMAGES * np.asarray(malignant))
    if 0 < auc < 1:
        t_low, t_high = logit_t(auc, variance, freedom)
        low, high = min(low, float(t_low)), max(high, float(t_high))
    return low, high


def floor_of_difference(patients: int) -> float:
    """Returns the least variance of a difference of two runs on the same patients.

    It is the variance of the difference if half a patient were added to each run and differed by a
    quarter. Two runs that agree on every image therefore do not get an interval of zero width.
    """
    return 2 * (patients - 1) / patients * 0.25**2 / (patients + 0.5) ** 2
