from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy import optimize
from sklearn.calibration import calibration_curve

from se_resnet.metrics import bootstrap, calibration, selective
from se_resnet.metrics.calibration import expected_calibration_error, fit_temperature, scale
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.predictions import probability_of
from tests.helpers.predictions import make, simulate


def test_the_temperature_of_a_model_that_is_too_sure_is_found():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 20_000)
    label = (rng.random(20_000) < probability_of(logit)).astype(int)
    assert fit_temperature(label, 3 * logit) == pytest.approx(3, rel=0.05)
    assert fit_temperature(label, logit / 2) == pytest.approx(0.5, rel=0.05)


def test_the_temperature_minimises_the_likelihood_loss():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 80)
    logit = rng.normal(2 * label - 1, 3).astype(np.float32)
    best = optimize.minimize_scalar(
        lambda t: reference.log_loss(label, probability_of(logit / np.exp(t))), (-1, 1)
    )
    assert fit_temperature(label, logit) == pytest.approx(np.exp(best.x), rel=1e-4)


@pytest.mark.parametrize(
    ("label", "logits", "expected"),
    [
        ([0, 1, 1], [-2, 1, 3], 0.05),  # separated
        ([0, 1, 1], [-2e4, 1e4, 3e4], 0.05),
        ([1, 1], [1, 2], 0.05),  # one class
        ([0, 1], [2, -1], 20.0),  # turned round
        ([0, 1], [1, 1], 20.0),  # no better than a coin
        ([1, 0], [0, 0], 1.0),
        ([], [], 1.0),
    ],
)
def test_temperature_of_degenerate_validation_images(label, logits, expected):
    with np.errstate(over="raise", invalid="raise"):
        assert fit_temperature(np.array(label), np.array(logits)) == expected


def test_impossible_logits_are_refused():
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([0, 1]), np.array([0, np.inf]))
    with pytest.raises(ValueError, match="one logit per label"):
        fit_temperature(np.array([0, 1]), np.array([[0], [1]]))


def test_scaling():
    logit = np.array([-3.0, -0.5, 0, 2, 8])
    np.testing.assert_allclose(scale(probability_of(logit), 2.5), probability_of(logit / 2.5))
    np.testing.assert_array_equal(scale(np.array([0.0, 0.5, 1.0]), 7.0), [0, 0.5, 1])


def test_calibration_error_by_hand():
    label = np.array([0, 1, 1, 0])
    probability = np.array([0.0, 0.5, 0.6, 0.9])
    # [0, 0.5] holds 0 and 0.5: mean 0.25, share 1/2. (0.5, 1] holds 0.6 and 0.9: 0.75 and 1/2.
    assert expected_calibration_error(label, probability, bins=2) == pytest.approx(0.25)
    # One bin: mean 0.5, share 1/2.
    assert expected_calibration_error(label, probability, bins=1) == 0
    assert expected_calibration_error(np.array([1, 1]), np.array([0.8, 0.6])) == pytest.approx(0.3)


@pytest.mark.parametrize("decimals", [1, 9])
def test_bins_agree_with_scikit_learn(decimals):
    predictions = simulate(decimals=decimals)
    found = calibration.reliability_curve(predictions, bins=10, resamples=20)
    frequency, mean = calibration_curve(predictions.label, predictions.probability, n_bins=10)
    np.testing.assert_allclose(found["frequency"], frequency)
    np.testing.assert_allclose(found["mean_probability"], mean)
    assert sum(found["count"]) == len(predictions)
    error = expected_calibration_error(predictions.label, predictions.probability, bins=10)
    expected = np.average(np.abs(frequency - mean), weights=found["count"])
    assert error == pytest.approx(expected)


def test_reliability_curve_by_hand():
    predictions = make(list("aabbc"), [0, 0, 1, 1, 1], [0.1, 0.6, 0.6, 1.0, 0.9])
    found = calibration.reliability_curve(predictions, bins=2, resamples=400)
    assert found["lower"] == [0, 0.5]
    assert found["upper"] == [0.5, 1]
    assert found["count"] == [1, 4]
    assert found["accessions"] == [1, 3]
    assert found["mean_probability"] == pytest.approx([0.1, 3.1 / 4])
    assert found["frequency"] == [0, 0.75]
    assert found["low"] == [None, 0]
    assert found["high"] == [None, 1]
    assert calibration.reliability_curve(predictions, bins=5, resamples=9)["count"] == [1, 2, 2]
    json.dumps(found, allow_nan=False)


