"""A run that trains at one magnification and tests at another."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict

import eval as evaluation
import train
from data.config_check import check_data_config
from se_resnet.errors import UserError
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.image_files import PREDICTION
from se_resnet.predict.provenance import read_history
from se_resnet.runs.run_folder import RunFolder
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), make_records(10, 14, images=2).file.tolist())


@pytest.fixture
def config(tree, tmp_path_factory) -> ConfigDict:
    config = tiny_config(tree, tmp_path_factory.getbasetemp() / "cache")
    config.epochs = 1
    config.split.train_magnifications = (40,)
    config.split.test_magnifications = (200,)
    config.checkpoint.choose = "best"
    return config


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory) -> Path:
    config = tiny_config(tree, tmp_path_factory.getbasetemp() / "cache")
    config.epochs = 1
    config.split.train_magnifications = (40,)
    config.split.test_magnifications = (200,)
    config.checkpoint.choose = "best"
    folder = tmp_path_factory.mktemp("across") / "run"
    train.train_and_evaluate(config, folder)
    return folder


def test_a_magnification_that_the_names_lack_is_refused_before_an_image_is_read(config):
    check_data_config(config)
    config.split.test_magnifications = (100,)
    with pytest.raises(UserError, match="no image has the magnification 100X; choose from 40X"):
        check_data_config(config)


def scales_of(rows, role):
    return {row["magnification"] for row in rows if row["role"] == role}


def test_each_role_has_its_magnifications(run):
    rows = RunFolder(run).split(("file", "accession", "magnification", "role"))
    assert scales_of(rows, "train") == scales_of(rows, "val") == {"40"}
    assert scales_of(rows, "test") == {"200"}
    excluded = sum(row["role"] == "excluded" for row in rows)
    assert excluded == len(rows) // 2
    assert RunFolder(run).data_facts()["audit"]["excluded_copies"] == 0
    assert set(RunFolder(run).evaluation().metrics()["by_magnification"]) == {"200"}


def test_the_report_says_what_was_chosen_where(run):
    report = (run / "eval" / "test" / "report.html").read_text()
    assert "trained on images at 40X: evaluated images at 200X" in report
    assert "chosen on validation images at 40X, and not for images at 200X" in report
    evaluation.evaluate_run(run, "val")
    report = (run / "eval" / "val" / "report.html").read_text()
    assert "trained on images at 40X" not in report


def test_all_images_evaluate_the_agreement(run, tmp_path):
    metrics = evaluation.evaluate_run(run, "all", out=tmp_path / "out")
    found = metrics["magnification_agreement"]
    assert found["all_pairs"]["patients"]["all"] == 24 and set(found["by_pair"]) == {"40-200"}


def test_prediction_and_provenance_know_the_magnifications(run, tree, tmp_path):
    predict_folder(run, tree, tmp_path / "out", overlays=False)
    written = json.loads((tmp_path / "out" / PREDICTION).read_text())
    assert written["trained_magnifications"] == [40]
    assert set(written["other_magnifications"]) == {"200X"}
    assert read_history(run)["config"]["split"]["test_magnifications"] == [200]


def test_the_same_command_resumes_and_other_magnifications_are_refused(run, config, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    train.train_and_evaluate(config, folder)
    config.split.test_magnifications = ()
    with pytest.raises(UserError, match="a run with config.split.test_magnifications = "):
        train.train_and_evaluate(config, folder)


def test_a_run_without_the_fields_has_all_magnifications(run, config, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    content = json.loads((folder / "config.json").read_text())
    for name in ("train_magnifications", "test_magnifications"):
        del content["split"][name]
    (folder / "config.json").write_text(json.dumps(content))
    config.split.train_magnifications = config.split.test_magnifications = ()
    # The configurations agree; the split of the folder has excluded images.
    with pytest.raises(UserError, match="the images would be divided otherwise"):
        train.train_and_evaluate(config, folder)


def test_a_cross_validation_tests_every_patient_at_the_other_magnification(config, tmp_path):
    config.split.fold, config.split.folds, config.split.val_folds = "all", 2, 2
    train.train_and_evaluate(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run").evaluation()
    predictions = folder.predictions()
    assert set(predictions.magnification.tolist()) == {200}
    assert len(set(predictions.accession.tolist())) == 24
    report = (folder.path / "report.html").read_text()
    assert report.count("trained on images at 40X: evaluated images at 200X") == 1
    # Every image has a role in a fold: at 40X for training, at 200X for the test.
    rows = list(csv.DictReader((folder.path / "reporting" / "flow.csv").open(newline="")))
    used = next(row for row in rows if row["stage"] == "used")
    assert int(used["images"]) == 96 and not [row for row in rows if row["stage"] == "left out"]
