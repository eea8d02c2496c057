from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference

from se_resnet.errors import UserError
from se_resnet.metrics.decision import (
    Decision,
    choose_threshold,
    combine,
    decide,
    decide_left_out,
    parse_target,
)
from se_resnet.metrics.predictions import concatenate, probability_of
from tests.helpers.predictions import make


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("accuracy", ("accuracy", 0)),
        ("balanced_accuracy", ("balanced_accuracy", 0)),
        ("youden", ("youden", 0)),
        ("sensitivity>=0.95", ("sensitivity", 0.95)),
        ("sensitivity>=.9", ("sensitivity", 0.9)),
        ("sensitivity>=1", ("sensitivity", 1)),
        ("sensitivity>=1.0", ("sensitivity", 1)),
    ],
)
def test_targets(target, expected):
    assert parse_target(target) == expected


@pytest.mark.parametrize(
    "target",
    ["", "Accuracy", "f1", "sensitivity", "sensitivity>0.9", "sensitivity>=", "sensitivity>=95",
     "sensitivity>=1.01", "sensitivity>=0", "sensitivity>=0.0", "sensitivity>=-0.9",
     "sensitivity >= 0.9", "sensitivity>=0.9 ", "sensitivity>=0.9\n", "sensitivity>=nan",
     "sensitivity>=1e-1", "specificity>=0.9"],
)  # fmt: skip
def test_other_targets_are_refused(target):
    with pytest.raises(UserError, match="threshold target.*sensitivity>=0.95"):
        choose_threshold(np.array([0, 1]), np.array([0.1, 0.9]), target)


def simulate(seed, decimals):
    rng = np.random.default_rng(seed)
    label = (rng.random(60) < 0.7).astype(int)
    return label, np.round(np.clip(rng.normal(0.3 + 0.25 * label, 0.2), 0, 1), decimals)


def outcome(label, probability, threshold):
    predicted = (probability >= threshold).astype(int)
    return {
        "accuracy": reference.accuracy_score(label, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(label, predicted),
        "sensitivity": reference.recall_score(label, predicted),
        "specificity": reference.recall_score(label, predicted, pos_label=0),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 9])
def test_no_threshold_does_better(seed, decimals):
    label, probability = simulate(seed, decimals)
    every = [outcome(label, probability, t) for t in (*np.unique(probability), 1.0)]
    for target in ("accuracy", "balanced_accuracy"):
        chosen, reason = choose_threshold(label, probability, target)
        assert reason == ""
        found = outcome(label, probability, chosen)[target]
        assert found == pytest.approx(max(one[target] for one in every))
    for least in (0.5, 0.9, 1):
        chosen, _ = choose_threshold(label, probability, f"sensitivity>={least}")
        found = outcome(label, probability, chosen)
        assert found["sensitivity"] >= least
        admitted = [one["specificity"] for one in every if one["sensitivity"] >= least]
        assert found["specificity"] == pytest.approx(max(admitted))
    assert choose_threshold(label, probability, "youden") == choose_threshold(
        label, probability, "balanced_accuracy"
    )


@pytest.mark.parametrize(
    ("label", "probability", "target", "expected"),
    [
        # A gap: its middle, not either end.
        ([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], "accuracy", 0.45),
        # Equally good at 0.3 (one false alarm) and at 0.7 (one miss): the lower of two as near.
        ([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8], "accuracy", 0.3),
        ([0, 1, 0, 1], [0.25, 0.35, 0.65, 0.75], "accuracy", 0.3),
        # A probability of 1 is called malignant at the threshold 1 too.
        ([0, 0, 1], [1.0, 1.0, 0.2], "accuracy", 0.0),
        # 0.15 and 0.6 are as good; 0.6 is nearer to 0.5.
        ([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.8], "accuracy", 0.6),
        # All malignant is best for accuracy, not for balanced accuracy.
        ([1, 1, 1, 0, 1], [0.2, 0.3, 0.6, 0.7, 0.9], "accuracy", 0.0),
        ([1, 1, 1, 0, 1], [0.2, 0.3, 0.6, 0.7, 0.9], "balanced_accuracy", 0.8),
        # None malignant is best.
        ([0, 1, 0, 0], [0.2, 0.3, 0.4, 0.6], "accuracy", 1.0),
        # Half of the malignant images suffice, but more of them cost nothing.
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "sensitivity>=0.5", 0.5),
        ([0, 1, 0, 1], [0.1, 0.2, 0.6, 0.9], "sensitivity>=0.5", 0.75),
        ([0, 1, 0, 1], [0.1, 0.2, 0.6, 0.9], "sensitivity>=0.51", 0.15),
        ([1, 0], [0.0, 0.5], "sensitivity>=1", 0.0),
    ],
)  # fmt: skip
def test_by_hand(label, probability, target, expected):
    found = choose_threshold(np.array(label), np.array(probability), target)
    assert found == (pytest.approx(expected), "")


