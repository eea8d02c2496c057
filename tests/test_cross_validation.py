"""config.split.fold = 'all': the folds one after another, and what they say together."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics

import numpy as np
import pytest

import eval as evaluation
import train
from se_resnet.errors import UserError
from se_resnet.metrics.decision import decide
from se_resnet.metrics.predictions import concatenate
from se_resnet.runs.run_files import NEAR_DUPLICATES
from se_resnet.runs.workdir import load_best
from tests.helpers.configs import tiny_config
from tests.helpers.page import Page
from tests.helpers.run_folders import metrics_of, predictions_of

FOLDS = 2


def all_folds(place):
    config = tiny_config(*place)
    config.split.fold = "all"
    config.split.folds = FOLDS
    config.epochs = 1
    return config


@pytest.fixture(scope="module")
def validated(place, tmp_path_factory):
    """A finished cross-validation."""
    workdir = tmp_path_factory.mktemp("folds") / "run"
    train.train_and_evaluate(all_folds(place), workdir)
    return workdir


def test_every_image_is_tested_once_by_a_fold_that_never_saw_it(validated):
    pooled = predictions_of(validated)
    parts = [predictions_of(validated / f"fold{fold}") for fold in range(FOLDS)]
    assert len(set(pooled.file.tolist())) == len(pooled) == 144
    assert pooled.file.tolist() == [name for part in parts for name in part.file.tolist()]
    np.testing.assert_array_equal(
        pooled.probability, np.concatenate([part.probability for part in parts])
    )
    accessions = [set(part.accession.tolist()) for part in parts]
    assert not accessions[0] & accessions[1]


def test_figures_are_pooled_and_by_fold(validated):
    results = metrics_of(validated)
    pooled = predictions_of(validated)
    accuracy = ((pooled.probability >= 0.5) == pooled.label).mean()
    assert results["image"]["accuracy"]["value"] == pytest.approx(accuracy)
    each = [
        metrics_of(validated / f"fold{fold}")["image"]["accuracy"]["value"] for fold in range(FOLDS)
    ]
    assert results["folds"]["image_accuracy"] == {
        "mean": pytest.approx(statistics.fmean(each)),
        "sd": pytest.approx(statistics.stdev(each)),
        "values": each,
    }
    assert results["audit"]["straddling_test_images"] == 0


@pytest.mark.parametrize("lacking", range(FOLDS))
def test_a_count_that_a_fold_lacks_is_not_summed(validated, tmp_path, lacking):
    whole = metrics_of(validated)["audit"]
    assert whole["near_duplicate_test_images"] == 0
    copy = tmp_path / "run"
    shutil.copytree(validated, copy)
    path = copy / f"fold{lacking}" / "eval" / "test" / "metrics.json"
    metrics = json.loads(path.read_text())
    for name in NEAR_DUPLICATES:
        del metrics["audit"][name]
    path.write_text(json.dumps(metrics))
    audit = evaluation.evaluate_run(copy)["audit"]
    assert audit == {name: whole[name] for name in whole if name not in NEAR_DUPLICATES}


def test_a_fold_is_decided_without_the_patients_that_it_tests(validated):
    val, test = (
        [predictions_of(validated / f"fold{fold}", split) for fold in range(FOLDS)]
        for split in ("val", "test")
    )
    everyone = concatenate(val)
    found = metrics_of(validated)["decisions"]
    for decision, tested in zip(found, test, strict=True):
        others = everyone.take(~np.isin(everyone.accession, tested.accession))
        assert 0 < len(others) < len(everyone)
        assert decision == dataclasses.asdict(decide(others, "balanced_accuracy"))
    for_new_patients = dataclasses.asdict(decide(everyone, "balanced_accuracy"))
    assert json.loads((validated / "decision.json").read_text()) == for_new_patients


def test_the_reports_of_the_folds_and_of_all_link_each_other(validated):
    whole = validated / "eval" / "test" / "report.html"
    folds = [validated / f"fold{number}" / "eval" / "test" / "report.html" for number in (0, 1)]
    for path, targets in ((whole, folds), *((fold, [whole]) for fold in folds)):
        links = {link.split("#")[0] for link in Page(path.read_text()).links}
        files = {(path.parent / link).resolve() for link in links if link.endswith("report.html")}
        assert files == {target.resolve() for target in targets}
        assert all(file.exists() for file in files)


@pytest.mark.compiled
def test_a_finished_fold_is_not_repeated_a_missing_one_is_done(place, validated, capsys):
    before = predictions_of(validated)
    (validated / "fold1" / "eval" / "test" / "report.html").unlink()
    train.train_and_evaluate(all_folds(place), validated)
    told = capsys.readouterr().out
    assert "0: finished before" in told
    assert "1: finished before" not in told
    np.testing.assert_array_equal(predictions_of(validated).probability, before.probability)


@pytest.mark.compiled
def test_leaking_patients_count_once_their_images_in_every_fold(place, tmp_path):
    config = all_folds(place)
    config.split.protocol = "random"
    audit = train.train_and_evaluate(config, tmp_path / "run")["audit"]
    each = [metrics_of(tmp_path / "run" / f"fold{fold}")["audit"] for fold in range(FOLDS)]
    assert audit["straddling_accessions"] == audit["evaluated_accessions_seen"] <= 24
    assert sum(one["straddling_accessions"] for one in each) > 24
    images = [one["evaluated_images_of_seen_accessions"] for one in each]
    assert audit["evaluated_images_of_seen_accessions"] == sum(images) > 0
    report = (tmp_path / "run" / "eval" / "test" / "report.html").read_text()
    assert f"come from {audit['evaluated_accessions_seen']} patients" in report


def test_another_configuration_is_refused(place, validated):
    config = all_folds(place)
    config.seed = 5
    with pytest.raises(UserError, match="config.seed = 0"):
        train.train_and_evaluate(config, validated)


def test_one_network_is_asked_for_by_its_fold(place, validated):
    with pytest.raises(UserError, match="one is needed"):
        str(load_best(validated).variables)
    with pytest.raises(UserError, match="--workdir=.*fold0"):
        evaluation.evaluate_run(validated, "val")


@pytest.mark.compiled
def test_an_unfinished_fold_is_named(place, tmp_path):
    config = all_folds(place)
    config.split.fold = "0"
    train.train_and_evaluate(config, tmp_path / "fold0")
    config.split.fold = "all"
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(UserError, match="fold1 is not finished: run train.py"):
        evaluation.evaluate_run(tmp_path)


@pytest.mark.parametrize("fold", ["-1", "two", "7", ""])
def test_a_wrong_fold_is_refused(place, tmp_path, fold):
    config = tiny_config(*place)
    config.split.fold = fold
    with pytest.raises(UserError, match=r"config\.split\.fold"):
        train.train_and_evaluate(config, tmp_path / "run")
