from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from se_resnet.metrics.evaluation import evaluate, headline
from se_resnet.metrics.seeds import across_repeats, compare_repeats
from tests.helpers.predictions import make, simulate


def repeats(count=3, noise=0.1, **options):
    predictions = simulate(images=200, accessions=24, decimals=9, **options)
    rng = np.random.default_rng(1)
    return [
        dataclasses.replace(
            predictions,
            probability=np.clip(predictions.probability + noise * rng.normal(size=200), 0, 1),
        )
        for _ in range(count)
    ]


def test_the_interval_holds_patients_and_seeds():
    runs = repeats()
    found = across_repeats(runs)
    each = [headline(evaluate(run)) for run in runs]
    for name, summary in found.items():
        values = [metrics[name]["value"] for metrics in each]
        assert summary["values"] == values
        assert summary["mean"] == pytest.approx(np.mean(values))
        assert summary["sd"] == pytest.approx(np.std(values, ddof=1))
        distance = np.mean([metrics[name]["value"] - metrics[name]["low"] for metrics in each])
        seeds = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
        assert summary["low"] == pytest.approx(max(0, np.mean(values) - np.hypot(distance, seeds)))
        assert summary["high"] <= 1
    same = across_repeats([runs[0]] * 2)["image_roc_auc"]
    alone = each[0]["image_roc_auc"]
    assert (same["low"], same["high"]) == pytest.approx((alone["low"], alone["high"]))


def test_differences_are_paired_by_repeat():
    a = repeats(noise=0.3)
    b = [dataclasses.replace(run, probability=run.label * 0.2 + run.probability * 0.8) for run in a]
    found = compare_repeats(b, a)["image_roc_auc"]
    assert found["mean"] > 0.02 and found["low"] < found["mean"] < found["high"]
    nothing = compare_repeats(a, a)["image_accuracy"]
    assert nothing["mean"] == nothing["sd"] == 0
    assert nothing["low"] < 0 < nothing["high"]
    with pytest.raises(ValueError, match="argument"):
        compare_repeats(a, b[:2])


def test_an_undefined_repeat_is_named():
    runs = [simulate(images=40, accessions=8), make(list("ab"), [1, 1], [0.9, 0.8])]
    found = across_repeats(runs)["image_roc_auc"]
    assert found["values"][1] is None
    assert found["low"] is None
    assert found["reason"] == "repeat 1: no image is benign"
