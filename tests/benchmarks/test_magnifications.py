"""The matrix of magnifications, from predictions whose metrics are known and from tiny networks."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from benchmarks import frozen_stages, magnifications
from benchmarks.frozen_report import Results
from benchmarks.frozen_stages import Arm
from benchmarks.stage_training import FACTS, SETTINGS
from se_resnet.errors import UserError
from se_resnet.metrics.comparison import compare
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.predictions import PREDICTIONS, probability_of
from se_resnet.runs.run_files import TEST
from se_resnet.runtime.files import write_json
from tests.helpers.datasets import make_records
from tests.helpers.last_stage import last_stage_config

SCALES = [40, 100, 200]
FOLDS = 3


@pytest.fixture
def config():
    config = last_stage_config()
    config.split.folds = FOLDS
    return config


@pytest.fixture(scope="module")
def records():
    return make_records(9, 15, images=4, magnifications=SCALES)


def test_rows_are_each_magnification_all_others_and_all():
    rows = magnifications.rows_of(SCALES)
    assert [row.title for row in rows] == ["40X", "100X", "200X", "all but that of the test", "all"]
    trained = [[arm.train_magnifications for arm in row.arms.values()] for row in rows]
    assert trained[1] == [(100,)] * 3 and trained[-1] == [()] * 3
    assert trained[-2] == [(100, 200), (40, 200), (40, 100)]
    names = {arm.name for row in rows for arm in row.arms.values()}
    assert len(names) == 7 and frozen_stages.BASE.name in names


def test_what_cannot_be_trained_is_named_with_the_reason(config, records):
    arm = Arm(train_magnifications=(100,))
    assert magnifications.obstacle(config, records, arm, [0], 1) == ""
    few = magnifications.obstacle(config, records, arm, [0], 1000)
    assert (
        few.startswith("seed 0, fold 0 has ") and "benign training images, fewer than 1000" in few
    )
    kept = records.take((records.magnification != 100) | (records.label == 1))
    one_class = magnifications.obstacle(config, kept, arm, [0], 1)
    assert "only one class" in one_class
    absent = magnifications.obstacle(config, records, Arm(train_magnifications=(400,)), [3], 1)
    assert absent.startswith("seed 3, fold 0: ") and "no image has the magnification 400X" in absent


def simulate(workdir, config, records, arm, seed):
    """Networks are good at the magnifications that they were trained at."""
    for fold in range(FOLDS):
        tested = frozen_stages.roles_of(config, records, arm, seed, fold) == TEST
        known = np.isin(records.magnification, arm.train_magnifications or SCALES)
        rng = np.random.default_rng(seed)
        signal = np.where(known, 1.5, 0.3) * (2 * records.label - 1)
        logit = signal + rng.normal(size=len(records)) + 5 * fold
        folder = workdir / arm.name / f"seed{seed}" / f"fold{fold}"
        path = folder / magnifications.CHOICE / TEST / PREDICTIONS
        path.parent.mkdir(parents=True)
        records.take(tested).predictions(probability_of(logit[tested])).write_csv(path)
        write_json(folder / FACTS, {})


@pytest.fixture
def results(tmp_path, config, records):
    """Finished fold runs of all arms but that of 40X."""
    write_json(tmp_path / SETTINGS, {"folds": FOLDS})
    rows = magnifications.rows_of(SCALES)
    for arm in {arm for row in rows[1:] for arm in row.arms.values()}:
        for seed in (0, 1):
            simulate(tmp_path, config, records, arm, seed)
    return Results.open(tmp_path, magnifications.CHOICE)


UNTRAINED = [Arm(train_magnifications=(40,))]


def test_cells_are_the_metrics_of_the_test_images_at_a_magnification(results):
    rows = magnifications.rows_of(SCALES)
    table, differences, found = magnifications.report(results, rows, [0], UNTRAINED)
    assert [row["trained at"] for row in table[1:]] == [row.title for row in rows]
    assert table[0]["100X"] == "36 + 60 images, 9 + 15 patients"
    for row in rows[1:]:
        for scale, arm in row.arms.items():
            run = results.of(arm, 0)
            expected = evaluate(run.take(run.magnification == scale))["image"]["roc_auc"]
            assert found[row.title][scale] == expected
    assert found["200X"][200]["value"] > found["200X"][100]["value"] + 0.1
    assert set(found["40X"].values()) == {"not trained"}
    assert table[1]["200X"] == "not trained" and table[1]["calls agree"] == ""
    value = evaluate(results.of(Arm(), 0))["magnification_agreement"]["all_pairs"]["value"]
    assert table[-1]["calls agree"].startswith(f"{value:.3f} (")
    assert table[-2]["calls agree"] == ""
    others, everything = (
        results.of(arm, 0) for arm in (Arm(train_magnifications=(100, 200)), Arm())
    )
    at_40 = [run.take(run.magnification == 40) for run in (others, everything)]
    expected = compare(*at_40)["image"]["roc_auc"]["difference"]["value"]
    assert expected < 0
    assert differences[0]["all but that of the test, less all"].startswith(f"{expected:+.3f} (")


def test_several_seeds_give_the_mean_and_a_wider_interval(results):
    rows = magnifications.rows_of(SCALES)
    one, other, both = (
        magnifications.report(results, rows, seeds, UNTRAINED)[2]["100X"][200]
        for seeds in ([0], [1], [0, 1])
    )
    assert both["value"] == pytest.approx((one["value"] + other["value"]) / 2)
    assert both["method"] == "two-level"


def test_a_row_without_all_fold_runs_is_not_finished(results):
    (results.workdir / Arm().name / "seed0" / "fold2" / FACTS).unlink()
    rows = magnifications.rows_of(SCALES)
    table, differences, found = magnifications.report(results, rows, [0], UNTRAINED)
    assert set(found["all"].values()) == {"not finished"} and not differences
    assert table[-1]["200X"] == "not finished" and table[-1]["calls agree"] == ""
    assert found["200X"][200]["value"] > 0.5
    with pytest.raises(UserError, match="no row is finished: wait for the processes that train"):
        magnifications.report(results, rows, [7], UNTRAINED)


def test_the_heat_map_holds_every_cell(results):
    found = magnifications.report(results, magnifications.rows_of(SCALES), [0], UNTRAINED)[2]
    found["all"][100] = {"value": None, "low": None, "high": None, "reason": "x"}
    found["all"][200] |= {"low": None, "high": None}
    texts = []

    class Axes:
        def text(self, x, y, text, **style):
            texts.append((x, y, text))

        def __getattr__(self, name):
            return lambda *values, **options: None

    plot, size = magnifications.draw(found)
    plot(Axes())
    assert len(texts) == 15 and min(size) > 3
    assert {text for _, y, text in texts if y == 0} == {"not trained"}
    estimate = found["100X"][200]
    assert (2, 1, f"{estimate['value']:.2f}\n{estimate['low']:.2f}–{estimate['high']:.2f}") in texts
    assert (1, 4, "undefined") in texts
    assert (2, 4, f"{found['all'][200]['value']:.2f}\nno interval") in texts


@pytest.mark.compiled
def test_the_command_trains_what_can_be_trained_and_resumes(tmp_path, capsys):
    options = argparse.Namespace(
        workdir=tmp_path / "runs",
        seeds=1,
        least=5,
        part=0,
        parts=1,
        tables=False,
        figure=tmp_path / "matrix.png",
        out=tmp_path / "out.json",
    )
    magnifications.run(last_stage_config(), options)
    printed = capsys.readouterr().out
    assert "not trained: 40X, since seed 0, fold 0: config.split.train_magnifications" in printed
    few = "since seed 0, fold 1 has 3 malignant training images, fewer than 5"
    assert f"not trained: 100X, {few}" in printed and f"not trained: 40X + 100X, {few}" in printed
    # 200X, 100X + 200X, 40X + 200X and all remain.
    assert printed.count(" fold 1: ") == 4
    assert options.figure.read_bytes().startswith(b"\x89PNG")
    written = json.loads(options.out.read_text())
    assert [row["40X"] for row in written["rows"]][1] == "not trained"
    assert [row["tested at"] for row in written["differences"]] == ["40X", "100X"]
    magnifications.run(last_stage_config(), options)
    assert " fold 1: " not in capsys.readouterr().out
    assert json.loads(options.out.read_text())["rows"] == written["rows"]


def test_images_of_one_magnification_are_refused(config, monkeypatch, records):
    one = argparse.Namespace(records=records.take(records.magnification == 40))
    monkeypatch.setattr(magnifications, "load_dataset", lambda *args, **options: one)
    with pytest.raises(UserError, match="one magnification: give images of several"):
        magnifications.run(config, argparse.Namespace(seeds=1))
