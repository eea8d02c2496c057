"""Agreement of the calls for a patient over magnifications."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations

import numpy as np
import pytest

from se_resnet.metrics.agreement import magnification_agreement
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.intervals import share_interval
from tests.helpers.predictions import make, simulate


def by_hand(predictions, threshold):
    """The agreeing pairs of each patient, one pair at a time, by pair of magnifications."""
    found: dict[str, dict[str, bool]] = {}
    for name in sorted(set(predictions.accession.tolist())):
        calls = {}
        for scale in sorted(set(predictions.magnification.tolist()) - {0}):
            chosen = (predictions.accession == name) & (predictions.magnification == scale)
            if chosen.any():
                calls[scale] = predictions.probability[chosen].mean() >= threshold
        found[name] = {f"{a}-{b}": calls[a] == calls[b] for a, b in combinations(calls, 2)}
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.35])
def test_the_mean_over_patients_of_the_share_of_agreeing_pairs(threshold):
    predictions = simulate(images=90, accessions=24, decimals=9)
    predictions = dataclasses.replace(
        predictions, magnification=np.where(np.arange(90) % 9, predictions.magnification, 0)
    )
    expected = by_hand(predictions, threshold)
    shares = [np.mean(list(pairs.values())) for pairs in expected.values() if pairs]
    assert len({len(pairs) for pairs in expected.values()}) >= 3 and 0 < np.mean(shares) < 1
    found = magnification_agreement(predictions, threshold)
    estimate = found["all_pairs"]
    assert estimate["value"] == pytest.approx(np.mean(shares))
    bounds = share_interval(np.array(shares), np.ones(len(shares)))
    assert (estimate["low"], estimate["high"]) == pytest.approx(tuple(bounds))
    assert estimate["patients"]["all"] == len(shares) < 24
    names = {f"{a}-{b}" for a, b in combinations((40, 100, 200, 400), 2)}
    assert set(found["by_pair"]) == names
    for name in names:
        calls = [pairs[name] for pairs in expected.values() if name in pairs]
        assert found["by_pair"][name]["value"] == pytest.approx(np.mean(calls))
        assert found["by_pair"][name]["patients"]["all"] == len(calls)


def test_every_patient_counts_the_same_whatever_the_number_of_images():
    # Three magnifications of a, of which two agree; two of b, which agree.
    accession = [*"aaaaaaaabb"]
    probability = [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.4]
    scales = [40, 100, 100, 100, 200, 200, 200, 200, 40, 400]
    found = magnification_agreement(make(accession, [0] * 10, probability, scales), 0.5)
    assert found["all_pairs"]["value"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["by_pair"]["40-100"]["value"] == 0
    assert found["by_pair"]["100-200"]["value"] == 1
    assert found["by_pair"]["40-100"]["reason"] == "only one patient"
    absent = found["by_pair"]["100-400"]
    assert absent["value"] is None and absent["patients"]["all"] == 0
    assert absent["reason"] == "no patient is seen at both 100X and 400X"


@pytest.mark.parametrize("scales", [[200, 200], [0, 0], [0, 40], [40, 100]])
def test_without_a_patient_at_two_magnifications_there_is_a_reason(scales):
    found = evaluate(make(["a", "b"], [0, 1], [0.1, 0.9], scales))["magnification_agreement"]
    assert found["all_pairs"]["value"] is None and found["all_pairs"]["low"] is None
    assert found["all_pairs"]["reason"] == "no patient is seen at two magnifications"
    json.dumps(found, allow_nan=False)


def test_images_of_unknown_magnification_do_not_count():
    accession, label = list("aabb" * 2), [0, 0, 1, 1] * 2
    probability = [0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1]
    predictions = make(accession, label, probability, [40, 100, 40, 100, 0, 0, 0, 0])
    found = evaluate(predictions)["magnification_agreement"]
    assert found["all_pairs"]["value"] == 1 and set(found["by_pair"]) == {"40-100"}


def test_a_threshold_of_each_image_is_that_of_the_call():
    predictions = make(list("aabb"), [1] * 4, [0.4, 0.6, 0.4, 0.6], [40, 100, 40, 100])
    found = magnification_agreement(predictions, np.array([0.3, 0.3, 0.5, 0.5]))
    assert found["all_pairs"]["value"] == 0.5


def test_a_mean_of_equal_probabilities_is_called_as_its_images():
    predictions = make(list("aaaab"), [1] * 5, [0.7] * 5, [40, 40, 40, 100, 100])
    assert magnification_agreement(predictions, 0.7)["all_pairs"]["value"] == 1


def test_many_magnifications_have_no_agreement_by_pair():
    predictions = simulate(images=90, accessions=24, decimals=9)
    predictions = dataclasses.replace(predictions, magnification=np.arange(90) % 11 + 1)
    found = magnification_agreement(predictions, 0.5)
    assert found["by_pair"] == {} and found["all_pairs"]["value"] is not None
