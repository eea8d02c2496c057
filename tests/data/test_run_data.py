"""Near-duplicates in the data of a run: refused, allowed, reported."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

import eval as evaluation
import train
from data import run_data
from data.protocols import configured
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import NEAR_DUPLICATES, TEST, TRAIN, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree

STRICT = {"folds": 5, "fold": 0, "val_folds": 5, "seed": 0}


def plant(tree: Path, source: str, target: str) -> None:
    """Replaces an image by the mirrored picture of another."""
    paths = [next(tree.rglob(name)) for name in (source, target)]
    cv2.imwrite(str(paths[1]), cv2.imread(str(paths[0]))[:, ::-1])


@pytest.fixture(scope="module")
def records() -> Records:
    return make_records(10, 14, images=3)


@pytest.fixture(scope="module")
def roles(records) -> np.ndarray:
    return assign_roles(records, "strict", **STRICT)


@pytest.fixture(scope="module")
def tree(records, roles, tmp_path_factory) -> Path:
    """A tree in which two training images are mirrored test images of fold 0."""
    tree = make_tree(tmp_path_factory.mktemp("tree"), records.file.tolist())
    tested, trained = (records.file[roles == role].tolist() for role in (TEST, TRAIN))
    for number in (0, 5):
        plant(tree, tested[number], trained[number])
    return tree


@pytest.fixture
def config(tree, tmp_path_factory) -> ConfigDict:
    config = tiny_config(tree, tmp_path_factory.getbasetemp() / "cache")
    config.epochs = 1
    return config


def unchanged(images: np.ndarray) -> np.ndarray:
    return images


def test_a_mirrored_copy_of_another_patient_ends_a_strict_run(
    config, records, roles, tmp_path, capsys
):
    with pytest.raises(SystemExit) as stopped, exit_on_user_error():
        train.train_and_evaluate(config, tmp_path / "run")
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1
    tested, trained = (set(records.file[roles == role].tolist()) for role in (TEST, TRAIN))
    assert sum(name in message for name in tested) == 1
    assert sum(name in message for name in trained) == 1
    assert "another patient, 0 of 256 bits apart" in message
    assert "(2 in this split, listed by" in message
    assert "set config.split.allow_near_duplicates = True" in message
    assert not RunFolder(tmp_path / "run").has_begun


@pytest.fixture(scope="module")
def allowed(tree, tmp_path_factory) -> Path:
    """A finished strict run that was allowed to have near-duplicates."""
    config = tiny_config(tree, tmp_path_factory.getbasetemp() / "cache")
    config.epochs = 1
    config.split.allow_near_duplicates = True
    train.train_and_evaluate(config, tmp_path_factory.mktemp("allowed") / "run")
    return tmp_path_factory.getbasetemp() / "allowed0" / "run"


def test_an_allowed_run_says_so_in_data_metrics_and_report(allowed):
    counts = dict.fromkeys(NEAR_DUPLICATES, 2)
    data = json.loads((allowed / "data.json").read_text())
    metrics = json.loads((allowed / "eval" / "test" / "metrics.json").read_text())
    assert counts.items() <= data["audit"].items()
    assert counts.items() <= metrics["audit"].items()
    report = (allowed / "eval" / "test" / "report.html").read_text()
    assert "2 test images are nearly the same as an image in training or validation" in report
    assert ", 2 of another patient" in report
    assert "Of these, like an image of another patient" in report and "not checked" not in report


def test_a_begun_run_resumes_without_the_permission(allowed, config, capsys):
    train.train_and_evaluate(config, allowed)
    printed = capsys.readouterr().out
    assert "WARNING: 2 test images are nearly the same as" in printed


def test_a_run_whose_data_lacks_the_counts_is_evaluated_as_not_checked(allowed, tmp_path):
    path = allowed / "data.json"
    data = json.loads(path.read_text())
    older = {name: part for name, part in data["audit"].items() if name not in NEAR_DUPLICATES}
    path.write_text(json.dumps(data | {"audit": older}))
    metrics = evaluation.evaluate_run(allowed, out=tmp_path / "out")
    path.write_text(json.dumps(data))
    assert not set(NEAR_DUPLICATES) & set(metrics["audit"])
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("<td>not checked</td>") == 2 and "nearly the same as an image" not in report


@pytest.mark.parametrize("protocol", ["official", "random"])
def test_other_protocols_count_near_duplicates(config, tmp_path, capsys, protocol, monkeypatch):
    def strict(records, _, **settings):
        return assign_roles(records, "strict", **settings)

    monkeypatch.setattr(configured, "assign_roles", strict)
    config.split.protocol = protocol
    data = run_data.prepare(config, RunFolder(tmp_path), unchanged)
    assert data.near == dict.fromkeys(NEAR_DUPLICATES, 2)
    assert "WARNING: 2 test images are nearly the same as" in capsys.readouterr().out


def test_none_found_is_printed(config, place, tmp_path, capsys):
    config.data.dir = str(place[0])
    data = run_data.prepare(config, RunFolder(tmp_path), unchanged)
    assert set(data.near.values()) == {0}
    assert "no near-duplicate of a test image found" in capsys.readouterr().out


def test_a_near_duplicate_in_validation_is_refused_too(config, monkeypatch, tmp_path):
    def swapped(records, protocol, **kwargs):
        roles = assign_roles(records, protocol, **kwargs)
        return np.select([roles == TRAIN, roles == VAL], [VAL, TRAIN], roles)

    monkeypatch.setattr(configured, "assign_roles", swapped)
    with pytest.raises(UserError, match="as the val image SOB_"):
        run_data.prepare(config, RunFolder(tmp_path), unchanged)
