"""The tables of the frozen stages, from predictions whose metrics are known."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import frozen_report, frozen_stages
from benchmarks.frozen_stages import Arm
from benchmarks.stage_training import FACTS, SETTINGS
from configs import smoke
from data.dataset import load_dataset
from data.protocols.roles import assign_roles
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import PREDICTIONS, Predictions, logit_of, probability_of
from se_resnet.runs.run_files import TEST, TRAIN
from se_resnet.runtime.files import write_json
from se_resnet.training.config import plain

FOLDS = 2
SEEDS = (0, 1)
# Signal of an arm, in standard deviations of the noise, where it is not 1.
SIGNAL = {"random-se-smote": 3.0, "strict-eca-smote": 1.0}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Simulated predictions for all arms. All arms of one seed and protocol share their noise."""
    workdir = tmp_path_factory.mktemp("frozen")
    write_json(workdir / SETTINGS, {"folds": FOLDS})
    records = load_dataset("sample", size=(32, 32)).records
    for seed, arms in frozen_stages.arms_of_rounds(len(SEEDS), len(SEEDS)):
        for arm in arms:
            for fold in range(FOLDS):
                simulate_fold(workdir, records, arm, seed, fold)
    return workdir


def simulate_fold(workdir, records, arm, seed, fold):
    roles = assign_roles(records, arm.protocol, folds=FOLDS, fold=fold, val_folds=3, seed=seed)
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=len(records)) + 4 * fold  # the folds differ in their offset
    logit = SIGNAL.get(arm.name, 1.0) * (2 * records.label - 1) + noise
    folder = workdir / arm.name / f"seed{seed}" / f"fold{fold}"
    tested = roles == TEST
    for choice, change in zip(frozen_stages.CHOICES, (0.0, 0.5, 0.0), strict=True):
        path = folder / choice / TEST / PREDICTIONS
        path.parent.mkdir(parents=True)
        values = logit + change * (2 * records.label - 1)
        records.take(tested).predictions(probability_of(values[tested])).write_csv(path)
    counts = np.bincount(records.label[roles == TRAIN], minlength=2).tolist()
    write_json(folder / FACTS, {"training_images": counts})


def results(workdir):
    return frozen_report.Results.open(workdir, "last")


def auc(predictions, fold):
    """Share of correctly ordered pairs of equal fold."""
    score = right = 0.0
    for value in np.unique(fold):
        part = predictions.take(fold == value)
        malignant = part.probability[part.label == 1]
        benign = part.probability[part.label == 0]
        if len(malignant) and len(benign):
            right += stats.mannwhitneyu(malignant, benign).statistic
            score += len(malignant) * len(benign)
    return right / score


def test_the_leak_is_compared_over_pairs_that_both_divisions_share(workdir):
    rows = frozen_report.leak_rows(results(workdir))
    by_name = {row["arm"]: row for row in rows if row["metric"] == "AUC"}
    strict, random = [], []
    for seed in SEEDS:
        a, b = (results(workdir).of(arm, seed) for arm in frozen_stages.LEAK)
        a, b = (run.take(np.argsort(run.file)) for run in (a, b))
        cells = 100 * (FOLDS * a.fold + b.fold)
        strict.append([auc(a, 0 * cells), auc(a, cells), auc(a, cells * 100 + a.magnification)])
        random.append([auc(b, 0 * cells), auc(b, cells), auc(b, cells * 100 + a.magnification)])
    for number, row in enumerate(by_name.values()):
        first, second = (np.mean(runs, axis=0)[number] for runs in (strict, random))
        assert row["first"] == pytest.approx(first, abs=1e-4)
        assert row["second"] == pytest.approx(second, abs=1e-4)
        assert float(row["mean"]) == pytest.approx(second - first, abs=6e-4)
    pooled, within, _ = by_name.values()
    low, high = map(float, within["patients and seeds"].split(" to "))
    assert low < float(within["mean"]) < high
    assert len(by_name) == 3 and float(within["mean"]) > 0.05
    assert pooled["first"] < within["first"] - 0.1  # offsets of folds


def test_equal_arms_do_not_differ_and_intervals_hold_zero(workdir):
    values, differences = frozen_report.arm_rows(
        results(workdir), frozen_stages.attention_arms(), lambda arm: arm.attention
    )
    assert [row["arm"] for row in values] == [a.attention for a in frozen_stages.attention_arms()]
    eca = [row for row in differences if row["arm"] == "eca"]
    assert [row["metric"] for row in eca] == list(frozen_report.COMPARED)
    for row in eca:
        assert row["mean"] == "+0.000" and row["SD of seeds"] == 0
        assert row["differences"].count("+0.000 (-0.") == 2
        assert row["patients for ±0.02"] > 0
        assert (row["patients and seeds"] is None) == (row["metric"] == "Brier score")


