"""Folds with gaps, patients in several folds, patients of both classes, patients who are alike."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest

from se_resnet.metrics.comparison import compare
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.full import all_metrics
from se_resnet.metrics.permutation import auc_p_value
from tests.helpers.predictions import make, simulate

PROBABILITY = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
PAIRS = list("aabbccdd")


def cohort(label, fold, probability=PROBABILITY):
    return dataclasses.replace(make(PAIRS, label, probability), fold=np.array(fold))


@pytest.mark.parametrize(
    "predictions",
    [
        cohort([0] * 4 + [1] * 4, [0, 0, 2, 2, 0, 0, 2, 2]),  # a gap
        cohort([0] * 4 + [1] * 4, [5] * 8),
        cohort([0] * 4 + [1] * 4, [0, 1, 2, 1, 0, 1, 2, 1]),  # patients in several folds
        cohort([0] * 4 + [1] * 4, [0] * 4 + [1] * 4),  # no fold with both classes
        cohort([0, 1] * 4, [0, 1, 1, 0, 0, 1, 1, 0]),  # patients of both classes in several folds
        cohort([0, 1] * 4, [0] * 8),
        cohort([0] * 4 + [1] * 4, [0] * 8, [0.5] * 8),
        cohort([0] * 4 + [1] * 4, [0] * 8, [0.0] * 4 + [1.0] * 4),
        cohort([1] * 8, [0, 1] * 4),
        make(["a"], [1], [0.4]),
    ],
)
def test_every_cohort_is_described_without_a_warning(predictions):
    decision = Decision("accuracy", 0.4, 1.3, 0.1, "", 10, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = all_metrics(predictions, [decision], 50)
        compared = compare(predictions, predictions)
    json.dumps([found, compared], allow_nan=False)


def test_patients_in_folds_without_the_other_class_do_not_count():
    first = make(list("abcde"), [0, 1, 1, 1, 1], [0.5, 0.4, 0.6, 0.7, 0.8])
    second = make([f"z{i}" for i in range(10)], [0] * 10, np.linspace(0, 1, 10))
    both = dataclasses.replace(
        make(
            [*first.accession, *second.accession],
            [*first.label, *second.label],
            [*first.probability, *second.probability],
        ),
        fold=np.repeat([0, 1], [5, 10]),
    )
    within = evaluate(both)["image"]["roc_auc"]
    assert within["value"] == evaluate(first)["image"]["roc_auc"]["value"]
    assert within["patients"] == {"all": 5, "benign": 1, "malignant": 4}
    assert within["reason"] == "benign images of one patient only"


def test_patients_who_are_half_right_are_not_known_to_be_alike():
    estimate = evaluate(make(PAIRS, [1] * 8, [0.1, 0.9] * 4))["image"]["accuracy"]
    assert estimate["value"] == 0.5
    assert estimate["low"] < 0.4 and estimate["high"] > 0.6


def test_patients_in_several_folds_keep_one_label_in_all_permutations():
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(120):
        predictions = simulate(images=240, accessions=16, seed=seed, decimals=9)
        effect = rng.random(16)[np.unique(predictions.accession, return_inverse=True)[1]]
        chance = dataclasses.replace(
            predictions,
            probability=(effect + rng.random(240)) / 2,
            fold=rng.integers(0, 5, 240),
        )
        p_values.append(auc_p_value(chance, 199, seed)["image"])
    assert np.mean(np.array(p_values) <= 0.05) <= 0.1


def test_a_mean_of_equal_probabilities_is_called_as_its_images():
    predictions = make(list("aaabbb"), [1] * 6, [0.7] * 6)
    patient = evaluate(predictions, 0.7)["patient"]
    assert patient["mean_probability"]["confusion"]["tp"] == 2
