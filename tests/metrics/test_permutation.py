from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.permutation import auc_p_value
from se_resnet.metrics.predictions import in_folds
from tests.helpers.predictions import make, simulate


def test_all_permutations_of_few_patients():
    perfect = make([*"aab", *"ccdefgh"], [0] * 3 + [1] * 7, [0.1, 0.2, 0.3] + [0.9] * 7)
    found = auc_p_value(perfect, 2000, 0)
    assert found == {"image": 1 / 28, "patient": 1 / 28, "permutations": 28}
    turned = dataclasses.replace(perfect, probability=1 - perfect.probability)
    assert auc_p_value(turned, 2000, 0)["image"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_patients_agree_with_the_exact_rank_sum_test(seed):
    rng = np.random.default_rng(seed)
    score, label = rng.random(10), np.repeat([0, 1], [4, 6])
    found = auc_p_value(make([f"{i}" for i in range(10)], label, score), 2000, 0)
    expected = stats.mannwhitneyu(
        score[label == 1], score[label == 0], alternative="greater", method="exact"
    )
    assert found["permutations"] == 210
    assert found["patient"] == found["image"] == pytest.approx(expected.pvalue)


def test_equal_runs_are_significant_five_times_in_a_hundred():
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(200):
        predictions = simulate(images=120, accessions=20, seed=seed, decimals=9)
        effect = rng.random(20)[np.unique(predictions.accession, return_inverse=True)[1]]
        chance = dataclasses.replace(predictions, probability=(effect + rng.random(120)) / 2)
        p_values.append(auc_p_value(chance, 199, seed)["image"])
    assert 0.01 <= np.mean(np.array(p_values) <= 0.05) <= 0.1


def test_labels_are_permuted_within_folds():
    parts = [
        make([f"{f}{i}" for i in range(6)], [0, 0, 0, 1, 1, 1], f * 0.1 + np.linspace(0, 0.09, 6))
        for f in range(4)
    ]
    pooled = auc_p_value(in_folds(parts), 500, 0)
    assert pooled["permutations"] == 500
    assert pooled["image"] == pytest.approx(1 / 501)


def test_folds_without_pairs_have_no_auc():
    parts = [make(list("ab"), [0, 0], [0.1, 0.2]), make(list("cd"), [1, 1], [0.8, 0.7])]
    assert auc_p_value(in_folds(parts), 10, 0)["image"] is None
    image = evaluate(in_folds(parts))["image"]
    assert image["roc_auc"]["reason"] == "no fold contains both classes"
    assert image["roc_auc_pooled"]["value"] == 1


def test_one_class_has_no_p_value():
    assert auc_p_value(make(list("ab"), [1, 1], [0.2, 0.8]), 10, 0)["image"] is None
