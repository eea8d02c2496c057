"""The tables of the benchmarks that train, from runs whose figures are known."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest

from benchmarks import attention_modules, experiments, leakage
from se_resnet.metrics import calibration
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.predictions import logit_of
from se_resnet.runs import run_files
from se_resnet.runtime.files import write_json
from tests.helpers.predictions import simulate


def evaluated(run, predictions):
    """A workdir as an evaluated run leaves it."""
    folder = run / "eval" / "test"
    folder.mkdir(parents=True)
    predictions.write_csv(folder / "predictions.csv")
    figures = evaluate(predictions)
    seen = {"evaluated_images_of_seen_accessions": len(predictions) // 2}
    leaks = dict.fromkeys((*run_files.LEAKS, "evaluated_accessions_seen"), 0)
    write_json(
        folder / "metrics.json",
        {
            **figures,
            "at_chosen_threshold": {part: figures[part] for part in ("image", "patient")},
            "calibration": calibration.describe(predictions, 1.0),
            "audit": {"protocol": "strict", **leaks, **seen},
        },
    )


def shifted(predictions, by):
    """Nearer to the truth by ``by``."""
    towards = np.where(predictions.label == 1, by, -by)
    return dataclasses.replace(
        predictions, probability=np.clip(predictions.probability + towards, 0.01, 0.99)
    )


def test_a_gain_is_told_with_its_interval(tmp_path):
    base = shifted(simulate(images=200, accessions=12), 0)
    for seed in (0, 1):
        evaluated(tmp_path / f"none-{seed}", base)
        evaluated(tmp_path / f"se-{seed}", shifted(base, 0.2 + 0.1 * seed))
    options = argparse.Namespace(workdir=tmp_path, modules=["none", "se"], seeds=[0, 1])
    baseline, se = map(attention_modules.in_words, attention_modules.rows_of(options))
    assert baseline["attention"] == "none" and baseline["image ROC AUC, gain"] == ""
    first, second = map(float, se["image ROC AUC"].split(", "))
    assert float(baseline["image ROC AUC"].split(", ")[0]) < first < second
    assert se["image ROC AUC, gain"].startswith("+0.") and " to +" in se["image ROC AUC, gain"]


def test_seeds_are_averaged_as_logits(tmp_path):
    base = shifted(simulate(images=30, accessions=5), 0)
    runs = [base, shifted(base, 0.3)]
    for seed, run in enumerate(runs):
        evaluated(tmp_path / f"eca-{seed}", run)
    found = attention_modules.predictions_of(tmp_path, "eca", [0, 1])
    expected = np.mean([logit_of(run.probability) for run in runs], axis=0)
    np.testing.assert_allclose(logit_of(found.probability), expected, atol=1e-9)


def test_only_what_was_evaluated_is_in_the_table_of_protocols(tmp_path):
    evaluated(tmp_path / "strict-se", simulate(images=100, accessions=12))
    (row,) = map(leakage.in_words, leakage.collect(tmp_path))
    assert row["protocol"] == "strict" and row["patient seen in training"] == "50 %"


@pytest.mark.parametrize(
    "low, sign, expected",
    [
        (0.1, "", "0.500 (0.100–0.900)"),
        (0.1, "+", "+0.500 (+0.100 to +0.900)"),
        (None, "", "0.500"),
    ],
)
def test_figures_in_cells(low, sign, expected):
    figure = {"value": 0.5, "low": low, "high": 0.9 if low else None}
    assert experiments.with_interval(figure, sign) == expected


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(
        experiments.train, "train_and_evaluate", lambda config, folder: done.append(folder.name)
    )
    report = tmp_path / "old" / "eval" / "test" / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    experiments.run_all({"old": None, "new": None}, tmp_path)
    assert done == ["new"]
