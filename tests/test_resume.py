"""What is left of a run that was stopped: by a signal, a kill, a full disk or a wrong number."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import train
from benchmarks import kill_test
from data.balance import make_plan
from data.feed import batch_order
from se_resnet.errors import UserError
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.integrity import facts_of
from se_resnet.runs.lock import locked
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime import signals
from se_resnet.training import losses, saving
from se_resnet.training.divergence import make_check
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import make_train_step
from se_resnet.training.step_metrics import StepMetrics
from tests.helpers import ROOT
from tests.helpers.batches import OFF, make_batch
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_images, make_records
from tests.helpers.interruption import before_step, skip_evaluation
from tests.helpers.networks import start, tiny_classifier


@pytest.fixture
def no_evaluation(monkeypatch):
    skip_evaluation(monkeypatch)
    monkeypatch.setattr(kill_test, "FILES", ("metrics.jsonl", "metrics.csv"))


@pytest.mark.compiled
@pytest.mark.usefixtures("no_evaluation")
def test_signals_and_a_full_disk_change_nothing_in_the_end(run, place, tmp_path, monkeypatch):
    """Each stops the same run once, between two lines of the log; then it goes on to its end."""
    config, workdir = tiny_config(*place), tmp_path / "run"
    checkpoints = Checkpoints(workdir / "checkpoints")
    handlers = [signal.getsignal(signum) for signum in signals.EXIT_CODES]
    for stop, signum, code in ((5, signal.SIGTERM, 75), (3, signal.SIGINT, 130)):
        with monkeypatch.context() as patch:
            before_step(patch, stop, lambda signum=signum: signal.raise_signal(signum))
            with pytest.raises(signals.Interrupted, match=r"saved after step \d of 26") as told:
                train.train_and_evaluate(config, workdir)
        assert told.value.exit_code == code
    assert checkpoints.steps("latest") == [5, 8]
    facts = facts_of(workdir / "checkpoints" / "latest" / "8")
    assert len(facts["unlogged"]) == 2, "steps 7 and 8; the line of step 9 needs them"
    assert [signal.getsignal(signum) for signum in signals.EXIT_CODES] == handlers

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        before_step(patch, 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1])))
        try:
            with pytest.raises(UserError, match=r"13 cannot be written \(File too large\): make"):
                train.train_and_evaluate(config, workdir)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.steps("latest") == [5, 8]

    train.train_and_evaluate(config, workdir)
    assert kill_test.differences(workdir, run) == []


@pytest.mark.usefixtures("no_evaluation")
def test_the_same_seed_gives_the_same_run_to_the_last_bit(run, place, tmp_path):
    train.train_and_evaluate(tiny_config(*place), tmp_path / "again")
    assert kill_test.differences(tmp_path / "again", run) == []


@pytest.mark.usefixtures("no_evaluation")
def test_a_training_that_ends_between_saves_repeats_the_epochs_since(place, tmp_path, monkeypatch):
    """Saving may take no time here, so that each process saves its first epoch and the last."""
    monkeypatch.setattr(saving, "LARGEST_SHARE", 0.0)
    config = tiny_config(*place)
    config.epochs = 4
    config.checkpoint.choose = "best"
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    train.train_and_evaluate(config, whole)

    def fail():
        raise RuntimeError("ended")

    with monkeypatch.context() as patch:
        before_step(patch, 45, fail)
        with pytest.raises(RuntimeError, match="ended"):
            train.train_and_evaluate(config, ended)
    assert Checkpoints(ended / "checkpoints").steps("latest") == [13]
    train.train_and_evaluate(config, ended)
    assert kill_test.differences(ended, whole) == []
    for folder, first in ((whole, 13), (ended, 26)):
        checkpoints = Checkpoints(folder / "checkpoints")
        assert checkpoints.steps("latest") == [first, 52]
        assert checkpoints.steps("best")[-1] == chosen_step(folder)


def chosen_step(folder: Path) -> int:
    """The step of the best validation by AUC and then loss, by the log."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in lines if "val/loss" in line]
    return max(validations, key=lambda line: (line["val/roc_auc"], -line["val/loss"]))["step"]


@pytest.mark.slow
def test_killed_trainings_equal_the_one_that_was_left_alone():
    counts = {row["what"]: row["count"] for row in kill_test.rehearse(kills=6, seed=1)}
    assert counts.pop("runs equal to the undisturbed run") >= 1
    assert sum(counts.values()) == 6 and counts["SIGKILL while saving"] >= 1


