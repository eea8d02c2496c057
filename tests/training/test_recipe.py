"""The training step of a tiny network does what each field of the recipe says."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from configs import smoke
from se_resnet.models import resnet
from se_resnet.models.classifier import Classifier
from se_resnet.training.config import make_augmentation, make_recipe
from se_resnet.training.losses import Loss
from se_resnet.training.lr_multipliers import multipliers, parse_rules
from se_resnet.training.mixup import Mixing
from se_resnet.training.optim import Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import TrainState, make_train_step, make_train_steps
from se_resnet.weights import pretrained
from tests.helpers.batches import OFF, make_batch
from tests.helpers.marks import compiled
from tests.helpers.networks import WEIGHTS

pytestmark = pytest.mark.compiled

HEAD_ALONE = "(?!head).*=0 head=1"
RECIPE = Recipe(OFF, seed=0)


def tiny_classifier(stage_sizes=(1,), **changes) -> Classifier:
    """Little to compile."""
    options = {"stage_sizes": stage_sizes, "width": 4, "attention": "none", "formulation": "plain"}
    model = resnet.create_model(bn_epsilon=WEIGHTS.bn_epsilon, **(options | changes))
    return Classifier(model, WEIGHTS.preprocessing, (16, 16), "squash")


@functools.cache
def initial(classifier: Classifier) -> Any:
    """With a head that is not zero, so that every parameter has a gradient."""
    key = jax.random.key(0)
    variables = pretrained.initial_variables(classifier.model, WEIGHTS, key, classifier.size)
    kernel = jax.random.normal(key, variables["params"]["head"]["kernel"].shape)
    variables["params"]["head"]["kernel"] = kernel
    return jax.tree.map(np.asarray, variables)


def phase_of(rules: str = "", optimizer=None) -> Phase:
    found = multipliers(parse_rules(rules), initial(tiny_classifier())["params"])
    frozen = frozenset(path for path, multiplier in found.items() if multiplier == 0)
    return Phase(optimizer or optax.sgd(0.1), frozen)


@functools.cache
def run(recipe: Recipe = RECIPE, rules: str = "", dropout: float = 0.0, steps: int = 1):
    """The state after some steps, on the host, and each step's loss."""
    classifier, phase = tiny_classifier(dropout=dropout), phase_of(rules)
    state = TrainState.create(
        jax.tree.map(jnp.asarray, initial(tiny_classifier())), [phase], recipe.ema_decay > 0
    )
    step = make_train_step(classifier, recipe, phase)
    losses, states = [], []
    for _ in range(steps):
        batch = make_batch()
        batch["importance"] = np.linspace(0.5, 1.5, 16, dtype=np.float32)
        state, metrics = step(state, batch)
        states.append(jax.tree.map(np.asarray, state))
        losses.append(float(metrics["loss"]))
    return states, losses


def changed(before, after) -> set[str]:
    before, after = (flatten_dict(tree, sep="/") for tree in (before, after))
    return {path for path in before if (np.asarray(before[path]) != after[path]).any()}


def largest_difference(left, right) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), left, right)))


def test_frozen_parts_keep_their_values_and_have_no_moments():
    begin = initial(tiny_classifier())
    (after,), _ = run(rules=HEAD_ALONE)
    assert changed(begin["params"], after.params) == {"head/kernel", "head/bias"}
    assert not changed(begin["batch_stats"], after.batch_stats)
    (everything,), _ = run()
    assert changed(begin["params"], everything.params) == set(
        flatten_dict(begin["params"], sep="/")
    )
    assert len(changed(begin["batch_stats"], everything.batch_stats)) == 10
    adam = phase_of(HEAD_ALONE, optax.adam(0.1))
    state = TrainState.create(begin, [adam])
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) == 1 + 2 * 17


def test_a_frozen_normalisation_alone_keeps_its_statistics():
    begin = initial(tiny_classifier())
    (after,), _ = run(rules="stem=0 stage1|head=1")
    moved = changed(begin["batch_stats"], after.batch_stats)
    assert len(moved) == 8 and not any(path.startswith("stem") for path in moved)
    # Both use the running statistics: with all frozen, the step's loss is that of evaluation.
    _, (loss,) = run(rules=HEAD_ALONE)
    classifier, batch = tiny_classifier(), make_batch()
    inputs = classifier.preprocessing(batch["image"])
    logits = classifier.model.apply(begin, inputs, train=False)[:, 0]
    losses = optax.sigmoid_binary_cross_entropy(logits, batch["label"])
    assert loss == pytest.approx(float((np.linspace(0.5, 1.5, 16) * losses).mean()), rel=1e-5)


