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
    cross-validation patients are compared within folds, and their labels are permuted within folds
    unless a patient is in several. Of a single network, all distinct permutations are used where
    they are at most ``permutations``: with 2 benign and 6 malignant patients there are 28, and no
    p-value is below 1/28 = 0.036.

    Args:
        predictions: N >= 1 images.
        permutations: number of permutations, at least 1.
        seed: seed of the permutations.

    Returns:
        ``image`` and ``patient`` (of the mean probability), each a number in (0, 1]; both are None
        where a class is missing, and ``image`` where a patient has images of both classes.
        ``permutations``: the number that was used.

    Raises:
        UserError: ``permutations`` is below 1.
    """
    if permutations < 1:
        raise UserError(f"{permutations} permutations are too few: choose at least 1.")
    cohort = Cohort.of(predictions)
    units, index = np.unique(cohort.fold * len(cohort) + cohort.group, return_inverse=True)
    fold, patient = units // len(cohort), units % len(cohort)
    images = np.bincount(index)
    mean = np.bincount(index, predictions.probability) / images
    parts = [np.flatnonzero(fold == number) for number in np.unique(fold)]
    blocks = [patient[part] for part in parts]
    if len(units) > len(cohort):  # patients in several folds keep one label in all of them
        blocks = [np.arange(len(cohort))]
    labels = _permuted_labels(cohort.malignant, blocks, permutations, np.random.default_rng(seed))
    count = len(labels) - 1
    counts = np.zeros((2, 2, len(labels)))  # level, pairs in order and all pairs, permutation
    for part in parts:
        of_fold = fold[index] == fold[part[0]]
        ranks = rankdata(predictions.probability[of_fold])
        of_images = np.bincount(index[of_fold], ranks, minlength=len(units))[part]
        of_part = labels[:, patient[part]]
        counts[0] += _pairs(of_part, of_images, images[part])
        counts[1] += _pairs(of_part, rankdata(mean[part]), np.ones(len(part)))
    if not counts[0, 1, 0]:
        return {"image": None, "patient": None, "permutations": 0}
    chance = np.full(counts[:, 0].shape, 0.5)
    np.divide(counts[:, 0], counts[:, 1], out=chance, where=counts[:, 1] > 0)
    reached = (chance[:, 1:] >= chance[:, :1] - 1e-12).sum(axis=1)
    exact = len(blocks) == 1 and count == math.comb(len(cohort), int(cohort.malignant.sum()))
    p_values = (reached / count if exact else (reached + 1) / (count + 1)).tolist()
    mixed = bool((cohort.images > 0).all(axis=1).any())
    return {
        "image": None if mixed else p_values[0],
        "patient": p_values[1],
        "permutations": count,
    }


def _permuted_labels(
    malignant: np.ndarray, blocks: list[np.ndarray], permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns the labels of the patients, then permutations of them within blocks.

    Args:
        malignant: ``bool [G]``.
        blocks: patients within which labels are permuted.
        permutations: number of permutations; fewer where all of a single block are fewer.
        rng: source of random numbers.

    Returns:
        ``bool [1 + P, G]``.
    """
    if len(blocks) == 1 and math.comb(len(malignant), int(malignant.sum())) <= permutations:
        return np.vstack([malignant, _all_labels(malignant)])
    labels = np.broadcast_to(malignant, (permutations, len(malignant))).copy()
    for block in blocks:
        labels[:, block] = rng.permuted(labels[:, block], axis=1)
    return np.vstack([malignant, labels])


def _pairs(labels: np.ndarray, rank_sum: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Returns the pairs in order and all pairs for ``labels [P, K]``: ``float64 [2, P]``.

    The pairs in order follow from the sum of the ranks of malignant units (Mann and Whitney 1947).
    """
    malignant = labels @ size
    ordered = labels @ rank_sum - malignant * (malignant + 1) / 2
    return np.stack([ordered, malignant * (size.sum() - malignant)])


def _all_labels(label: np.ndarray) -> np.ndarray:
    chosen = list(itertools.combinations(range(len(label)), int(label.sum())))
    labels = np.zeros((len(chosen), len(label)), bool)
    for row, columns in enumerate(chosen):
        labels[row, list(columns)] = True
    return labels
