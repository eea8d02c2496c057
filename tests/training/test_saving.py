"""When the state of a training is saved, and in which order."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.training import saving
from se_resnet.training.divergence import is_finite
from se_resnet.training.saving import Saver

SAVE_SECONDS = 6.0
STATE = {"w": jnp.ones((2, 3))}


class Clock(Checkpoints):
    """Checkpoints whose saves take six seconds on a clock that tests move."""

    def __init__(self, folder):
        super().__init__(folder)
        self.now = 100.0
        self.calls = []

    def save_latest(self, step, state, facts):
        super().save_latest(step, state, facts)
        self.calls.append(("latest", step))
        self.now += SAVE_SECONDS

    def save_best(self, step, variables, facts):
        super().save_best(step, variables, facts)
        self.calls.append(("best", step))


@pytest.fixture
def clock(tmp_path, monkeypatch):
    checkpoints = Clock(tmp_path)
    timer = SimpleNamespace(monotonic=lambda: checkpoints.now)
    monkeypatch.setattr(saving, "time", timer)
    return checkpoints


def test_epochs_that_are_shorter_than_a_save_are_not_all_saved(clock):
    saver = Saver(clock, minutes=10)
    saved = []
    for epoch in range(1, 121):
        clock.now += 1
        if saver.is_due(end_of_epoch=True):
            saver.save(epoch, STATE, {})
            saved.append(epoch)
    assert saved == [1, 61]  # then after 60 seconds, of which a tenth is a save
    assert clock.steps("latest") == saved


def test_long_epochs_are_all_saved_and_between_them_after_some_minutes(clock):
    saver = Saver(clock, minutes=10)
    due = []
    for second in range(1, 3001):
        clock.now += 1
        if saver.is_due(end_of_epoch=second % 1500 == 0):
            saver.save(second, STATE, {})
            due.append(second)
    assert due == [600, 1200, 1500, 2100, 2700, 3000]


def test_a_pause_within_an_epoch_is_not_an_end(clock):
    saver = Saver(clock, minutes=10)
    clock.now += 599
    assert not saver.is_due(end_of_epoch=False)
    assert saver.is_due(end_of_epoch=True)
    assert Saver(clock, minutes=0).is_due(end_of_epoch=False)


def test_the_chosen_weights_are_saved_once_and_before_the_state(clock):
    saver = Saver(clock, minutes=10)
    take_over = jax.jit(lambda tree: jax.tree.map(jnp.zeros_like, tree), donate_argnums=0)
    for step in (1, 2):
        variables = {"w": jnp.full((2, 3), float(step))}
        saver.choose(step, variables, {"of": step})
        take_over(variables)
    assert clock.calls == []
    saver.save(3, STATE, {})
    saver.save(4, STATE, {})
    assert clock.calls == [("best", 2), ("latest", 3), ("latest", 4)]
    assert clock.best_facts() == {"of": 2}
    best = clock.restore_best(STATE)
    assert isinstance(best["w"], jax.Array)
    np.testing.assert_array_equal(best["w"], np.full((2, 3), 2.0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_on_the_host(value):
    tree = {"a": jnp.full((3, 4), -1e30), "b": (jnp.zeros(2), jnp.array(5)), "c": jnp.ones(())}
    assert is_finite(tree)
    for row in range(2):
        assert not is_finite({**tree, "b": (tree["b"][0].at[row].set(value), tree["b"][1])})
    assert not is_finite({**tree, "c": jnp.asarray(value)})
