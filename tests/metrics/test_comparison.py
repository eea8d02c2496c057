from __future__ import annotations

import dataclasses
import json
import runpy
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

from se_resnet.errors import UserError
from se_resnet.metrics.__main__ import main
from se_resnet.metrics.binary import METRIC_NAMES, binary_metrics
from se_resnet.metrics.comparison import compare, table
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.intervals import floor_of_difference
from se_resnet.metrics.predictions import in_folds
from tests.helpers.predictions import make, simulate


def with_noise(predictions, amount=0.2, seed=9):
    noise = np.random.default_rng(seed).normal(0, amount, len(predictions))
    probability = np.clip(predictions.probability + noise, 0, 1)
    return dataclasses.replace(predictions, probability=probability)


def test_the_same_patients_are_left_out_of_both_runs():
    a, b = simulate(images=150, accessions=12), with_noise(simulate(images=150, accessions=12))
    found = compare(a, b)
    names = np.unique(a.accession)
    single = [evaluate(run) for run in (a, b)]

    def gain(part):
        values = [
            binary_metrics(
                run.label[part] == 1, run.probability[part], run.probability[part] >= 0.5,
                np.zeros(part.sum(), int), np.ones((1, 1)),
            )
            for run in (a, b)
        ]  # fmt: skip
        return {name: float(values[0][name][0] - values[1][name][0]) for name in METRIC_NAMES}

    whole = gain(np.ones(150, bool))
    parts = [gain(a.accession != name) for name in names]
    for name in METRIC_NAMES:
        row = found["image"][name]
        assert row["value_a"] == pytest.approx(single[0]["image"][name]["value"])
        assert row["value_b"] == pytest.approx(single[1]["image"][name]["value"])
        assert row["difference"]["value"] == pytest.approx(whole[name])
        assert row["difference"]["low"] < row["difference"]["value"] < row["difference"]["high"]
    changes = np.array([part["accuracy"] - whole["accuracy"] for part in parts])
    error = np.sqrt(11 / 12 * np.sum(changes**2))
    assert error**2 > floor_of_difference(12), "the floor must not hide the variance here"
    freedom = min(11, 2 / (np.sum(changes**4) / np.sum(changes**2) ** 2 - 1 / 12))
    width = stats.t.ppf(0.975, freedom) * error
    accuracy = found["image"]["accuracy"]
    assert accuracy["difference"]["high"] == pytest.approx(whole["accuracy"] + width, abs=1e-12)
    p_value = 2 * stats.t.sf(abs(whole["accuracy"]) / error, freedom)
    assert accuracy["p_value"] == pytest.approx(p_value, abs=1e-12)
    rate = found["patient"]["recognition_rate"]
    assert rate["value_b"] == pytest.approx(single[1]["patient"]["recognition_rate"]["value"])
    assert found["patient"]["majority_vote"]["f1"]["value_a"] is not None
    json.dumps(found, allow_nan=False)


def test_cross_validations_are_compared_within_folds():
    a = in_folds([simulate(images=60, accessions=8, seed=seed) for seed in range(3)])
    a = dataclasses.replace(
        a, accession=np.char.add(a.accession, np.char.mod("-%d", a.fold)),
        file=np.char.mod("%d.png", np.arange(180)),
    )  # fmt: skip
    shifted = dataclasses.replace(a, probability=(a.probability + a.fold) / 3)
    found = compare(a, shifted)
    assert found["within_folds"]
    assert found["image"]["roc_auc"]["difference"]["value"] == pytest.approx(0)
    assert found["image"]["roc_auc_pooled"]["difference"]["value"] != pytest.approx(0)
    renamed = dataclasses.replace(shifted, fold=2 - a.fold)
    assert compare(a, renamed)["within_folds"]
    other = dataclasses.replace(shifted, fold=np.roll(a.fold, 9))
    assert not compare(a, other)["within_folds"]
    assert "within folds" in table(found) and "within folds" not in table(compare(a, other))


