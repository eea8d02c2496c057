from __future__ import annotations

import dataclasses
import json
import runpy
import sys
import warnings

import numpy as np
import pytest

from se_resnet.errors import UserError
from se_resnet.metrics import bootstrap
from se_resnet.metrics.__main__ import main
from se_resnet.metrics.binary import METRIC_NAMES, binary_metrics
from se_resnet.metrics.comparison import compare
from se_resnet.metrics.evaluation import evaluate
from tests.helpers.predictions import make, simulate


def with_noise(predictions, amount=0.2, seed=9):
    noise = np.random.default_rng(seed).normal(0, amount, len(predictions))
    probability = np.clip(predictions.probability + noise, 0, 1)
    return dataclasses.replace(predictions, probability=probability)


def test_the_same_patients_are_drawn_for_both_runs():
    a, b = simulate(images=150, accessions=12), with_noise(simulate(images=150, accessions=12))
    found = compare(a, b, resamples=200, seed=3)
    names, group = np.unique(a.accession, return_inverse=True)
    weights = bootstrap.bootstrap_weights(len(names), 200, seed=3)
    drawn = [
        binary_metrics(run.label == 1, run.probability, run.probability >= 0.5, group, weights)
        for run in (a, b)
    ]
    single = [evaluate(run, resamples=1) for run in (a, b)]
    for name in METRIC_NAMES:
        row = found["image"][name]
        assert row["value_a"] == pytest.approx(single[0]["image"][name]["value"])
        assert row["value_b"] == pytest.approx(single[1]["image"][name]["value"])
        assert row["difference"]["value"] == pytest.approx(row["value_b"] - row["value_a"])
        differences = drawn[1][name] - drawn[0][name]
        expected = np.nanquantile(differences, [0.025, 0.975])
        assert [row["difference"]["low"], row["difference"]["high"]] == pytest.approx(expected)
        share = np.mean(differences[np.isfinite(differences)] > 1e-12)  # ties differ by rounding
        assert row["probability_above_zero"] == pytest.approx(share, abs=1e-12)
    rate = found["patient"]["recognition_rate"]
    assert rate["value_b"] == pytest.approx(single[1]["patient"]["recognition_rate"]["value"])
    assert found["patient"]["majority_vote"]["f1"]["value_a"] is not None
    json.dumps(found, allow_nan=False)


def test_pairing_narrows_the_interval():
    a = simulate(images=400, accessions=30)
    b = with_noise(a, 0.02)
    found = compare(a, b, resamples=300)["image"]["roc_auc"]["difference"]
    alone = evaluate(a, resamples=300)["image"]["roc_auc"]
    assert found["high"] - found["low"] < (alone["high"] - alone["low"]) / 4


def test_a_run_against_itself_and_against_a_perfect_one():
    a = simulate(images=200)
    same = compare(a, a, resamples=50)
    for level in (same["image"], same["patient"]["mean_probability"]):
        assert level["roc_auc"]["difference"] == {"value": 0, "low": 0, "high": 0}
        assert level["roc_auc"]["probability_above_zero"] == 0
    perfect = dataclasses.replace(a, probability=a.label.astype(float))
    better = compare(a, perfect, resamples=50)
    assert better["image"]["accuracy"]["probability_above_zero"] == 1
    assert better["image"]["brier"]["probability_above_zero"] == 0
    worse = compare(perfect, a, resamples=50)
    assert worse["image"]["accuracy"]["difference"]["high"] < 0


def test_images_are_matched_by_name_and_the_others_counted():
    a = simulate(images=200)
    shuffled = np.random.default_rng(0).permutation(200)
    found = compare(a.take(np.arange(180)), a.take(shuffled[shuffled >= 30]), resamples=20)
    assert (found["images"], found["only_a"], found["only_b"]) == (150, 30, 20)
    assert found["accessions"] == len(np.unique(a.accession[30:180]))
    assert found["image"]["brier"]["difference"] == {"value": 0, "low": 0, "high": 0}


def test_what_cannot_be_said_has_a_reason():
    a = make(list("abcd"), [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7])
    b = dataclasses.replace(a, probability=np.array([0.1, 0.2, 0.1, 0.3]))
    row = compare(a, b, resamples=50)["image"]["precision"]
    assert row["value_a"] == pytest.approx(2 / 3)
    assert row["value_b"] is row["difference"]["value"] is row["probability_above_zero"] is None
    assert row["difference"]["reason"] == "run B: no image is predicted malignant"
    one = make(list("aa"), [1, 0], [0.9, 0.8])
    row = compare(one, one, resamples=50)["image"]["accuracy"]
    assert row["difference"]["value"] == 0
    assert row["difference"]["low"] is row["probability_above_zero"] is None
    assert "only one accession" in row["difference"]["reason"]


def test_runs_that_cannot_be_compared_are_refused():
    a = make(list("abcd"), [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7])
    for change, words in (
        ({"file": np.array(["w", "x", "y", "z"])}, "no image in common"),
        ({"file": np.array(["0.png", "0.png", "y", "z"])}, "run B contains 0.png more than once"),
        ({"label": np.array([1, 0, 0, 0])}, r"label of 1.png \(1 in A, 0 in B\)"),
        ({"accession": np.array(list("abce"))}, r"accession of 3.png \(d in A, e in B\)"),
    ):
        with pytest.raises(UserError, match=words):
            compare(a, dataclasses.replace(a, **change))
    with pytest.raises(UserError, match="resamples"):
        compare(a, a, resamples=0)


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["metrics", *map(str, argv)])
    with warnings.catch_warnings():
        # Here, unlike in a fresh process, the module is already imported.
        warnings.simplefilter("ignore", RuntimeWarning)
        runpy.run_module("se_resnet.metrics", run_name="__main__")


def test_command(tmp_path, monkeypatch, capsys):
    a = simulate(images=80)
    a.write_csv(tmp_path / "A" / "eval" / "val" / "predictions.csv")
    with_noise(a).write_csv(tmp_path / "b.csv")
    out = tmp_path / "difference.json"
    run(monkeypatch, "compare", tmp_path / "A", tmp_path / "b.csv", "--split=val", f"--json={out}")
    lines = capsys.readouterr().out.splitlines()
    assert "80 images of 20 patients in common (0 only in A, 0 only in B)" in lines
    start = next(i for i, line in enumerate(lines) if "95 % interval" in line)
    ends = {line.rindex("  ") for line in lines[start:]}
    assert len(ends) == 1, "the last column starts in one place"
    found = json.loads(out.read_text())
    row = next(line for line in lines if line.startswith("image roc auc ")).split()
    assert row[3] == f"{found['image']['roc_auc']['value_a']:.3f}"
    assert row[-1] == f"{found['image']['roc_auc']['probability_above_zero']:.3f}"
    assert any(line.startswith("patient mean probability accuracy ") for line in lines)


def test_a_json_file_that_cannot_be_written_is_named(tmp_path, capsys):
    simulate(images=40).write_csv(tmp_path / "a.csv")
    run = str(tmp_path / "a.csv")
    with pytest.raises(SystemExit) as ended:
        main(["compare", run, run, f"--json={run}/out.json"])
    assert ended.value.code == 2
    assert "a.csv/out.json cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["compare", "nowhere"], "RUN_B"),
        (["contrast", "a", "b"], "contrast"),
        (["compare", "nowhere", "b"], "nowhere"),
        (["compare", "nowhere", "b", "--spilt=val"], "--spilt"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_sentence(argv, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert words in told
