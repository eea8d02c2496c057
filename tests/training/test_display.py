from __future__ import annotations

import io
import re
import sys

import pytest

from se_resnet.tracking.epoch_table import Epoch
from se_resnet.training.display import Display
from se_resnet.training.progress import Steps


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def epoch(number, is_best=True, auc=0.8125):
    metrics = {"train/loss": 0.25, "val/loss": 0.5, "val/accuracy": 0.75, "val/roc_auc": auc}
    return Epoch(number, 4 * number, metrics, is_best)


def train(display, clock, calls, compiling=40.0, block=1):
    """Runs steps of 2 seconds, ``block`` in each call; the first call takes ``compiling`` s."""
    called = 0

    def step():
        nonlocal called
        called += 1
        clock.seconds += compiling if called == 1 else 2 * block
        return called

    advance = display.compiled_at_first(step)
    for number in range(calls):
        assert advance(steps=block) == number + 1
        display.add_steps([0.5] * block)


def validate(display, clock, row, seconds):
    def work():
        clock.seconds += seconds
        return row

    display.validated(work)


def test_compilation_is_announced_and_counts_for_no_rate(capsys):
    clock = Clock()
    display = Display(0, Steps(4, 3), 8, clock, lambda: "memory so far 3.1 GB")
    train(display, clock, 5)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "compile   the training step (about a minute the first time)",
        "train     the training step is compiled (40 s)",
        "estimate  about 16 s for 8 more steps of 2 s, without validation and evaluation; "
        "memory so far 3.1 GB",
    ]
    validate(display, clock, epoch(1), 3)
    (line,) = capsys.readouterr().out.splitlines()
    # 4 steps of 2 seconds: the call that compiled is left out.
    assert line == (
        "epoch     1 of 3: training loss 0.250; validation loss 0.500, AUC 0.812, accuracy 0.750; "
        "8.0 s for the last 5 steps, 4 images/s, validation 3.0 s, about 16 s left * best so far"
    )


def test_an_epoch_without_compilation_has_its_own_times(capsys):
    clock = Clock()
    display = Display(4, Steps(4, 3), 8, clock)
    validate(display, clock, epoch(1), 30)  # compiles
    clock.seconds += 10
    for _ in range(4):
        display.add_steps([0.5])
    validate(display, clock, epoch(2, is_best=False, auc=None), 5)
    first, second = capsys.readouterr().out.splitlines()
    assert "AUC undefined" in second and "best" in first and "best" not in second
    assert second.endswith("; 10 s, 3.2 images/s, validation 5.0 s, about 15 s left")


def test_steps_of_one_call_are_timed_together(capsys):
    """As with ``config.data.placement = 'device'``."""
    clock = Clock()
    display = Display(0, Steps(20, 3), 8, clock)
    train(display, clock, 3, block=5)
    lines = capsys.readouterr().out.splitlines()
    (estimate,) = (line for line in lines if line.startswith("estimate"))
    assert estimate.startswith("estimate  about 1 min 40 s for 50 more steps of 2 s, ")
    validate(display, clock, epoch(1), 3)
    assert "20 s for the last 15 steps, 4 images/s" in capsys.readouterr().out


def test_a_short_epoch_is_estimated_by_its_line_alone(capsys):
    clock = Clock()
    display = Display(0, Steps(2, 3), 8, clock)
    train(display, clock, 2)
    validate(display, clock, epoch(1), 3)
    for _ in range(4):
        clock.seconds += 2
        display.add_steps([0.5])
    assert "estimate" not in capsys.readouterr().out


def test_other_processes_print_no_line_of_an_epoch(capsys):
    display = Display(0, Steps(4, 3), 8, Clock())
    display.validated(lambda: None)
    assert capsys.readouterr().out == ""


def test_the_bar_estimates_without_compilation_and_counts_from_the_resumed_step(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    clock = Clock()
    display = Display(4, Steps(4, 3), 8, clock)
    monkeypatch.setattr("tqdm.std.time", clock)
    train(display, clock, 1)
    bar = display._bar
    assert (bar.initial, bar.total) == (32, 96)
    train(display, clock, 5)  # another phase, which compiles for 40 seconds
    assert bar.n == 80
    elapsed = bar.format_dict["elapsed"]
    assert elapsed == pytest.approx(4 * 2)
    validate(display, clock, epoch(2), 30)  # compiles
    assert bar.format_dict["elapsed"] == pytest.approx(elapsed)
    display.close()
    assert re.search(r"83%.* 80/96 ", sys.stderr.getvalue())
