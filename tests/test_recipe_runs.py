"""Whole runs with the recipe's fields set: phases, resuming, early stopping, both placements."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import train
from se_resnet import training
from se_resnet.checkpoint import Checkpoints
from se_resnet.errors import UserError
from se_resnet.metric_log import read_log
from se_resnet.metrics import Predictions
from se_resnet.workdir import load_best
from tests.conftest import tiny_config

EPOCH_STEPS = 11


def everything(place):
    """A configuration with every field of the recipe that changes the training state."""
    config = tiny_config(*place)
    config.epochs = 3
    config.log_every_steps = 4
    config.checkpoint_minutes = 0.0
    config.augment.mixup = 0.3
    config.loss.label_smoothing = 0.1
    config.model.attention = "none"
    config.model.formulation = "plain"
    config.model.stage_sizes = (1,)
    config.model.dropout = 0.2
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 0.5
    config.optim.head_epochs = 1
    config.optim.weight_decay = 0.01
    config.optim.clip_norm = 1.0
    config.optim.accumulate = 2
    config.optim.ema_decay = 0.9
    config.optim.rules = "stem=0 stage1=0.5 head=1"
    return config


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("recipes") / "whole"
    train.train_and_evaluate(everything(place), workdir)
    return workdir


def test_the_log_shows_the_phases_learning_rates(whole):
    rates = {
        line["step"]: line["train/learning_rate"]
        for line in read_log(whole / "metrics.jsonl")
        if "train/learning_rate" in line
    }
    last = max(rates)
    epoch_steps = last // 3
    assert rates[epoch_steps] == pytest.approx(1e-3), "the head's own phase is constant"
    assert max(rates.values()) <= 1e-3 * (1 + 1e-6) and 0 < rates[last] < 1e-4


def test_the_averaged_weights_are_evaluated(whole, place):
    best = load_best(whole)
    (folder,) = (whole / "checkpoints" / "latest").glob("[0-9]*")
    import orbax.checkpoint as ocp

    tree = ocp.StandardCheckpointer().restore((folder / "tree").absolute())
    (chosen,) = (whole / "checkpoints" / "best").glob("[0-9]*")
    if chosen.name == folder.name:
        kernel = best.variables["params"]["head"]["kernel"]
        np.testing.assert_array_equal(kernel, tree["average"]["params"]["head"]["kernel"])
        assert (np.asarray(kernel) != np.asarray(tree["params"]["head"]["kernel"])).any()


def make_failing(monkeypatch, stop: int) -> None:
    """Training is interrupted before its step ``stop``, counted over all phases."""
    make_step, count = training.make_train_step, 0

    def make_failing_step(*args):
        step = make_step(*args)

        def failing(state, batch):
            nonlocal count
            count += 1
            if count == stop:
                raise KeyboardInterrupt
            return step(state, batch)

        return failing

    monkeypatch.setattr(training, "make_train_step", make_failing_step)


@pytest.mark.parametrize("phase", ["head", "rest"])
def test_a_run_with_everything_goes_on_to_the_same_end(
    whole, place, tmp_path, monkeypatch, phase
):
    epoch_steps = read_log(whole / "metrics.jsonl")[-1]["step"] // 3
    make_failing(monkeypatch, {"head": 6, "rest": epoch_steps + 6}[phase])
    with pytest.raises(KeyboardInterrupt):
        train.train_and_evaluate(everything(place), tmp_path / "run")
    monkeypatch.undo()
    train.train_and_evaluate(everything(place), tmp_path / "run")
    assert read_log(tmp_path / "run" / "metrics.jsonl") == read_log(whole / "metrics.jsonl")
    predictions = Path("eval") / "test" / "predictions.csv"
    assert (tmp_path / "run" / predictions).read_bytes() == (whole / predictions).read_bytes()