@pytest.mark.parametrize(
    ("label", "word"), [([1, 1], "benign"), ([0, 0], "malignant"), ([], "malignant")]
)
def test_one_class_leaves_the_threshold_at_a_half(label, word):
    threshold, reason = choose_threshold(np.array(label), np.array([0.2, 0.9][: len(label)]))
    assert threshold == 0.5
    assert f"no validation image is {word}" in reason


def cohort(benign, malignant, seed=0, images=5, shift=0.0):
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], [benign * images, malignant * images])
    accession = [f"{seed}-{i}" for i in range(benign + malignant) for _ in range(images)]
    logit = 2.0 * label - 1 + shift + rng.normal(0, 1.5, len(label))
    return make(accession, label, probability_of(logit))


@pytest.mark.parametrize("shift", [-2.1, 0.0, 1.5])
def test_doubt_is_nearness_to_the_threshold_that_makes_the_call(shift):
    predictions = cohort(12, 15, shift=shift)
    chosen = decide(predictions, "balanced_accuracy")
    distance = chosen.distance(predictions.probability)
    assert (distance < chosen.margin).mean() == pytest.approx(0.2, abs=0.02)
    near = chosen.distance(np.array([chosen.threshold - 1e-4, chosen.threshold + 1e-4]))
    assert (near < chosen.margin).all()


@pytest.mark.parametrize(("benign", "malignant"), [(9, 40), (40, 9), (2, 4), (0, 30)])
def test_few_patients_choose_neither_threshold_nor_temperature(benign, malignant):
    chosen = decide(cohort(benign, malignant, shift=-2), "balanced_accuracy")
    assert (chosen.threshold, chosen.temperature) == (0.5, 1.0)
    assert (chosen.benign_patients, chosen.malignant_patients) == (benign, malignant)
    assert f"{benign} benign and {malignant} malignant" in chosen.describe()
    assert "10 of each are needed" in chosen.describe()
    assert chosen.margin > 0


def test_ten_patients_of_each_class_choose():
    chosen = decide(cohort(10, 10, shift=-2), "balanced_accuracy")
    assert chosen.threshold < 0.4
    assert chosen.temperature != 1
    assert "chosen by 10 benign and 10 malignant validation patients" in chosen.describe()
    assert "for balanced_accuracy" in chosen.describe()


def test_no_image_leaves_the_decision_alone():
    chosen = decide(make([], [], []), "accuracy")
    assert (chosen.threshold, chosen.temperature, chosen.margin) == (0.5, 1.0, 0.0)


def test_no_patient_chooses_the_threshold_it_is_tested_with():
    tested = [cohort(12, 12, seed=seed, shift=shift) for seed, shift in enumerate((-3, 0, 3))]
    # Fold k validates on the patients that fold k + 1 tests.
    validation = [tested[1], tested[2], tested[0]]
    decisions = decide_left_out(validation, tested, "balanced_accuracy")
    for fold, decision in enumerate(decisions):
        others = concatenate([part for k, part in enumerate(tested) if k != fold])
        alone = decide(others, "balanced_accuracy")
        assert decision.threshold == pytest.approx(alone.threshold)
        assert (decision.benign_patients, decision.malignant_patients) == (24, 24)
    assert decisions[0].threshold > decisions[2].threshold
    combined = combine(decisions)
    assert combined.threshold == pytest.approx(np.mean([d.threshold for d in decisions]))
    assert combined.benign_patients == 24


def test_a_decision_of_the_version_before_says_so():
    chosen = Decision("accuracy", 0.4, 1.2, 0.1, "")
    assert "an unrecorded number of validation patients" in chosen.describe()


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_distance_from_an_end_is_finite(threshold):
    chosen = Decision("accuracy", threshold, 1.0, 0.0, "")
    assert np.isfinite(chosen.distance(np.array([0.0, 0.5, 1.0]))).all()
