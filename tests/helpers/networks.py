"""Tiny networks, and values for their variables."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet import attention
from se_resnet.models import resnet
from se_resnet.models.classifier import Classifier
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.step import TrainState
from se_resnet.weights import pretrained

WEIGHTS = pretrained.load("none")


def shapes_of(model):
    return jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 64, 64, 3)), train=False), jax.random.key(0)
    )


def randomised(model, seed=0):
    """The model's variables with every value random: no zero head, no gate that is exactly 1."""
    shapes, rng = shapes_of(model), np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("var", "scale"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = math.sqrt(2 / math.prod(leaf.shape[:-1])) if name == "kernel" else 0.1
        return rng.normal(0, spread, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def options_of(name, **values):
    """Those of the values that the module takes."""
    known = {field.name for field in dataclasses.fields(attention.REGISTRY[name])}
    return {key: value for key, value in values.items() if key in known}


def tiny_classifier(**changes) -> Classifier:
    options = {"stage_sizes": (1, 1), "width": 4, "bn_epsilon": WEIGHTS.bn_epsilon} | changes
    return Classifier(resnet.create_model(**options), WEIGHTS.preprocessing, (16, 16), "squash")


def start(classifier: Classifier, optimizer=None, seed: int = 0) -> TrainState:
    variables = pretrained.initial_variables(
        classifier.model, WEIGHTS, jax.random.key(seed), classifier.size
    )
    return TrainState.create(variables, [Phase(optimizer or Adam(1e-2))])
