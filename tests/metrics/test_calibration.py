from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy import optimize
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from se_resnet.metrics import calibration, selective
from se_resnet.metrics.calibration import expected_calibration_error, fit_temperature, scale
from se_resnet.metrics.calibration_line import calibration_line
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.predictions import logit_of, probability_of
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
    found = calibration.reliability_curve(predictions, bins=10)
    frequency, mean = calibration_curve(predictions.label, predictions.probability, n_bins=10)
    np.testing.assert_allclose(found["frequency"], frequency)
    np.testing.assert_allclose(found["mean_probability"], mean)
    assert sum(found["count"]) == len(predictions)
    error = expected_calibration_error(predictions.label, predictions.probability, bins=10)
    expected = np.average(np.abs(frequency - mean), weights=found["count"])
    assert error == pytest.approx(expected)


def test_reliability_curve_by_hand():
    predictions = make(list("aabbc"), [0, 0, 1, 1, 1], [0.1, 0.6, 0.6, 1.0, 0.9])
    found = calibration.reliability_curve(predictions, bins=2)
    assert found["lower"] == [0, 0.5]
    assert found["upper"] == [0.5, 1]
    assert found["count"] == [1, 4]
    assert found["accessions"] == [1, 3]
    assert found["mean_probability"] == pytest.approx([0.1, 3.1 / 4])
    assert found["frequency"] == [0, 0.75]
    assert found["low"][0] is found["high"][0] is None
    assert 0 < found["low"][1] < 0.3 and 0.95 < found["high"][1] < 1
    assert calibration.reliability_curve(predictions, bins=5)["count"] == [1, 2, 2]
    json.dumps(found, allow_nan=False)


def test_few_patients_draw_the_temperature_towards_one():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 5000)
    label = (rng.random(5000) < probability_of(logit)).astype(int)
    found = [fit_temperature(label, 3 * logit, patients) for patients in (1e9, 100, 10, 1, 1e-9)]
    assert found[0] == pytest.approx(3, rel=0.05)
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(1)


def test_description_agrees_with_scikit_learn():
    predictions = simulate(images=150, accessions=10)
    found = calibration.describe(predictions, 2.0, bins=5)
    for state, temperature in (("before", 1), ("after", 2)):
        probability = scale(predictions.probability, temperature)
        values = {
            "ece": expected_calibration_error(predictions.label, probability, 5),
            "brier": reference.brier_score_loss(predictions.label, probability),
            "nll": reference.log_loss(predictions.label, probability, labels=[0, 1]),
        }
        for name, value in values.items():
            assert found[state][name]["value"] == pytest.approx(value, abs=1e-9)
    assert (found["temperature"], found["bins"]) == (2, 5)
    brier = evaluate(predictions)["image"]["brier"]
    assert found["before"]["brier"] == brier
    assert found["before"]["nll"]["low"] < found["before"]["nll"]["value"]
    json.dumps(found, allow_nan=False)


def test_the_calibration_error_has_a_reference_and_no_interval():
    few, many = (
        calibration.describe(simulate(images=600, accessions=n), 1.0)["before"]["ece"]
        for n in (8, 200)
    )
    assert few["low"] is None and "reference" in few["reason"]
    assert few["reference"]["median"] > 1.5 * many["reference"]["median"] > 0
    assert few["reference"]["high"] > few["reference"]["median"]
    one_class = calibration.describe(make(list("ab"), [1, 1], [0.9, 0.8]), 1.0)["before"]
    assert one_class["ece"]["reference"] is None
    assert one_class["slope"]["value"] is None


