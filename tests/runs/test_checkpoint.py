from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from se_resnet.errors import UserError
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runtime.mesh import abstract_arrays, data_mesh, replicated
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import TrainState, make_train_step
from tests.helpers.batches import OFF, make_batch
from tests.helpers.marks import compiled
from tests.helpers.networks import start, tiny_classifier


def assert_equal(left, right) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), left, right
    )


@pytest.fixture(scope="module")
def trained() -> TrainState:
    classifier = tiny_classifier()
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-2)))
    state, _ = step(start(classifier), make_batch())
    return state


def variables_of(state: TrainState) -> dict:
    return {"params": state.params, "batch_stats": state.batch_stats}


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_latest_state_comes_back_whole(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    like = start(tiny_classifier(), seed=1)
    assert checkpoints.restore_latest(like) is None
    for step in (1, 5, 7):
        checkpoints.save_latest(step, trained.replace(step=trained.step + step), {"saved": step})
    state, facts, warnings = Checkpoints(tmp_path).restore_latest(like)
    assert_equal(state, trained.replace(step=trained.step + 7))
    assert facts == {"saved": 7} and not warnings
    assert names(tmp_path / "latest") == ["5", "7"]


def test_the_best_weights_carry_their_classifier(tmp_path, trained):
    classifier = tiny_classifier(variant="v1.5", bn_epsilon=1e-5)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match="no checkpoint to evaluate"):
        checkpoints.best_facts()
    checkpoints.save_best(3, variables_of(trained), classifier.as_dict())
    restored = classifier.from_dict(checkpoints.best_facts())
    assert restored == classifier
    mesh = data_mesh()
    like = abstract_arrays(restored.abstract_variables(), replicated(mesh))
    assert_equal(checkpoints.restore_best(like), variables_of(trained))