def test_a_second_signal_ends_the_process_at_once():
    code = """
    import signal
    from se_resnet.runtime import signals as preemption
    with preemption.deferred() as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals.signum == signal.SIGTERM
        print("noted", flush=True)
        signal.raise_signal(signal.SIGINT)
        print("not reached")
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert told.stdout == "noted\n" and told.returncode == -signal.SIGINT


def test_a_command_ended_by_a_signal_says_so_by_message_and_code():
    code = """
    import signal, sys
    from se_resnet.runtime import cli
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins without
    cli.run_command(lambda: signal.raise_signal(int(sys.argv[1])))
    """
    for signum, code_of in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        command = [sys.executable, "-c", textwrap.dedent(code), str(int(signum))]
        told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert told.returncode == code_of and told.stderr.count("\n") == 1
        assert told.stderr.startswith("interrupted: ")


def test_a_folder_in_use_is_free_once_its_process_was_killed(tmp_path):
    code = """
    import sys, time
    from pathlib import Path
    from se_resnet.runs.lock import locked
    from se_resnet.runs.run_folder import RunFolder
    with locked(RunFolder(sys.argv[1])):
        print("locked", flush=True)
        time.sleep(60)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert owner.stdout.readline() == b"locked\n"
        told = rf"{tmp_path} is in use by process {owner.pid} on \S+, started 2\d\d\d-.*: wait"
        with pytest.raises(UserError, match=told), locked(RunFolder(tmp_path)):
            pass
    finally:
        owner.kill()
        owner.wait()
    assert (tmp_path / "lock.json").exists(), "of the killed process"
    with locked(RunFolder(tmp_path)), pytest.raises(UserError, match=f"process {os.getpid()} "):
        train.train_and_evaluate(tiny_config(tmp_path, tmp_path), tmp_path)
    assert not (tmp_path / "lock.json").exists()


def test_a_gradient_that_is_not_finite_is_seen_where_the_loss_is(monkeypatch):
    sound = losses.Loss.__call__
    # The value is 0, the derivative of the root there infinite, times 0.
    monkeypatch.setattr(
        losses.Loss,
        "__call__",
        lambda self, logits, labels: sound(self, logits, labels) + jnp.sqrt(0 * logits),
    )
    classifier = tiny_classifier(stage_sizes=(1,), attention="none", formulation="plain")
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-2)))
    _, metrics = step(start(classifier), make_batch())
    assert np.isfinite(metrics["loss"]) and not metrics["finite"]

    def files_of_step(number: int) -> list[str]:
        assert number == 8
        return [f"{letter}.png" for letter in "abcdefg"]

    check = make_check(Checkpoints(Path("run/checkpoints")), files_of_step)
    read = StepMetrics(7, [], check)
    read.add(metrics, 1)
    told = "a gradient of step 8 .* a.png, b.png, c.png, d.png, e.png and 2 more.; no checkpoint"
    with pytest.raises(UserError, match=told):
        list(read.read(leave=0))


def test_files_of_a_step_include_both_parents_of_a_synthetic():
    records = make_records(4, 9)
    plan = make_plan(records, make_images(records), method="smote")
    rows = batch_order.rows_of_step(plan, 8, 0, 2)
    synthetic = rows[plan.base[rows] != plan.neighbour[rows]][0]
    files = batch_order.files_of_step(plan, records, 8, 0, 2)
    name = dict(zip(records.row.tolist(), records.file.tolist(), strict=True))
    assert {name[plan.base[synthetic]], name[plan.neighbour[synthetic]]} <= set(files)
    expected = {name[row] for row in [*plan.base[rows], *plan.neighbour[rows]]}
    assert set(files) == expected and len(files) == len(expected)


def test_metrics_since_the_last_line_survive_exactly():
    def check(name, step, finite):
        assert finite

    rng = np.random.default_rng(0)
    steps = [
        {"loss": loss, "accuracy": accuracy, "finite": np.bool_(True)}
        for loss, accuracy in rng.random((7, 2), np.float32)
    ]
    whole, first = StepMetrics(0, [], check), StepMetrics(0, [], check)
    for metrics in steps:
        whole.add(metrics, 1)
    for metrics in steps[:3]:
        first.add(metrics, 1)
    assert list(first.read(leave=1)) == [float(one["loss"]) for one in steps[:2]]
    list(first.read(leave=0))
    second = StepMetrics(3, first.rows(), check)
    for metrics in steps[3:]:
        second.add(metrics, 1)
    for one in (whole, second):
        list(one.read(leave=0))
    assert second.take() == whole.take() and second.rows() == []
