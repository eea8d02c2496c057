"""A run says how far it is: on the screen, in its files and in what is made of it."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil

import pytest

import eval as evaluation
import train
from se_resnet.predict.folder import predict_folder
from se_resnet.runs.provenance import FAILED, read_training
from se_resnet.runs.run_folder import RunFolder
from tests.helpers.configs import tiny_config
from tests.helpers.interruption import interrupt, skip_evaluation


@pytest.fixture
def unfinished(run, tmp_path):
    """A run that has done the 26 steps of 2 epochs, of 5 epochs."""
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "epochs": 5}))
    return tmp_path / "run"


def test_a_training_is_logged_and_recorded(run):
    folder = RunFolder(run)
    training = read_training(folder)
    (start,) = training["starts"]
    assert (start["from_step"], start["to_step"], start["ended"]) == (0, 26, "finished")
    assert training["steps"] == 26 and start["seconds"] > 0
    rows = list(csv.DictReader(folder.epochs_path.open()))
    logged = [line for line in folder.log() if "val/loss" in line]
    assert [float(row["val_loss"]) for row in rows] == [line["val/loss"] for line in logged]
    topics = re.findall(r"^\S+ \S+  (\w+) ", folder.text_log_path.read_text(), re.MULTILINE)
    order = ("data", "compile", "epoch", "evaluate", "explain", "report")
    places = [topics.index(topic) for topic in order]
    assert places == sorted(places) and topics.count("epoch") == 2


def test_an_evaluation_of_an_unfinished_run_says_so(unfinished, capsys):
    metrics = evaluation.evaluate_run(unfinished)
    sentence = "The training in run has not finished: it is at step 26 of 65."
    assert f"WARNING: {sentence}" in capsys.readouterr().out
    (network,) = metrics["provenance"]["networks"]
    assert not network["finished"] and (network["step"], network["of_steps"]) == (26, 65)
    report = html.unescape((unfinished / "eval" / "test" / "report.html").read_text())
    assert sentence in report
    assert f"step {network['evaluated_step']} of 65 (epoch" in report
    assert "; the training has not finished" in report
    # 144 images of generated patients: a part of BreaKHis by their names.
    assert metrics["provenance"]["banner"].startswith("A subset of BreaKHis: 144 of 7,909 images")
    assert report.count(metrics["provenance"]["banner"]) == 1
    assert "config.batch_size = 8" in report


def test_a_prediction_with_an_unfinished_run_says_so(unfinished, place, tmp_path, capsys):
    image = next(place[0].rglob("*.png"))
    predict_folder(unfinished, image, tmp_path / "out", overlays=False)
    sentence = "The training in run has not finished"
    assert f"WARNING: {sentence}" in capsys.readouterr().out
    (warning,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["warnings"]
    assert warning.startswith(sentence)


def test_a_finished_run_has_no_warning(run, place, tmp_path):
    image = next(place[0].rglob("*.png"))
    predict_folder(run, image, tmp_path / "out", overlays=False)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["warnings"] == []


def test_the_reason_of_a_failed_start_is_recorded(place, tmp_path, monkeypatch):
    skip_evaluation(monkeypatch)
    with monkeypatch.context() as patch:
        interrupt(patch, 16, MemoryError)
        with pytest.raises(MemoryError):
            train.train_and_evaluate(tiny_config(*place), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    (start,) = read_training(run)["starts"]
    assert start["ended"] == f"{FAILED}MemoryError" and start["to_step"] == 13
    assert run.text_log_path.read_text().rstrip().endswith("error: MemoryError: MemoryError")
    train.train_and_evaluate(tiny_config(*place), tmp_path / "run")
    first, second = read_training(run)["starts"]
    assert first == start
    assert (second["from_step"], second["to_step"], second["ended"]) == (13, 26, "finished")