def test_fixed_statistics_are_used_and_kept_while_scales_train():
    begin = initial(tiny_classifier())
    (after,), (loss,) = run(dataclasses.replace(RECIPE, fixed_statistics=True))
    assert not changed(begin["batch_stats"], after.batch_stats)
    assert {"stem/norm/scale", "stem/norm/bias"} <= changed(begin["params"], after.params)
    assert loss == pytest.approx(run(rules=HEAD_ALONE)[1][0], rel=1e-5)
    assert loss != pytest.approx(run()[1][0], rel=1e-3)


def test_no_gradient_is_computed_below_the_lowest_trained_part():
    """In operations of the whole step: a backward pass takes twice those of the forward pass."""
    classifier = tiny_classifier(stage_sizes=(1, 1, 1), attention="se")
    variables = jax.eval_shape(
        lambda: classifier.model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    )
    spent = []
    for rules in (
        "",
        "stem=0 stage.|head=1",
        "stem|stage[12]=0 stage3|head=1",
        HEAD_ALONE,
    ):
        found = multipliers(parse_rules(rules), variables["params"])
        phase = Phase(optax.sgd(0.1), frozenset(path for path, m in found.items() if m == 0))
        state = jax.eval_shape(lambda v, p=phase: TrainState.create(v, [p]), variables)
        batch = make_batch()
        lowered = make_train_step(classifier, RECIPE, phase).lower(state, batch)
        spent.append(lowered.cost_analysis()["flops"])
    forward = 16 * resnet.flops(classifier.model, classifier.size)
    assert spent[0] > 2.2 * forward
    assert spent[0] > 1.15 * spent[1] and spent[1] > 1.15 * spent[2]
    assert spent[3] < 1.3 * forward


def test_the_parts_of_a_batch_give_the_gradient_of_the_whole():
    """With fixed statistics nothing but rounding tells them apart."""
    fixed = dataclasses.replace(RECIPE, fixed_statistics=True)
    (whole,), (loss,) = run(fixed)
    (parts,), (of_parts,) = run(dataclasses.replace(fixed, accumulate=4))
    assert largest_difference(whole.params, parts.params) < 1e-5
    assert of_parts == pytest.approx(loss, rel=1e-5) and int(parts.step) == 1


def test_programs_of_parts_do_what_the_loop_over_parts_does():
    """A program of many steps has the loop; statistics, dropout and mixing differ by part."""
    recipe = dataclasses.replace(RECIPE, mixing=Mixing(mixup=0.4), accumulate=4)
    classifier, phase = tiny_classifier(dropout=0.5), phase_of()
    batches = [make_batch(seed=seed) for seed in (0, 1)]

    def begin():
        return TrainState.create(jax.tree.map(jnp.asarray, initial(tiny_classifier())), [phase])

    state, losses = begin(), []
    step = make_train_step(classifier, recipe, phase)
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    data = jax.tree.map(lambda *values: jnp.stack(values), *batches)
    steps = make_train_steps(
        classifier, recipe, phase, lambda data, rows: jax.tree.map(lambda x: x[rows[0]], data)
    )
    looped, metrics = steps(data, begin(), jnp.array([[0], [1]]), jnp.int32(2))
    assert largest_difference(looped.params, state.params) < 1e-5
    assert largest_difference(looped.batch_stats, state.batch_stats) < 1e-5
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-4)
    assert int(state.step) == 2


