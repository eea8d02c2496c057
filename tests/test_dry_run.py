"""--dry_run tries everything up to the first step, and keeps nothing but caches."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

import train
from se_resnet.errors import UserError
from se_resnet.training import rehearsal
from se_resnet.training.rehearsal import Estimate
from se_resnet.training.step import TrainState
from tests.helpers.configs import tiny_config


def content(folder: Path) -> dict[str, tuple]:
    """Name, size and time of every file and folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of the temporary folder; TensorFlow writes its files elsewhere."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    make = train.tempfile.TemporaryDirectory
    monkeypatch.setattr(train.tempfile, "TemporaryDirectory", lambda: make(dir=folder))
    return folder


@pytest.mark.compiled
@pytest.mark.parametrize("placement", ["host", "device"])
def test_a_dry_run_keeps_nothing(place, tmp_path, temporary, monkeypatch, capsys, placement):
    monkeypatch.chdir(tmp_path)
    config = tiny_config(*place)
    config.data.placement = placement
    estimate = train.dry_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists() and not list(temporary.iterdir())
    assert sorted(os.listdir(tmp_path)) == ["tmp"]
    assert estimate.epochs == config.epochs
    steps = re.search(r"compilation .*; (\d+) steps of [\d.e-]+ s; 2 validations", printed(capsys))
    assert steps and int(steps[1]) == sum(estimate.phase_steps) > 0
    assert estimate.memory_bytes > 1e8


def printed(capsys) -> str:
    text = capsys.readouterr().out
    assert "disk: about" in text and " free" in text and "memory: about" in text
    assert "nothing was written to" in text
    return text


@pytest.mark.compiled
def test_the_disk_estimate_is_that_of_the_run(run, place, tmp_path, temporary, capsys):
    """``run`` is a finished run of the same configuration, which stays as it is."""
    before = content(run)
    estimate = train.dry_run(tiny_config(*place), run)
    assert content(run) == before and not list(temporary.iterdir())
    assert estimate.phase_steps == [0] and estimate.epochs == 0, "the run has ended"
    checkpoints = list((run / "checkpoints").glob("*/[0-9]*"))
    files = [path for path in (run / "checkpoints").rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in files)
    indices = 200_000 * len(checkpoints)  # of Orbax, small beside the weights of a large network
    assert 0.5 * estimate.disk_bytes < written < 1.5 * estimate.disk_bytes + indices


@pytest.mark.compiled
def test_several_folds_and_repeats_are_counted(place, tmp_path, temporary, capsys):
    config = tiny_config(*place)
    config.split.fold, config.repeats, config.ensemble.members = "all", 2, 3
    config.optim.head_epochs = 1
    estimate = train.dry_run(config, tmp_path / "run")
    assert len(estimate.step_seconds) == 2, "two phases"
    assert estimate.phase_steps[0] == estimate.phase_steps[1] > 0
    assert "; 30 runs: about " in printed(capsys)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split.folds": 13}, "only 10 benign patients"),
        ({"model.width": 0}, "width"),
        ({"data.dir": "/no/such/folder"}, "does not exist"),
        ({"epochs": 0}, "config.epochs = 0 is out of range"),
    ],
)
def test_a_dry_run_finds_mistakes(place, tmp_path, temporary, changes, words):
    config = tiny_config(*place)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        train.dry_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists() and not list(temporary.iterdir())


def test_a_run_of_another_configuration_is_refused(run, place):
    config = tiny_config(*place)
    config.epochs = 7
    with pytest.raises(UserError, match="holds a run with config.epochs = 2"):
        train.dry_run(config, run)


def test_a_folder_that_cannot_be_made_is_refused(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/run cannot be written: choose another --workdir"):
        train.dry_run(tiny_config(*place), tmp_path / "file" / "run")


def test_an_interrupted_dry_run_leaves_nothing(place, tmp_path, temporary, monkeypatch):
    def fail(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(rehearsal.loop, "make_train_step", lambda *_: fail)
    with pytest.raises(KeyboardInterrupt):
        train.dry_run(tiny_config(*place), tmp_path / "run")
    assert not (tmp_path / "run").exists() and not list(temporary.iterdir())


def test_the_needs_of_a_training_are_printed_at_its_start(monkeypatch):
    state = TrainState(np.zeros(1), {"w": np.zeros(250_000, np.float32)}, {}, (), None)
    monkeypatch.setattr(rehearsal.memory, "available_bytes", lambda: 8_000_000_000)
    text = rehearsal.describe_needs(state, 10**12)
    assert re.match(r"disk: up to 5\.0 MB of checkpoints, 1000\.0 GB free\n", text)
    assert "\nmemory: 8.0 GB available; memory so far " in text and "WARNING" not in text
    assert "WARNING: the disk is too small: make room" in rehearsal.describe_needs(state, 10**6)
    monkeypatch.setattr(rehearsal.memory, "available_bytes", lambda: 0)
    assert "memory" not in rehearsal.describe_needs(state, 10**12)


ESTIMATE = Estimate(
    compile_seconds=60.0,
    step_seconds=[1.0, 3.0],
    phase_steps=[10, 90],
    validation_seconds=5.0,
    epochs=4,
    memory_bytes=3 * 10**9,
    device_bytes=0,
    state_bytes=400 * 10**6,
    weights_bytes=100 * 10**6,
)


def test_an_estimate_adds_compilation_steps_and_validations():
    assert ESTIMATE.seconds == 60 + 10 + 270 + 20
    assert ESTIMATE.disk_bytes == 900 * 10**6 and ESTIMATE.peak_disk_bytes == 1400 * 10**6
    text = ESTIMATE.describe(free_bytes=10**12)
    assert "time: about 6 min 0 s," in text and "memory: about 3.0 GB" in text
    assert "disk: about 1.4 GB for checkpoints, 1000.0 GB free" in text and "WARNING" not in text
    assert "3 runs: about 18 min 0 s" in ESTIMATE.describe(3)


def test_a_disk_that_is_too_small_is_reported():
    assert "WARNING: the disk is too small" in ESTIMATE.describe(free_bytes=10**9)
    assert "WARNING" not in ESTIMATE.describe(1, 2 * 10**9)
    assert "WARNING" in ESTIMATE.describe(5, 2 * 10**9)
