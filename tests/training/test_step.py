from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from se_resnet.errors import UserError
from se_resnet.runtime.mesh import batch_sharding, data_mesh
from se_resnet.training.augment import Augmentation
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import TrainState, all_finite, make_train_step
from tests.helpers.batches import OFF, make_batch
from tests.helpers.networks import start, tiny_classifier


def test_the_step_learns():
    classifier = tiny_classifier()
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-2)))
    state = start(classifier)
    losses = []
    for _ in range(30):
        state, metrics = step(state, make_batch())
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(2), abs=1e-6), "the head starts at zero"
    assert losses[-1] < 0.1 and float(metrics["accuracy"]) == 1
    assert int(state.step) == 30


def test_the_step_is_adam_on_binary_cross_entropy():
    """One step equals the textbook formulas, written out."""
    classifier = tiny_classifier()
    state = start(classifier)
    batch = make_batch()
    batch["importance"] = np.linspace(0.5, 1.5, 16, dtype=np.float32)
    inputs = classifier.preprocessing(batch["image"])

    def loss_fn(params):
        logits, _ = classifier.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            inputs,
            train=True,
            mutable=["batch_stats"],
        )
        p = jax.nn.sigmoid(logits[:, 0])
        y = batch["label"]
        return jnp.mean(batch["importance"] * -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)))

    loss, gradient = jax.jit(jax.value_and_grad(loss_fn))(state.params)
    # Adam's first step moves each parameter by rate * g / (|g| + eps).
    expected = jax.tree.map(lambda p, g: p - 1e-4 * g / (jnp.abs(g) + 1e-8), state.params, gradient)
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-4)))
    after, metrics = step(start(classifier, Adam(1e-4)), batch)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    large = jax.tree.map(lambda g: np.abs(g) > 1e-6, gradient)
    for new, wanted, where in zip(
        *map(jax.tree.leaves, (after.params, expected, large)), strict=True
    ):
        np.testing.assert_allclose(
            np.asarray(new)[where], np.asarray(wanted)[where], rtol=0, atol=2e-6
        )


@pytest.mark.compiled
def test_importance_zero_silences_an_image():
    classifier = tiny_classifier()
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(optax.sgd(0.1)))
    loss_of = []
    for label in (0.0, 1.0):
        batch = make_batch()
        batch["importance"][3] = 0
        batch["label"][3] = label
        _, metrics = step(start(classifier, optax.sgd(0.1)), batch)
        loss_of.append(float(metrics["loss"]))
    assert loss_of[0] == loss_of[1]


@pytest.mark.compiled
def test_running_statistics_follow_the_batch():
    classifier = tiny_classifier()
    before = start(classifier)
    old = jax.tree.map(np.asarray, before.batch_stats)
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-2)))
    after, _ = step(before, make_batch())
    inputs = classifier.preprocessing(make_batch()["image"])
    _, stages = classifier.model.apply(
        {"params": start(classifier).params, "batch_stats": old},
        inputs,
        train=False,
        return_stages=True,
    )
    assert stages  # the stem's statistics are checked against a convolution by hand
    kernel = start(classifier).params["stem"]["conv"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        inputs, kernel, (2, 2), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean = convolved.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(
        after.batch_stats["stem"]["norm"]["mean"],
        0.9 * old["stem"]["norm"]["mean"] + 0.1 * mean,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.compiled
def test_augmentation_depends_on_seed_and_step_alone():
    classifier = tiny_classifier()
    augment = Augmentation(stain=0.5, brightness=0.3)

    def run(seed: int, steps: int) -> TrainState:
        step = make_train_step(classifier, Recipe(augment, seed), Phase(Adam(1e-2)))
        state = start(classifier)
        for number in range(steps):
            state, _ = step(state, make_batch(seed=number))
        return state

    first, second, other = run(0, 3), run(0, 3), run(1, 3)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), first, second)))
    assert not all(jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), first, other)))


@pytest.mark.compiled
def test_each_step_augments_anew():
    """A learning rate of almost nothing: only the augmentation moves the loss."""
    classifier = tiny_classifier()
    augment = Augmentation(brightness=0.5)
    step = make_train_step(classifier, Recipe(augment, 0), Phase(optax.sgd(1e-12)))
    state = start(classifier, optax.sgd(1e-12))
    state = state.replace(
        params={**state.params, "head": {"kernel": jnp.ones((32, 1)), "bias": jnp.zeros(1)}}
    )
    losses = []
    for _ in range(3):
        state, metrics = step(state, make_batch())
        losses.append(float(metrics["loss"]))
    assert len(set(losses)) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_value_that_is_not_finite_is_found(value):
    tree = {"a": jnp.full((3, 4), -1e30), "b": (jnp.zeros(2), jnp.array(5)), "c": jnp.ones(())}
    assert bool(all_finite(tree))
    for row in range(2):
        broken = {**tree, "b": (tree["b"][0].at[row].set(value), tree["b"][1])}
        assert not bool(all_finite(broken))
    assert not bool(all_finite({**tree, "c": jnp.asarray(value)}))


