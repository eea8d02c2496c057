from __future__ import annotations

import jax
import numpy as np
import pytest

from se_resnet import training
from se_resnet.checkpoint import Checkpoints
from se_resnet.errors import UserError
from se_resnet.optim import Phase, make_optimizer
from se_resnet.recipe import Recipe
from tests.test_training import OFF, make_batch, start, tiny_classifier


def assert_equal(left, right) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), left, right
    )


@pytest.fixture(scope="module")
def trained() -> training.TrainState:
    classifier = tiny_classifier()
    step = training.make_train_step(classifier, Recipe(OFF, 0), Phase(make_optimizer(1e-2)))
    state, _ = step(start(classifier), make_batch())
    return state


def variables_of(state: training.TrainState) -> dict:
    return {"params": state.params, "batch_stats": state.batch_stats}


def test_the_latest_state_comes_back_whole(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    like = start(tiny_classifier(), seed=1)
    assert checkpoints.restore_latest(like) is None
    checkpoints.save_latest(1, trained, {"best_score": [0.5, -1.0]})
    later = trained.replace(step=trained.step + 4)
    checkpoints.save_latest(5, later, {"best_score": [0.75, -1.0]})
    state, facts = Checkpoints(tmp_path).restore_latest(like)
    assert_equal(state, later)
    assert facts == {"best_score": [0.75, -1.0]}
    assert [path.name for path in (tmp_path / "latest").iterdir() if path.is_dir()] == ["5"]


def test_the_best_weights_carry_their_classifier(tmp_path, trained):
    classifier = tiny_classifier(variant="v1.5", bn_epsilon=1e-5)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match="no checkpoint to evaluate"):
        checkpoints.best_facts()
    checkpoints.save_best(3, variables_of(trained), classifier.as_dict())
    restored = classifier.from_dict(checkpoints.best_facts())
    assert restored == classifier
    mesh = training.data_mesh()
    like = training.on_devices(restored.abstract_variables(), training.replicated(mesh))
    assert_equal(checkpoints.restore_best(like), variables_of(trained))


def test_work_done_again_may_save_the_same_step(tmp_path, trained):
    checkpoints = Checkpoints(tmp_path)
    for _ in range(2):
        checkpoints.save_best(3, variables_of(trained), {"size": [16, 16]})
    assert checkpoints.best_facts() == {"size": [16, 16]}


# TensorStore complains about what it could not read from a thread of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_named(tmp_path, trained, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(1, trained, {})
    for file in (tmp_path / "latest" / "1" / "tree").rglob("d/*"):
        file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="latest/1 cannot be read"):
        checkpoints.restore_latest(start(tiny_classifier()))