def test_pairing_narrows_the_interval():
    a = simulate(images=400, accessions=60)
    b = with_noise(a, 0.02)
    found = compare(a, b)["image"]["roc_auc"]["difference"]
    alone = evaluate(a)["image"]["roc_auc"]
    assert found["high"] - found["low"] < (alone["high"] - alone["low"]) / 4


def test_a_run_against_itself_and_against_a_perfect_one():
    a = simulate(images=200, accessions=44)
    same = compare(a, a)
    for level in (same["image"], same["patient"]["mean_probability"]):
        difference = level["roc_auc"]["difference"]
        assert difference["value"] == 0
        assert difference["high"] == -difference["low"]
        assert 0.005 < difference["high"] < 0.02  # never zero width
        assert level["roc_auc"]["p_value"] == 1
    perfect = dataclasses.replace(a, probability=a.label.astype(float))
    better = compare(perfect, a)
    assert better["image"]["accuracy"]["difference"]["low"] > 0
    assert better["image"]["accuracy"]["p_value"] < 0.05
    assert better["image"]["brier"]["difference"]["high"] < 0
    worse = compare(a, perfect)
    assert worse["image"]["accuracy"]["difference"]["high"] < 0


def test_images_are_matched_by_name_and_the_others_counted():
    a = simulate(images=200)
    shuffled = np.random.default_rng(0).permutation(200)
    found = compare(a.take(np.arange(180)), a.take(shuffled[shuffled >= 30]))
    assert (found["images"], found["only_a"], found["only_b"]) == (150, 30, 20)
    assert found["accessions"] == len(np.unique(a.accession[30:180]))
    assert found["image"]["brier"]["difference"]["value"] == 0


def test_what_cannot_be_said_has_a_reason():
    a = make(list("abcd"), [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7])
    b = dataclasses.replace(a, probability=np.array([0.1, 0.2, 0.1, 0.3]))
    row = compare(a, b)["image"]["precision"]
    assert row["value_a"] == pytest.approx(2 / 3)
    assert row["value_b"] is row["difference"]["value"] is row["p_value"] is None
    assert row["difference"]["reason"] == "run B: no image is predicted malignant"
    one = make(list("aa"), [1, 0], [0.9, 0.8])
    row = compare(one, one)["image"]["accuracy"]
    assert row["difference"]["value"] == 0
    assert row["difference"]["low"] is row["p_value"] is None
    assert "only one patient" in row["difference"]["reason"]


def test_runs_that_cannot_be_compared_are_refused():
    a = make(list("abcd"), [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7])
    for change, words in (
        ({"file": np.array(["w", "x", "y", "z"])}, "no image in common"),
        ({"file": np.array(["0.png", "0.png", "y", "z"])}, "run B contains 0.png more than once"),
        ({"label": np.array([1, 0, 0, 0])}, r"label of 1.png \(1 in A, 0 in B\)"),
        ({"accession": np.array(list("abce"))}, r"patient of 3.png \(d in A, e in B\)"),
    ):
        with pytest.raises(UserError, match=words):
            compare(a, dataclasses.replace(a, **change))


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
    assert len({len(line) for line in lines[start:]}) == 1, "the last column ends in one place"
    found = json.loads(out.read_text())
    row = next(line for line in lines if line.startswith("image roc auc ")).split()
    header = lines[start].split("  ")
    assert [title.strip() for title in header if title.strip()][:3] == ["A", "B", "A - B"]
    assert row[3] == f"{found['image']['roc_auc']['value_a']:.3f}"
    estimate = found["image"]["roc_auc"]
    difference = estimate["value_a"] - estimate["value_b"]
    assert difference > 0.05, "noise made run B worse"
    assert row[5] == f"{difference:+.3f}" and difference == estimate["difference"]["value"]
    assert row[-2] == f"{found['image']['roc_auc']['p_value']:.3f}"
    assert row[-1] == f"{found['image']['roc_auc']['patients_needed']:,}"
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
