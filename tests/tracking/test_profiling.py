from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from configs import smoke
from se_resnet.errors import UserError
from se_resnet.tracking.profiling import Profiler
from se_resnet.training.config import check_config


def traced_steps(folder) -> list[int]:
    """The numbers of the steps in the only trace below a folder of TensorBoard."""
    (file,) = (folder / "plugins" / "profile").glob("*/*.xplane.pb")
    return [
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]


def work(profiler, start, stop, block=1):
    state = jnp.ones(())
    for done in range(start, stop, block):
        profiler.reach(done, state)
        state = state + 1
    profiler.close()


def test_a_run_traces_the_steps_that_it_was_asked_for(run):
    assert traced_steps(run / "tensorboard") == [2, 3]


@pytest.mark.parametrize(
    ("steps", "start", "stop", "block", "traced"),
    [
        ((1, 1), 0, 4, 1, [1]),
        ((3, 9), 0, 5, 1, [3, 4, 5]),  # ends with the training
        ((3, 6), 4, 9, 1, [5, 6]),  # goes on in the middle
        ((12, 18), 0, 60, 10, [21]),  # whole dispatches, of which one at least
    ],
)
def test_traces_begin_and_end_where_the_host_looks(tmp_path, steps, start, stop, block, traced):
    work(Profiler(steps, tmp_path, start, stop), start, stop, block)
    assert traced_steps(tmp_path) == traced


@pytest.mark.parametrize(("steps", "start"), [((), 0), ((3, 6), 6)])
def test_nothing_is_traced_unasked_or_behind_the_run(tmp_path, steps, start):
    work(Profiler(steps, tmp_path, start, 8), start, 8)
    assert not any(tmp_path.iterdir())


def test_steps_that_the_run_does_not_have_are_a_mistake(tmp_path):
    with pytest.raises(UserError, match="begins after the last step, which is 8"):
        Profiler((9, 10), tmp_path, 0, 8)


@pytest.mark.parametrize("steps", [(0, 1), (2, 1), (1,), (1, 2.0), ("a", "b"), (True, 2)])
def test_values_that_are_no_steps_are_told_before_the_run(steps):
    config = smoke.get_config()
    config.profile_steps = steps
    with pytest.raises(UserError, match="first and the last step"):
        check_config(config)
