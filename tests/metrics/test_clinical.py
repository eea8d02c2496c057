from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy import stats

from se_resnet.errors import UserError
from se_resnet.metrics.clinical import describe
from se_resnet.metrics.intervals import newcombe_auc
from se_resnet.metrics.sample_size import (
    patients_for_auc,
    patients_for_difference,
    patients_for_share,
)
from tests.helpers.predictions import make, simulate


def patients_of(predictions):
    names = np.unique(predictions.accession)
    rows = [predictions.accession == name for name in names]
    return (
        np.array([predictions.label[row].max() for row in rows]),
        np.array([predictions.probability[row].mean() for row in rows]),
    )


def test_predictive_values_follow_bayes():
    predictions = simulate(images=400, accessions=40, seed=3)
    label, mean = patients_of(predictions)
    tn, fp, fn, tp = reference.confusion_matrix(label, mean >= 0.5).ravel()
    observed = describe(predictions)
    assert observed["prevalence"] == label.mean() and not observed["prevalence_given"]
    assert observed["ppv"]["value"] == pytest.approx(tp / (tp + fp))
    assert observed["npv"]["value"] == pytest.approx(tn / (tn + fn))
    rare = describe(predictions, 0.02)
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    expected = 0.02 * sensitivity / (0.02 * sensitivity + 0.98 * (1 - specificity))
    assert rare["ppv"]["value"] == pytest.approx(expected)
    positive, negative = reference.class_likelihood_ratios(label, mean >= 0.5)
    for name, ratio in (("positive", positive), ("negative", negative)):
        found = rare[f"{name}_likelihood_ratio"]
        assert found["value"] == pytest.approx(ratio)
        assert found["low"] < ratio < found["high"]
    assert rare["ppv"]["low"] < rare["ppv"]["value"] < rare["ppv"]["high"]
    json.dumps(rare, allow_nan=False)


def test_operating_points_keep_the_given_rate():
    predictions = simulate(images=400, accessions=60, seed=3, decimals=9)
    label, mean = patients_of(predictions)
    found = describe(predictions)
    for point in found["sensitivity_at_specificity"]:
        called = mean >= point["threshold"]
        assert (~called[label == 0]).mean() >= point["at"]
        assert called[label == 1].mean() == pytest.approx(point["value"])
        fpr, tpr, _ = reference.roc_curve(label, mean, drop_intermediate=False)
        assert point["value"] == pytest.approx(tpr[fpr <= 1 - point["at"] + 1e-12].max())
        assert point["low"] <= point["value"] <= point["high"]
    for point in found["specificity_at_sensitivity"]:
        called = mean >= point["threshold"]
        assert called[label == 1].mean() >= point["at"]
        assert (~called[label == 0]).mean() == pytest.approx(point["value"])
        assert point["low"] <= point["value"] <= point["high"]


def test_net_benefit_by_its_formula():
    predictions = simulate(images=400, accessions=40, seed=3)
    label, mean = patients_of(predictions)
    curve = describe(predictions)["decision_curve"]
    for threshold, benefit, all_treated in zip(
        curve["threshold"], curve["net_benefit"], curve["treat_all"], strict=True
    ):
        tp = np.mean((mean >= threshold) & (label == 1))
        fp = np.mean((mean >= threshold) & (label == 0))
        odds = threshold / (1 - threshold)
        assert benefit == pytest.approx(tp - fp * odds)
        assert all_treated == pytest.approx(label.mean() - (1 - label.mean()) * odds)
    assert (np.array(curve["low"]) < curve["high"]).all()


def test_perfect_and_scarce_patients():
    perfect = make(list("abcdef"), [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    found = describe(perfect)
    assert found["remark"] == "too few patients to tell"
    assert found["positive_likelihood_ratio"]["value"] is None  # infinite
    assert found["positive_likelihood_ratio"]["low"] > 0
    assert found["negative_likelihood_ratio"]["value"] == 0
    assert found["ppv"]["value"] == 1 and found["ppv"]["low"] < 0.7
    never = describe(dataclasses.replace(perfect, probability=np.full(6, 0.1)))
    assert never["ppv"]["value"] is never["positive_likelihood_ratio"]["value"] is None
    one = make(list("abb"), [0, 1, 1], [0.1, 0.8, 0.9])
    assert describe(one)["reason"] == "there are not two patients of each class"


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 3.0])
def test_an_impossible_prevalence_is_named(prevalence):
    with pytest.raises(UserError, match=f"prevalence {prevalence}"):
        describe(simulate(), prevalence)


def test_the_least_number_of_patients_is_found():
    needed = patients_for_auc(0.9, 0.1, 0.7)
    widths = [
        np.diff(newcombe_auc(0.9, 0.3 * patients, 0.7 * patients))
        for patients in (needed - 1, needed)
    ]
    assert widths[1] <= 0.1 < widths[0]
    needed = patients_for_share(1.0, 0.1)
    assert 1 - 0.025 ** (1 / needed) <= 0.1 < 1 - 0.025 ** (1 / (needed - 1))
    assert patients_for_auc(0.9, 1e-6, 0.5) is None


def test_patients_for_a_difference_have_a_power_of_80_percent():
    needed = patients_for_difference(0.02, 0.02, 44)
    error = 0.02 * np.sqrt(44 / needed)
    power = stats.norm.sf(stats.norm.ppf(0.975) - 0.02 / error)
    assert power == pytest.approx(0.8, abs=0.005)
    assert patients_for_difference(0.0, 0.02, 44) is None


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (patients_for_auc, (1.2, 0.1, 0.5)),
        (patients_for_auc, (0.9, 0.0, 0.5)),
        (patients_for_auc, (0.9, 0.1, 1.0)),
        (patients_for_share, (-0.1, 0.1)),
        (patients_for_share, (0.5, 1.5)),
    ],
)
def test_arguments_out_of_range_are_named(function, arguments):
    with pytest.raises(UserError, match="out of range"):
        function(*arguments)
