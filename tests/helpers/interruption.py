"""Stops a training in the middle."""

from __future__ import annotations

from collections.abc import Callable

import train
from se_resnet.training import loop


def before_step(monkeypatch, stop: int, act: Callable[[], None]) -> None:
    """Lets ``act`` be called before the ``stop``-th step of the next training."""
    make_step, count = loop.make_train_step, 0

    def make_acting_step(*args):
        step = make_step(*args)

        def acting(state, batch):
            nonlocal count
            count += 1
            if count == stop:
                act()
            return step(state, batch)

        return acting

    monkeypatch.setattr(loop, "make_train_step", make_acting_step)


def interrupt(monkeypatch, stop: int, error: type[BaseException]) -> None:
    """Lets the next training be interrupted by ``error`` before its ``stop``-th step."""

    def fail() -> None:
        raise error

    before_step(monkeypatch, stop, fail)


def skip_evaluation(monkeypatch):
    """For tests that look at what a training leaves, and not at its evaluation."""
    monkeypatch.setattr(train.evaluation, "evaluate_run", lambda workdir: {})
    monkeypatch.setattr(train.test_results, "send", lambda log, results, folder: None)