def test_a_step_in_parts_takes_over_the_memory_of_its_state():
    step = make_train_step(
        tiny_classifier(), dataclasses.replace(RECIPE, accumulate=2), phase := phase_of()
    )
    state = TrainState.create(jax.tree.map(jnp.asarray, initial(tiny_classifier())), [phase])
    step(state, make_batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_each_part_of_a_batch_has_statistics_of_its_own():
    begin = initial(tiny_classifier())
    inputs = tiny_classifier().preprocessing(make_batch()["image"])
    kernel = begin["params"]["stem"]["conv"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        inputs, kernel, (2, 2), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    (after,), _ = run(dataclasses.replace(RECIPE, accumulate=4))
    expected = begin["batch_stats"]["stem"]["norm"]["mean"]
    for part in range(4):
        expected = 0.9 * expected + 0.1 * convolved[part::4].mean((0, 1, 2))
    np.testing.assert_allclose(after.batch_stats["stem"]["norm"]["mean"], expected, rtol=1e-4)


def test_weights_and_statistics_are_averaged():
    states, _ = run(dataclasses.replace(RECIPE, ema_decay=0.2), steps=3)
    plain, _ = run(steps=3)
    average = initial(tiny_classifier())
    for t, (state, without) in enumerate(zip(states, plain, strict=True)):
        assert largest_difference(state.params, without.params) < 1e-6, "it trains as before"
        decay = min(0.2, (1 + t) / (10 + t))
        now = {"params": state.params, "batch_stats": state.batch_stats}
        average = jax.tree.map(lambda a, v, d=decay: d * a + (1 - d) * v, average, now)
        assert largest_difference(state.average, average) < 1e-5
        assert state.variables is state.average
    assert without.average is None and without.variables["params"] is without.params
    assert largest_difference(state.average["params"], state.params) > 1e-3


def test_the_average_of_what_is_frozen_is_exactly_itself():
    begin = initial(tiny_classifier())
    states, _ = run(dataclasses.replace(RECIPE, ema_decay=0.9), rules=HEAD_ALONE, steps=3)
    average = states[-1].average
    assert changed(begin["params"], average["params"]) == {"head/kernel", "head/bias"}
    assert not changed(begin["batch_stats"], average["batch_stats"])


@pytest.mark.parametrize(
    "recipe",
    [
        dataclasses.replace(RECIPE, loss=Loss(label_smoothing=0.2)),
        compiled(dataclasses.replace(RECIPE, loss=Loss(focal_gamma=2.0))),
        dataclasses.replace(RECIPE, mixing=Mixing(mixup=1.0)),
        compiled(dataclasses.replace(RECIPE, mixing=Mixing(cutmix=1.0))),
    ],
    ids=["label_smoothing", "focal_gamma", "mixup", "cutmix"],
)
def test_loss_and_mixing_reach_the_step(recipe):
    assert run(recipe)[1] != pytest.approx(run()[1], rel=1e-3)


@pytest.mark.compiled
def test_dropout_and_mixing_are_drawn_anew_by_seed_and_step():
    """The head alone learns almost nothing: only what is drawn moves the loss."""
    mixed = dataclasses.replace(RECIPE, mixing=Mixing(mixup=1.0))
    for recipe, dropout in ((RECIPE, 0.5), (mixed, 0.0)):
        classifier, phase = tiny_classifier(dropout=dropout), phase_of(HEAD_ALONE, optax.sgd(1e-12))
        losses = []
        for seed in (0, 0, 1):
            step = make_train_step(classifier, dataclasses.replace(recipe, seed=seed), phase)
            variables = jax.tree.map(jnp.asarray, initial(tiny_classifier()))
            state = TrainState.create(variables, [phase])
            for _ in range(2):
                state, metrics = step(state, make_batch())
                losses.append(float(metrics["loss"]))
        assert losses[:2] == losses[2:4] and len(set(losses)) == 4


def test_an_evaluated_network_drops_nothing():
    begin, inputs = initial(tiny_classifier()), np.ones((2, 16, 16, 3), np.float32)
    dropping, plain = (
        tiny_classifier(dropout=rate).model.apply(begin, inputs, train=False) for rate in (0.5, 0)
    )
    np.testing.assert_array_equal(dropping, plain)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augment.mixup", 0.5),
        ("augment.cutmix", 0.5),
        ("loss.label_smoothing", 0.5),
        ("loss.focal_gamma", 0.5),
        ("model.batch_norm", "frozen"),
        ("optim.accumulate", 2),
        ("optim.ema_decay", 0.5),
        ("seed", 1),
    ],
)
def test_every_field_reaches_the_recipe(field, value):
    config = smoke.get_config()
    default = make_recipe(config, make_augmentation(config))
    config.update_from_flattened_dict({field: value})
    assert make_recipe(config, make_augmentation(config)) != default