def test_the_offset_subtracts_the_log_odds_of_the_training_images(workdir):
    none = Arm(balancing="none")
    plain = results(workdir).of(none, 0)
    moved = results(workdir).with_offset(none, 0)
    change = logit_of(plain.probability) - logit_of(moved.probability)
    for fold in range(FOLDS):
        path = workdir / none.name / "seed0" / f"fold{fold}" / FACTS
        benign, malignant = json.loads(path.read_text())["training_images"]
        np.testing.assert_allclose(change[plain.fold == fold], np.log(malignant / benign))
    (values,), differences = frozen_report.offset_rows(results(workdir))
    assert float(differences[0]["mean"]) == 0  # the AUC within folds stays
    assert values["specificity"] > frozen_report.value_row("", [plain])["specificity"]


def test_an_unfinished_seed_does_not_count(workdir, tmp_path):
    whole = results(workdir)
    assert whole.seeds(frozen_stages.LEAK) == [0, 1]
    facts = workdir / frozen_stages.LEAK[1].name / "seed1" / "fold1" / FACTS
    moved = facts.rename(tmp_path / "facts.json")
    try:
        assert whole.seeds(frozen_stages.LEAK) == [0]
        assert whole.of(frozen_stages.LEAK[1], 1) is None
    finally:
        moved.rename(facts)


def test_the_command_writes_all_tables(workdir, tmp_path, capsys, monkeypatch):
    out = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["frozen_report", str(workdir), "--out", str(out)])
    frozen_report.main()
    written = json.loads(out.read_text())
    assert "weights: averaged" in capsys.readouterr().out
    checkpoint = {(r["checkpoint"], r["metric"]): r for r in written["checkpoint"]}
    better = checkpoint["averaged less last", "AUC"]
    assert float(better["mean"]) > 0.02 and better["lowest"] != better["highest"]
    assert checkpoint["best less last", "AUC"]["mean"] == "+0.000"
    arms = [row["arm"] for row in written["balancing_values"]]
    assert arms == [*frozen_stages.BALANCING, frozen_report.OFFSET]
    assert {row["arm"] for row in written["rows"]} == {"strict", "random"}


def test_comparisons_without_a_finished_seed_are_left_out(workdir, tmp_path, capsys):
    for arm in frozen_stages.LEAK:
        (tmp_path / arm.name).symlink_to(workdir / arm.name)
    write_json(tmp_path / SETTINGS, {"folds": FOLDS})
    frozen_report.report(results(tmp_path), tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert "leak" in written and "attention" not in written and "balancing" not in written
    assert "random, pairs within folds" in capsys.readouterr().out


def test_a_folder_without_results_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["frozen_report", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        frozen_report.main()
    assert stop.value.code == 2 and f"{tmp_path} has no measurement" in capsys.readouterr().err


def write_rival(folder, workdir, seeds=SEEDS, change=1.0, folds=FOLDS):
    """A folder of features with the divisions of the arms, better by ``change``."""
    config = smoke.get_config()
    config.split.fold, config.repeats, config.split.folds = "all", len(seeds), folds
    write_json(folder / "config.json", plain(config))
    config.repeats = 1
    for number, seed in enumerate(seeds):
        config.split.seed = seed
        write_json(folder / f"repeat{number}" / "config.json", plain(config))
        for fold in range(FOLDS):
            path = Path("last") / TEST / PREDICTIONS
            network = Predictions.read_csv(
                workdir / frozen_stages.BASE.name / f"seed{SEEDS[number]}" / f"fold{fold}" / path
            )
            logit = logit_of(network.probability) + change * (2 * network.label - 1)
            path = folder / f"repeat{number}" / f"fold{fold}" / "eval" / TEST / PREDICTIONS
            replaced = dataclasses.replace(network, probability=probability_of(logit))
            path.parent.mkdir(parents=True)
            replaced.write_csv(path)


def test_features_made_elsewhere_are_compared_with_the_network(
    workdir, tmp_path, capsys, monkeypatch
):
    write_rival(tmp_path / "uni", workdir)
    flags = ["--choice", "last", "--rivals", str(tmp_path / "uni"), "--out", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", ["frozen_report", str(workdir), *flags])
    frozen_report.main()
    assert "| uni |" in capsys.readouterr().out
    found = json.loads((tmp_path / "o").read_text())
    auc_row = found["differences"][0]
    network, rival = (row["AUC"] for row in found["rows"])
    assert auc_row["metric"] == "AUC" and float(auc_row["mean"]) > 0.05
    assert float(auc_row["mean"]) == pytest.approx(rival - network, abs=2e-3)
    write_rival(tmp_path / "other", workdir, seeds=SEEDS[::-1])
    with pytest.raises(UserError, match="test other images, or in other folds"):
        frozen_report.rival_rows(results(workdir), [tmp_path / "other"])
    write_rival(tmp_path / "new", workdir, seeds=(7, 8))
    with pytest.raises(UserError, match="has no finished strict-se-smote of seed 7"):
        frozen_report.rival_rows(results(workdir), [tmp_path / "new"])
