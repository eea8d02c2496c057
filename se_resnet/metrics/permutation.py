"""The p-value of an AUC: the share of relabelled cohorts that reach it by chance."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from se_resnet.errors import UserError
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.predictions import Predictions


def auc_p_value(predictions: Predictions, permutations: int, seed: int) -> dict[str, Any]:
    """Tests whether images and patients are ranked better than by chance.

    The labels of the patients are permuted, and each patient keeps its images, whose probabilities
    resemble each other. The p-value is one-sided: the share of the permutations, the observed
    labels among them, whose AUC is at least the observed one (Phipson and Smyth 2010). In a
    cross-validation the labels are permuted and compared within folds. All distinct permutations
    are used where they are at most ``permutations``: with 2 benign and 6 malignant patients there
    are 28, and no p-value is below 1/28 = 0.036.

    Args:
        predictions: N >= 1 images.
        permutations: number of permutations, at least 1.
        seed: seed of the permutations.

    Returns:
        ``image`` and ``patient`` (of the mean probability), each a number in (0, 1]; both are None
        where a class is missing. ``permutations``: the number that was used.

    Raises:
        UserError: ``permutations`` is below 1.
    """
    if permutations < 1:
        raise UserError(f"{permutations} permutations are too few: choose at least 1.")
    cohort = Cohort.of(predictions)
    folds = int(cohort.fold.max()) + 1
    units, index = np.unique(cohort.fold * len(cohort) + cohort.group, return_inverse=True)
    label = np.bincount(index, predictions.label) > 0
    images = np.bincount(index)
    mean = np.bincount(index, predictions.probability) / images
    fold = units // len(cohort)
    rng = np.random.default_rng(seed)
    parts = [np.flatnonzero(fold == number) for number in range(folds)]
    distinct = math.prod(math.comb(len(part), int(label[part].sum())) for part in parts)
    exact = folds == 1 and distinct <= permutations
    count = distinct if exact else permutations
    observed, permuted = np.zeros((2, 2)), np.zeros((2, 2, count))
    for number, part in enumerate(parts):
        of_fold = cohort.fold == number
        ranks = rankdata(predictions.probability[of_fold])
        of_images = np.bincount(index[of_fold], ranks, minlength=len(units))[part]
        of_patients = rankdata(mean[part])
        labels = _all_labels(label[part]) if exact else _permuted(label[part], count, rng)
        for level, (rank_sum, size) in enumerate(
            ((of_images, images[part]), (of_patients, np.ones(len(part))))
        ):
            observed[level] += _pairs(label[part][None], rank_sum, size)[:, 0]
            permuted[level] += _pairs(labels, rank_sum, size)
    if not observed[0, 1]:
        return {"image": None, "patient": None, "permutations": 0}
    with np.errstate(invalid="ignore"):
        auc = observed[:, :1] / observed[:, 1:]
        chance = permuted[:, 0] / permuted[:, 1]
    reached = (chance >= auc - 1e-12).sum(axis=1)
    p_values = reached / count if exact else (reached + 1) / (count + 1)
    return {"image": float(p_values[0]), "patient": float(p_values[1]), "permutations": count}


def _pairs(labels: np.ndarray, rank_sum: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Returns the pairs in order and all pairs for ``labels [P, K]``: ``float64 [2, P]``.

    The pairs in order follow from the sum of the ranks of malignant units (Mann and Whitney 1947).
    """
    malignant = labels @ size
    ordered = labels @ rank_sum - malignant * (malignant + 1) / 2
    return np.stack([ordered, malignant * (size.sum() - malignant)])


def _permuted(label: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permuted(np.broadcast_to(label, (count, len(label))), axis=1)


def _all_labels(label: np.ndarray) -> np.ndarray:
    chosen = list(itertools.combinations(range(len(label)), int(label.sum())))
    labels = np.zeros((len(chosen), len(label)), bool)
    for row, columns in enumerate(chosen):
        labels[row, list(columns)] = True
    return labels
