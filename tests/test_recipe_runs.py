"""Whole trainings with the recipe's fields set: phases, resuming, early stopping, placements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import train
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.tracking.metric_log import read_log
from se_resnet.training import loop
from tests.helpers.configs import tiny_config
from tests.helpers.interruption import interrupt, skip_evaluation

pytestmark = pytest.mark.compiled


@pytest.fixture(autouse=True)
def no_evaluation(monkeypatch):
    skip_evaluation(monkeypatch)


def everything(place):
    """Every field set that changes the training's state, and little to compile."""
    config = tiny_config(*place)
    config.epochs = 4
    config.log_every_steps = 4
    for name in ("flip", "rotate", "translate", "zoom", "stain", "contrast"):
        config.augment[name] = type(config.augment[name])(0)
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
    with pytest.MonkeyPatch.context() as patch:
        skip_evaluation(patch)
        train.train_and_evaluate(everything(place), workdir)
    return workdir


def log_of(workdir: Path) -> list[dict]:
    return read_log(workdir / "metrics.jsonl")


def saved(workdir: Path, kind: str) -> tuple[int, Any]:
    """Step and tree of the newest checkpoint, ``'latest'`` or ``'best'``."""
    step = Checkpoints(workdir / "checkpoints").steps(kind)[-1]
    tree = workdir / "checkpoints" / kind / str(step) / "tree"
    return step, ocp.StandardCheckpointer().restore(tree.absolute())


def test_the_log_shows_each_phases_learning_rate(whole):
    rates = {
        line["step"]: line["train/learning_rate"]
        for line in log_of(whole)
        if "train/learning_rate" in line
    }
    last = max(rates)
    assert rates[last // 4] == pytest.approx(1e-3), "the head's own phase is constant"
    assert max(rates.values()) <= 1e-3 * (1 + 1e-6) and 0 < rates[last] < 1e-4


def test_phases_train_their_parts_and_the_averages_are_chosen(whole):
    _, state = saved(whole, "latest")
    head, rest = state["opt_state"]
    shapes = [{leaf.shape for leaf in jax.tree.leaves(part) if leaf.shape} for part in (head, rest)]
    assert shapes[0] == {(16, 1), (1,)} and shapes[0] < shapes[1]
    assert (7, 7, 3, 4) not in shapes[1], "the stem is frozen"
    step, best = saved(whole, "best")
    assert set(best) == {"params", "batch_stats"}
    if step == log_of(whole)[-1]["step"]:
        kernel = best["params"]["head"]["kernel"]
        np.testing.assert_array_equal(kernel, state["average"]["params"]["head"]["kernel"])
    assert (state["params"]["head"]["kernel"] != state["average"]["params"]["head"]["kernel"]).all()


def test_a_run_interrupted_in_each_phase_ends_the_same_exactly(whole, place, tmp_path, monkeypatch):
    config, last = everything(place), log_of(whole)[-1]["step"]
    config.checkpoint_minutes = 0.0
    for stop in (6, last // 4):  # the second goes on from step 4
        with monkeypatch.context() as patch, pytest.raises(InterruptedError):
            interrupt(patch, stop, InterruptedError)
            train.train_and_evaluate(config, tmp_path / "run")
    assert last // 4 < saved(tmp_path / "run", "latest")[0] < last, "stopped in the second phase"
    train.train_and_evaluate(config, tmp_path / "run")
    assert log_of(tmp_path / "run") == log_of(whole)
    for kind in ("latest", "best"):
        (step, ours), (wanted, expected) = saved(tmp_path / "run", kind), saved(whole, kind)
        assert step == wanted
        jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("stop", ["in the last epoch", "at its end"])
def test_the_last_weights_are_the_averages_at_the_end_also_after_a_resume(
    whole, place, tmp_path, monkeypatch, stop
):
    config, last = everything(place), log_of(whole)[-1]["step"]
    config.checkpoint.choose = "last"
    config.checkpoint_minutes = 0.0
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        if stop == "at its end":  # the weights are saved, the state of the last step is not

            def fail(self, step, *args, save=Checkpoints.save_latest):
                if step == last:
                    raise InterruptedError
                save(self, step, *args)

            patch.setattr(Checkpoints, "save_latest", fail)
        else:
            interrupt(patch, last - 1, InterruptedError)
        train.train_and_evaluate(config, tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.steps("best") == ([last] if stop == "at its end" else [])
    assert checkpoints.steps("latest")[-1] < last
    train.train_and_evaluate(config, tmp_path / "run")
    step, chosen = saved(tmp_path / "run", "best")
    assert step == last and checkpoints.steps("best") == [last]
    _, state = saved(whole, "latest")
    jax.tree.map(np.testing.assert_array_equal, chosen, state["average"])


def test_on_the_device_the_phases_are_the_same(whole, place, tmp_path):
    config = everything(place)
    config.data.placement = "device"
    config.log_every_steps = 1000  # one dispatch an epoch
    train.train_and_evaluate(config, tmp_path / "run")
    validations = [
        [line for line in log_of(workdir) if "val/loss" in line]
        for workdir in (tmp_path / "run", whole)
    ]
    assert len(validations[0]) == 4
    for ours, hosts in zip(*validations, strict=True):
        assert ours == pytest.approx(hosts, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("choose", "epoch"), [("best", 1), ("last", 3)])
def test_a_run_that_stopped_early_stays_stopped(
    place, tmp_path, monkeypatch, capsys, choose, epoch
):
    config = everything(place)
    config.checkpoint.choose = choose
    config.early_stopping.metric = "val/roc_auc"
    config.early_stopping.patience = 1
    # The head's epoch is the best of all, and does not count.
    scores = iter([0.9, 0.7, 0.6, 0.8])
    monkeypatch.setattr(
        loop,
        "validation_metrics",
        lambda *_: {"val/loss": 1.0, "val/accuracy": 0.5, "val/roc_auc": next(scores)},
    )
    train.train_and_evaluate(config, tmp_path / "run")
    sentence = "val/roc_auc has not improved on 0.7 for 1 epochs"
    assert sentence in capsys.readouterr().out
    log = log_of(tmp_path / "run")
    assert log[-1]["epoch"] == 3.0
    assert saved(tmp_path / "run", "best")[0] * 3 == log[-1]["step"] * epoch
    interrupt(monkeypatch, 1, InterruptedError)
    train.train_and_evaluate(config, tmp_path / "run")
    assert sentence in capsys.readouterr().out and log_of(tmp_path / "run") == log
