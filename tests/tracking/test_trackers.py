"""W&B in offline mode and MLflow on a local file; TensorBoard is in test_metric_log.py."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
import time

import pytest

import train
from configs import smoke
from se_resnet.errors import UserError
from se_resnet.runs.run_folder import RunFolder
from se_resnet.tracking import trackers
from se_resnet.tracking.metric_log import MetricLog, read_log
from se_resnet.training.config import check_config
from tests.helpers.configs import tiny_config
from tests.helpers.event_files import read_sessions, scalars
from tests.helpers.interruption import interrupt

OPTIONAL = ["wandb", "mlflow"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("tensorbored", "choose from tensorboard, wandb, mlflow"),
        ("tensorboard,", "choose from"),
        ("tensorboard, tensorboard", "name each once"),
    ],
)
def test_mistakes_are_told_before_the_run(names, words):
    config = smoke.get_config()
    config.trackers = names
    with pytest.raises(UserError, match=words):
        check_config(config)


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"{name}, which is not installed: run .*\[{name}\]"):
        trackers.parse(name)


def test_no_tracker_is_a_choice():
    assert trackers.parse("") == ()


def test_tensorboard_shows_what_a_run_was_and_how_it_ended(run):
    # Tests beside this one may have started the finished run again.
    (_, values), *_ = read_sessions(run / "tensorboard")
    lines = {line["step"]: line for line in read_log(run / "metrics.jsonl")}
    (start,) = [v.metadata for _, v in values if v.tag == "_hparams_/session_start_info"]
    assert b"optim.learning_rate" in start.plugin_data.content
    assert b"data.dir" not in start.plugin_data.content  # a machine's own matter
    told = {(tag, step): value for tag, step, value in scalars(values)}
    final = max(lines)
    assert told["val/loss", final] == pytest.approx(lines[final]["val/loss"])
    accuracy = json.loads((run / "eval/test/metrics.json").read_text())["image"]["accuracy"]
    assert told["test/image_accuracy", final] == pytest.approx(accuracy["value"])
    pictures = {v.tag: v.image for _, v in values if v.HasField("image")}
    assert pictures.keys() == {"test/roc", "test/confusion"}
    assert all(image.width > 300 and image.height > 300 for image in pictures.values())


def read_wandb(workdir) -> list[tuple[str, int, float]]:
    """Figures of all offline starts, which must be of one run."""
    from wandb.proto import wandb_internal_pb2

    def read(file):
        contents = leveldb_records(file.read_bytes())
        return [wandb_internal_pb2.Record.FromString(content) for content in contents]

    figures, ids = [], set()
    for file in sorted((workdir / "wandb").glob("offline-run-*/run-*.wandb")):
        deadline = time.monotonic() + 30
        while not any(record.HasField("exit") for record in read(file)):
            assert time.monotonic() < deadline, "W&B's own process does not write the end"
            time.sleep(0.1)
        for record in read(file):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            row = {item.key or item.nested_key[0]: item for item in record.history.item}
            for name, item in row.items():
                value = json.loads(item.value_json)
                if "/" in name and not isinstance(value, dict):
                    figures.append((name, json.loads(row["_step"].value_json), value))
    assert len(ids) == 1
    return figures


def leveldb_records(log: bytes):
    """The records of a log in LevelDB's format, after W&B's own header of 7 bytes."""
    block, header = 32768, 7
    position, record = header, b""
    while position + header <= len(log):
        if block - position % block < header:
            position += block - position % block
            continue
        _, length, kind = struct.unpack_from("<IHB", log, position)
        record += log[position + header : position + header + length]
        position += header + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def read_mlflow(workdir) -> list[tuple[str, int, float]]:
    """Figures of the only run."""
    client, run = mlflow_run(workdir)
    return [
        (name, point.step, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]


def mlflow_run(workdir):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{workdir / 'mlflow' / 'runs.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "se-resnet"]
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


READ = {"wandb": read_wandb, "mlflow": read_mlflow}


@pytest.fixture
def offline(monkeypatch):
    for name in OPTIONAL:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the extra {name} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT", "WANDB_NAME", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.trackers
@pytest.mark.parametrize("name", OPTIONAL)
def test_work_that_is_done_again_is_told_once(offline, tmp_path, name):
    def train_to(log, steps):
        for step in steps:
            log.write(step, {"train/loss": step / 2})
        log.write(steps[-1], {"val/roc_auc": None, "val/loss": 1.0})

    with MetricLog(RunFolder(tmp_path), 0, 5, [name], {"seed": 1}) as log:
        train_to(log, range(1, 6))
    MetricLog(RunFolder(tmp_path), 2, 5, [name], {"seed": 2}).close()  # killed at once
    with MetricLog(RunFolder(tmp_path), 2, 5, [name], {"seed": 2}) as log:
        train_to(log, range(3, 8))
    assert sorted(READ[name](tmp_path)) == [
        *(("train/loss", step, step / 2) for step in range(1, 8)),
        ("val/loss", 5, 1.0),
        ("val/loss", 7, 1.0),
    ]


@pytest.mark.trackers
def test_an_interrupted_training_is_one_run_everywhere(offline, place, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    config = tiny_config(*place)
    config.trackers = ""
    config.log_every_steps = 2
    config.checkpoint_minutes = 0.0  # at every line
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt(patched, 6, KeyboardInterrupt)
        train.train_and_evaluate(config, workdir)
    config.trackers = "wandb,mlflow"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt(patched, 6, KeyboardInterrupt)
        train.train_and_evaluate(config, workdir)
    results = train.train_and_evaluate(config, workdir)
    expected = [
        (name, line["step"], value)
        for line in read_log(workdir / "metrics.jsonl")
        for name, value in line.items()
        if name not in ("step", "epoch") and value is not None
    ]
    last = expected[-1][1]
    accuracy = ("test/image_accuracy", last, results["image"]["accuracy"]["value"])
    for name in OPTIONAL:
        told = READ[name](workdir)
        assert accuracy in told
        ours = [figure for figure in told if not figure[0].startswith("test/")]
        assert sorted(ours) == sorted(expected), name
    client, run = mlflow_run(workdir)
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.learning_rate"] == "0.001"
    pictures = client.list_artifacts(run.info.run_id, "figures/test")
    assert {item.path for item in pictures} == {
        "figures/test/roc.png",
        "figures/test/confusion.png",
    }
    shown = (workdir / "wandb").glob("offline-run-*/files/media/images/test/*.png")
    assert {path.name.split("_")[0] for path in shown} == {"roc", "confusion"}
    train.train_and_evaluate(config, workdir)
    for name in OPTIONAL:
        assert READ[name](workdir).count(accuracy) == 1, "told again by a start that did nothing"


@pytest.mark.trackers
@pytest.mark.parametrize(
    ("name", "environment", "words"),
    [
        (
            "mlflow",
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
            "error: MLflow at http://127.0.0.1:9 cannot be used",
        ),
        ("wandb", {"WANDB_MODE": "online"}, "WANDB_MODE=offline to write to the workdir"),
    ],
)
def test_what_cannot_be_reached_is_named_with_the_remedy(
    offline, tmp_path, name, environment, words
):
    result = open_log(tmp_path, name, {**environment, "HOME": str(tmp_path)})  # no key of ours
    assert result.returncode == 2
    assert words in result.stderr and "Traceback" not in result.stderr


@pytest.mark.trackers
def test_a_run_that_ends_with_an_error_is_shown_as_failed(offline, tmp_path):
    open_log(tmp_path, "mlflow", {})
    assert mlflow_run(tmp_path)[1].info.status == "FAILED"


def open_log(workdir, name, environment):
    """A process that opens a log and ends without closing it."""
    script = (
        "import pathlib, sys\n"
        "from se_resnet.runtime.cli import exit_on_user_error\n"
        "from se_resnet.runs.run_folder import RunFolder\n"
        "from se_resnet.tracking.metric_log import MetricLog\n"
        "with exit_on_user_error():\n"
        "    MetricLog(RunFolder(sys.argv[1]), 0, 5, [sys.argv[2]])\n"
        "sys.exit(3)"
    )
    command = [sys.executable, "-c", script, str(workdir), name]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