def test_description_equals_scikit_learn_over_the_same_resamples():
    predictions = simulate(images=150, accessions=10)
    found = calibration.describe(predictions, 2.0, bins=5, resamples=60, seed=2)
    names = np.unique(predictions.accession)
    draws = [np.arange(len(predictions))]
    for multiplicity in bootstrap.bootstrap_weights(len(names), 60, seed=2).astype(int):
        rows = [np.flatnonzero(predictions.accession == n) for n in np.repeat(names, multiplicity)]
        draws.append(np.concatenate(rows))
    for state, temperature in (("before", 1), ("after", 2)):
        values = {"ece": [], "brier": [], "nll": []}
        for rows in draws:
            label = predictions.label[rows]
            probability = scale(predictions.probability[rows], temperature)
            values["ece"].append(expected_calibration_error(label, probability, 5))
            values["brier"].append(reference.brier_score_loss(label, probability))
            values["nll"].append(reference.log_loss(label, probability, labels=[0, 1]))
        for name, (value, *resampled) in values.items():
            figure = found[state][name]
            assert figure["value"] == pytest.approx(value)
            expected = np.quantile(resampled, [0.025, 0.975])
            assert [figure["low"], figure["high"]] == pytest.approx(expected)
    assert (found["temperature"], found["bins"]) == (2, 5)
    brier = evaluate(predictions, resamples=60, seed=2)["image"]["brier"]
    assert found["before"]["brier"] == pytest.approx(brier)
    json.dumps(found, allow_nan=False)


def test_a_sure_mistake_costs_a_finite_amount():
    predictions = make(list("ab"), [0, 1], [1.0, 0.0])
    found = calibration.describe(predictions, 1.0, resamples=20)
    assert found["before"]["nll"]["value"] == pytest.approx(36.04, abs=0.01)
    one = calibration.describe(make(["a"], [1], [0.5]), 1.0, resamples=20)
    assert one["after"]["ece"]["reason"] == "only one accession"


def test_risk_coverage_by_hand():
    # By falling confidence: wrong, right, right, wrong.
    predictions = make(list("abcd"), [0, 1, 0, 0], [0.95, 0.9, 0.2, 0.6])
    found = selective.risk_coverage(predictions, resamples=50, points=4)
    assert found["curve"]["coverage"] == [0.25, 0.5, 0.75, 1]
    assert found["curve"]["risk"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 2])
    assert found["aurc"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # 3.2 images: 1 + 0.2 errors.
    assert found["accuracy_at_80"]["value"] == pytest.approx(1 - 1.2 / 3.2)
    json.dumps(found, allow_nan=False)


def test_equal_confidence_shares_its_errors():
    # 0.3 and 0.7 are equally sure, though 0.5 - 0.3 and 0.7 - 0.5 differ in floating point.
    predictions = make(list("abc"), [0, 0, 1], [0.3, 0.7, 0.9])
    turned = make(list("abc"), [1, 1, 1], [0.3, 0.7, 0.9])
    for one in (predictions, turned):
        found = selective.risk_coverage(one, resamples=50, points=3)
        assert found["curve"]["risk"] == pytest.approx([0, 0.5 / 2, 1 / 3])
        assert found["aurc"]["value"] == pytest.approx((0 + 1 / 4 + 1 / 3) / 3)


def test_risk_coverage_resamples_patients():
    predictions = simulate(images=120, accessions=9, seed=3, decimals=1)
    found = selective.risk_coverage(predictions, resamples=80, seed=5, points=10)
    names = np.unique(predictions.accession)
    alone = []
    for multiplicity in bootstrap.bootstrap_weights(len(names), 80, seed=5).astype(int):
        rows = [np.flatnonzero(predictions.accession == n) for n in np.repeat(names, multiplicity)]
        part = predictions.take(np.concatenate(rows))
        alone.append(selective.risk_coverage(part, resamples=1, points=10))
    for name in ("aurc", "accuracy_at_80"):
        expected = np.quantile([one[name]["value"] for one in alone], [0.025, 0.975])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(expected)
    low, high = np.quantile([one["curve"]["risk"] for one in alone], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(found["curve"]["low"], low)
    np.testing.assert_allclose(found["curve"]["high"], high)
    whole = evaluate(predictions, resamples=1)["image"]["accuracy"]["value"]
    assert found["curve"]["risk"][-1] == pytest.approx(1 - whole)
    one_patient = selective.risk_coverage(make(list("aa"), [1, 0], [0.9, 0.8]), resamples=9)
    assert one_patient["curve"]["low"] is one_patient["aurc"]["low"] is None
