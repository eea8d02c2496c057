"""Stops a training in the middle."""

from __future__ import annotations

from se_resnet import training


def interrupt(monkeypatch, stop: int, error: type[BaseException]) -> None:
    """Lets the next training be interrupted by ``error`` before its ``stop``-th step."""
    make_step, count = training.make_train_step, 0

    def make_failing_step(*args):
        step = make_step(*args)

        def failing(state, batch):
            nonlocal count
            count += 1
            if count == stop:
                raise error
            return step(state, batch)

        return failing

    monkeypatch.setattr(training, "make_train_step", make_failing_step)