@pytest.mark.parametrize("seed", range(2))
def test_intercept_and_slope_agree_with_scikit_learn(seed):
    predictions = simulate(images=400, accessions=12, seed=seed, decimals=6)
    found = calibration_line(predictions.label, predictions.probability, Cohort.of(predictions))
    logit = logit_of(predictions.probability.clip(1e-6, 1 - 1e-6))[:, None]

    def slope(part):
        fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14, max_iter=1000)
        fitted.fit(logit[part], predictions.label[part])
        return fitted.coef_[0, 0]

    everyone = np.ones(len(predictions), bool)
    assert found["slope"]["value"] == pytest.approx(slope(everyone), abs=1e-9)
    names = np.unique(predictions.accession)
    malignant = np.array([predictions.label[predictions.accession == n][0] for n in names])
    changes = np.array([slope(predictions.accession != n) for n in names]) - slope(everyone)
    variance = sum(
        (np.sum(malignant == c) - 1) / np.sum(malignant == c) * np.sum(changes[malignant == c] ** 2)
        for c in (0, 1)
    )
    half = (found["slope"]["high"] - found["slope"]["low"]) / 2
    assert 1.95 < half / np.sqrt(variance) < 4  # Student's t of 3 to 10 degrees of freedom
    intercept = optimize.brentq(
        lambda a: np.sum(predictions.label - probability_of(a + logit[:, 0])), -9, 9, xtol=1e-13
    )
    assert found["intercept"]["value"] == pytest.approx(intercept, abs=1e-9)


def test_separated_labels_have_no_slope():
    perfect = make(list("aabbccdd"), [0, 0, 0, 0, 1, 1, 1, 1], [0.1] * 4 + [0.9] * 4)
    found = calibration_line(perfect.label, perfect.probability, Cohort.of(perfect))
    assert found["slope"]["reason"] == "the probabilities separate the labels"
    assert found["intercept"]["value"] == pytest.approx(0, abs=1e-9)
    nearly = make(list("aabbccdd"), [0, 0, 0, 0, 1, 1, 1, 1], [0.1] * 3 + [0.95] + [0.9] * 4)
    found = calibration_line(nearly.label, nearly.probability, Cohort.of(nearly))
    assert found["slope"]["value"] is not None
    assert (
        found["slope"]["low"] is None and "without one of the patients" in found["slope"]["reason"]
    )


def test_a_sure_mistake_costs_a_finite_amount():
    predictions = make(list("ab"), [0, 1], [1.0, 0.0])
    found = calibration.describe(predictions, 1.0)
    assert found["before"]["nll"]["value"] == pytest.approx(36.04, abs=0.01)
    one = calibration.describe(make(["a"], [1], [0.5]), 1.0)
    assert one["after"]["nll"]["reason"] == "only one patient"


def test_risk_coverage_by_hand():
    # By falling confidence: wrong, right, right, wrong.
    predictions = make(list("abcd"), [0, 1, 0, 0], [0.95, 0.9, 0.2, 0.6])
    found = selective.risk_coverage(predictions, points=4)
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
        found = selective.risk_coverage(one, points=3)
        assert found["curve"]["risk"] == pytest.approx([0, 0.5 / 2, 1 / 3])
        assert found["aurc"]["value"] == pytest.approx((0 + 1 / 4 + 1 / 3) / 3)


def test_risk_coverage_has_intervals_over_patients():
    predictions = simulate(images=120, accessions=9, seed=3, decimals=1)
    found = selective.risk_coverage(predictions, points=10)
    curve = found["curve"]
    assert (np.array(curve["low"]) <= curve["risk"]).all()
    assert (np.array(curve["high"]) >= curve["risk"]).all()
    assert found["aurc"]["low"] < found["aurc"]["value"] < found["aurc"]["high"]
    accuracy = evaluate(predictions)["image"]["accuracy"]
    assert curve["risk"][-1] == pytest.approx(1 - accuracy["value"])
    assert curve["high"][-1] == pytest.approx(1 - accuracy["low"])
    one_patient = selective.risk_coverage(make(list("aa"), [1, 0], [0.9, 0.8]))
    assert one_patient["curve"]["low"] is one_patient["aurc"]["low"] is None


def test_aurc_equals_a_plain_loop():
    predictions = simulate(images=90, accessions=9, seed=3, decimals=9)
    confidence = np.maximum(predictions.probability, 1 - predictions.probability)
    wrong = (predictions.probability >= 0.5) != (predictions.label == 1)
    ordered = wrong[np.argsort(-confidence)]
    expected = np.mean([ordered[:k].mean() for k in range(1, 91)])
    assert selective.risk_coverage(predictions)["aurc"]["value"] == pytest.approx(expected)
