"""Folds, seeds and learning rates share compiled programs."""

from __future__ import annotations

import dataclasses
import logging

import jax
import pytest

import train
from se_resnet.training.augment import Augmentation
from se_resnet.training.losses import Loss
from se_resnet.training.mixup import Mixing
from se_resnet.training.optim import Adam, Phase, Schedule
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import make_train_step
from tests.helpers.batches import OFF, make_batch
from tests.helpers.configs import tiny_config
from tests.helpers.interruption import skip_evaluation
from tests.helpers.networks import start, tiny_classifier
from tests.helpers.programs import forget_programs


@pytest.fixture
def compiled(caplog):
    """Returns the names of the programs that were compiled so far, of none at first."""
    forget_programs()
    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        yield lambda: [
            record.getMessage().split("(")[1].split(")")[0]
            for record in caplog.records
            if record.getMessage().startswith("Compiling jit(")
        ]


@pytest.mark.parametrize(("placement", "name"), [("host", "step"), ("device", "steps")])
def test_the_folds_of_a_cross_validation_share_a_program_of_each_phase(
    placement, name, place, tmp_path, monkeypatch, compiled
):
    skip_evaluation(monkeypatch)
    monkeypatch.setattr("se_resnet.models.classifier._PARTS", 1)  # on any number of cores
    config = tiny_config(*place)
    config.split.folds, config.split.fold = 2, "all"
    config.epochs, config.optim.head_epochs, config.optim.warmup_epochs = 2, 1, 0.5
    config.optim.schedule = "cosine"
    config.data.placement = placement
    train.train_and_evaluate(config, tmp_path / "run")
    names = compiled()
    # A prediction is compiled for validation batches and for the single images of the reference.
    assert names.count(name) == 2 and names.count("forward") == 2


SCHEDULE = Schedule("cosine", 1e-2, 10.0, 2.0)
ON = Recipe(
    Augmentation(translate=0.1, zoom=0.1, stain=0.1, brightness=0.1, contrast=0.1),
    seed=0,
    loss=Loss(0.1, 1.0),
    mixing=Mixing(0.2, 0.3),
    ema_decay=0.9,
)
OTHER = Recipe(
    Augmentation(translate=0.2, zoom=0.2, stain=0.2, brightness=0.2, contrast=0.2),
    seed=2**32 - 1,
    loss=Loss(0.2, 2.0),
    mixing=Mixing(0.4, 0.5),
    ema_decay=0.99,
)


def lowered(recipe, optimizer):
    """Returns the text of the program of a step."""
    classifier = tiny_classifier()
    state = start(classifier, optimizer)
    state = dataclasses.replace(state, average=state.variables)
    step = make_train_step(classifier, recipe, Phase(optimizer))
    return step.lower(state, make_batch()).as_text()


def test_the_numbers_of_a_recipe_are_arguments():
    adam = Adam(SCHEDULE, weight_decay=0.1, clip_norm=1.0)
    other = Adam(Schedule("cosine", 1e-3, 20.0, 4.0), weight_decay=0.2, clip_norm=2.0)
    assert lowered(ON, adam) == lowered(OTHER, other)


@pytest.mark.parametrize(
    "change", [{"augment": OFF}, {"loss": Loss()}, {"mixing": Mixing()}, {"ema_decay": 0.0}]
)
def test_what_is_switched_off_is_another_program(change):
    off = dataclasses.replace(ON, **change)
    assert jax.tree.structure(off) != jax.tree.structure(ON) == jax.tree.structure(OTHER)


def test_the_largest_seed_of_a_recipe_is_its_random_key():
    leaves, structure = jax.tree.flatten(OTHER)
    seed = jax.jit(lambda recipe: jax.random.key_data(jax.random.key(recipe.seed)))(OTHER)
    assert (seed == jax.random.key_data(jax.random.key(2**32 - 1))).all()
    assert jax.tree.unflatten(structure, leaves) == OTHER