def test_the_state_is_donated():
    classifier = tiny_classifier()
    step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-2)))
    state = start(classifier)
    step(state, make_batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def run_with_four_devices(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )


@pytest.mark.compiled
def test_a_sharded_batch_gives_the_gradient_of_the_whole_batch():
    """The same step on one and on four devices, in a process that has four."""
    code = """
    import jax, numpy as np
    from jax.sharding import Mesh
    from se_resnet.runtime.mesh import batch_sharding, replicated
    from se_resnet.training.optim import Phase, Adam
    from se_resnet.training.recipe import Recipe
    from se_resnet.training.step import make_train_step
    from tests.helpers.networks import start, tiny_classifier
    from tests.helpers.batches import OFF, make_batch
    states = []
    for count in (1, 4):
        mesh = Mesh(np.array(jax.devices()[:count]), ("data",))
        classifier = tiny_classifier()
        step = make_train_step(classifier, Recipe(OFF, 0), Phase(Adam(1e-2)))
        state = jax.device_put(start(classifier), replicated(mesh))
        for number in range(3):
            batch = jax.device_put(make_batch(seed=number), batch_sharding(mesh, 16))
            assert len(batch["image"].sharding.device_set) == count
            state, metrics = step(state, batch)
        states.append(jax.tree.map(np.asarray, state.replace(opt_state=None)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *states)
    print("equal")
    """
    result = run_with_four_devices(code)
    assert result.stdout == "equal\n", result.stderr


@pytest.mark.compiled
def test_devices_exchange_sums_and_no_images():
    """Winograd's tiles too stay on the device of their image."""
    code = """
    import re
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh
    from se_resnet.models import winograd
    from se_resnet.runtime.mesh import batch_sharding, replicated
    mesh = Mesh(np.array(jax.devices()), ("data",))
    images = jax.device_put(np.ones((8, 12, 12, 64), np.float32), batch_sharding(mesh, 8))
    kernel = jax.device_put(np.ones((3, 3, 64, 64), np.float32), replicated(mesh))
    loss = lambda images, kernel: jnp.square(winograd.convolve(images, kernel)).sum()
    program = jax.jit(jax.grad(loss, (0, 1))).lower(images, kernel).compile().as_text()
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    print(*{*re.findall(f" ({kinds})(?:-start)?[(]", program)})
    """
    result = run_with_four_devices(code)
    assert result.stdout == "all-reduce\n", result.stderr


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="cannot be divided over 1 devices"):
        batch_sharding(data_mesh(), 0)


@pytest.mark.compiled
def test_the_package_works_where_tensorflow_is_blocked():
    code = """
    import importlib, pathlib, pkgutil, sys
    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "data"):
                raise ImportError(f"{name} is blocked")
    sys.meta_path.insert(0, Block())
    import se_resnet
    for module in pkgutil.walk_packages(se_resnet.__path__, "se_resnet."):
        # Commands run when they are imported, 'export' is TensorFlow's, 'app' has its own extra.
        parts = module.name.split(".")
        if parts[1] not in ("app", "export") and parts[-1] != "__main__":
            importlib.import_module(module.name)
    import jax, numpy as np
    from se_resnet.models import resnet
    from se_resnet.training.step import TrainState, make_train_step
    from se_resnet.weights import pretrained
    from se_resnet.training.augment import Augmentation
    from se_resnet.models.classifier import Classifier
    from se_resnet.training.optim import Phase, Adam
    from se_resnet.training.recipe import Recipe
    weights = pretrained.load("none")
    model = resnet.create_model(stage_sizes=(1, 1), width=4)
    classifier = Classifier(model, weights.preprocessing, (16, 16), "squash")
    optimizer = Adam(1e-3)
    variables = pretrained.initial_variables(model, weights, jax.random.key(0), (16, 16))
    step = make_train_step(classifier, Recipe(Augmentation(), 0), Phase(optimizer))
    batch = {"image": np.zeros((4, 16, 16, 3), np.uint8), "label": np.ones(4, np.float32),
             "importance": np.ones(4, np.float32)}
    state, metrics = step(TrainState.create(variables, [Phase(optimizer)]), batch)
    assert np.isfinite(metrics["loss"]) and int(state.step) == 1
    assert "tensorflow" not in sys.modules and "data" not in sys.modules
    print("trained")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert result.stdout == "trained\n", result.stderr