def test_best_weights_are_kept_while_a_state_may_need_them(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    like = start(tiny_classifier())
    for step in (2, 4, 6):
        checkpoints.save_best(step, variables_of(trained), {"saved": step})
        assert checkpoints.best_facts() == {"saved": step}
        if step < 6:  # killed between the two
            checkpoints.save_latest(step, trained, {})
    assert checkpoints.steps("best") == [2, 4, 6]
    damage(tmp_path / "latest" / "4", "flipped")
    checkpoints.restore_latest(like)
    assert checkpoints.best_facts() == {"saved": 2}, "4 and 6 are work that is done again"
    checkpoints.save_best(4, variables_of(trained), {"saved": "anew"})
    for step in (4, 5):
        checkpoints.save_latest(step, trained, {})
    assert checkpoints.steps("best") == [4] and checkpoints.best_facts() == {"saved": "anew"}


def test_best_weights_without_a_state_are_of_repeated_work(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(3, variables_of(trained), {})
    assert checkpoints.restore_latest(start(tiny_classifier())) is None
    checkpoints.save_best(3, variables_of(trained), {})


DAMAGE = ["truncated", "flipped", "no file", "no tree", "no facts", "other facts", "empty"]


def damage(step: Path, how: str) -> None:
    """Damages one checkpoint, a folder."""
    file = max((step / "tree").rglob("d/*"), key=lambda file: file.stat().st_size)
    facts = step / "facts.json"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "flipped":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif how == "no file":
        file.unlink()
    elif how == "no facts":
        facts.unlink()
    elif how == "other facts":
        facts.write_text(facts.read_text().replace("0.5", "0.75"))
    else:
        shutil.rmtree(step if how == "empty" else step / "tree")
        step.mkdir(exist_ok=True)


@pytest.mark.parametrize("how", [how if how == "flipped" else compiled(how) for how in DAMAGE])
def test_a_damaged_state_is_set_aside_and_the_one_before_it_used(tmp_path, trained, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save_latest(step, trained.replace(step=jnp.int32(step)), {"score": 0.5})
    damage(tmp_path / "latest" / "2", how)
    state, facts, (warning,) = checkpoints.restore_latest(start(tiny_classifier()))
    assert int(state.step) == 1 and facts == {"score": 0.5}
    assert re.match(r"the checkpoint .*/latest/2 is damaged \(.*: it was moved to .*/dam", warning)
    assert names(tmp_path / "latest") == ["1"] and names(tmp_path / "damaged") == ["latest_2"]
    checkpoints.save_latest(2, trained, {"score": 0.5})
    assert int(checkpoints.restore_latest(start(tiny_classifier())).tree.step) == 1

    damage(tmp_path / "latest" / "2", how)
    damage(tmp_path / "latest" / "1", how)
    before = names(tmp_path / "latest")
    with pytest.raises(UserError, match="latest/2 is damaged .* no other checkpoint is left"):
        checkpoints.restore_latest(start(tiny_classifier()))
    assert names(tmp_path / "latest") == before, "a later start refuses as well"


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_best_weights_are_named(tmp_path, trained, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 3):
        checkpoints.save_best(step, variables_of(trained), {"score": 0.5})
    damage(tmp_path / "best" / "3", how)
    with pytest.raises(UserError, match="best/3 is damaged"):
        checkpoints.best_facts()


def test_a_killed_save_leaves_nothing_that_is_read_or_stays(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(1, trained, {})
    shutil.copytree(tmp_path / "latest" / "1", tmp_path / "latest" / ".2")
    assert checkpoints.steps("latest") == [1]
    assert checkpoints.restore_latest(start(tiny_classifier())).warnings == []
    checkpoints.save_latest(2, trained, {})
    assert names(tmp_path / "latest") == ["1", "2"]


# TensorStore still hears of other files that failed when nobody listens any more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(1, trained, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match="latest/2 cannot be written .File too large.: make"):
            checkpoints.save_latest(2, trained, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.steps("latest") == [1]
    # Not the same again: TensorStore may remember, in this process, what it could not write.
    checkpoints.save_latest(3, trained, {})
    assert checkpoints.steps("latest") == [1, 3]


@pytest.mark.parametrize("name", ["plain", "a%20b", "q?*", "co:lon", "sp ace", "Größe"])
def test_a_rehearsal_leaves_nothing(tmp_path, name):
    Checkpoints(tmp_path / name).rehearse()
    assert not list(tmp_path.rglob(".rehearsal"))


@pytest.mark.parametrize("name", ["[x]", "back\\slash", "gs:", "lat\udcf6in"])
def test_a_path_from_which_nothing_is_read_back_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot be re.*plain names"):
        Checkpoints(tmp_path / name).rehearse()
    assert not list(tmp_path.rglob(".rehearsal")) and not (tmp_path / "back").exists()


def test_a_run_that_was_moved_to_such_a_path_says_so(tmp_path, trained):
    Checkpoints(tmp_path / "run").save_best(1, variables_of(trained), {})
    (tmp_path / "run").rename(tmp_path / "my\\run")
    with pytest.raises(UserError, match="cannot be re.*plain names"):
        Checkpoints(tmp_path / "my\\run").restore_best(variables_of(trained))


def test_a_step_that_is_saved_again_replaces_itself(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    for saved in (1, 2):
        checkpoints.save_best(3, variables_of(trained), {"saved": saved})
    assert checkpoints.best_facts() == {"saved": 2}
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["3"]


def test_a_failed_save_prints_no_errors_of_an_event_loop(tmp_path, trained, monkeypatch, caplog):
    """As Orbax on Python 3.12, where one file raises and the event loop reports all others."""

    async def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    async def save_all():
        tasks = [asyncio.ensure_future(fail()) for _ in range(3)]
        await asyncio.sleep(0)
        await tasks[0]

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def save(self, *_args, **_options):
            asyncio.run(save_all())

    monkeypatch.setattr("se_resnet.runs.checkpoint._checkpointer", Full)
    with pytest.raises(UserError, match="No space left on device"):
        Checkpoints(tmp_path).save_latest(1, trained, {})
    gc.collect()
    event_loop = logging.getLogger("asyncio")
    event_loop.error("another error of the event loop")
    for added in list(event_loop.filters):
        event_loop.removeFilter(added)
    assert "never retrieved" not in caplog.text and "another error" in caplog.text


@pytest.mark.parametrize("work", ["save", "restore"])
def test_a_signal_is_delivered_once_orbax_has_closed(tmp_path, trained, monkeypatch, work):
    """An exception inside Orbax would leave threads that write, each with a traceback."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(1, trained, {})
    events = []
    original = getattr(ocp.Checkpointer, work)

    def interrupted(*args, **options):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # a handler that raises would raise here
        result = original(*args, **options)
        events.append("closed")
        return result

    monkeypatch.setattr(ocp.Checkpointer, work, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            if work == "save":
                checkpoints.save_latest(2, trained, {})
            else:
                checkpoints.restore_latest(trained)
    finally:
        signal.signal(signal.SIGINT, before)
    assert events == ["closed"]
    monkeypatch.undo()
    # A save that was interrupted leaves nothing, and the checkpoint before stays.
    assert sorted(path.name for path in (tmp_path / "latest").iterdir()) == ["1"]
    assert checkpoints.restore_latest(trained) is not None
