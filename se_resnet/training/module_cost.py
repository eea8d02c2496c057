"""Measures the cost of attention modules: parameters, operations, time of a training step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from se_resnet.attention import NONE
from se_resnet.models import resnet
from se_resnet.models.classifier import Classifier
from se_resnet.training.augment import Augmentation
from se_resnet.training.optim import Adam, Phase
from se_resnet.training.recipe import Recipe
from se_resnet.training.step import TrainState, make_train_step
from se_resnet.weights import pretrained

RESNET50 = (3, 4, 6, 3)
TIMED = (1, 1, 1, 1)  # the whole network would take four times as long to compile
COUNTED_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost that a module adds to a network without attention.

    Attributes:
        module: name of the module.
        parameters: number of added parameters.
        flops: added floating-point operations of the forward pass of one image.
        seconds: median time of a training step with the module.
        ratio: median over the rounds of the ratio of this time to the time without attention.
    """

    module: str
    parameters: int
    flops: float
    seconds: float
    ratio: float


def measure(
    modules: Sequence[str],
    *,
    size: int,
    batch: int,
    rounds: int,
    width: int = 64,
    counted_size: int = COUNTED_SIZE,
    stage_sizes: tuple[int, ...] = RESNET50,
    timed_stage_sizes: tuple[int, ...] = TIMED,
) -> list[Cost]:
    """Measures modules in every residual branch, at their default options.

    In each round every network takes one training step, one after another, without augmentation.
    Other load of the machine then affects all networks alike.

    Args:
        modules: names as in ``config.model.attention``; ``'none'`` is added as the first.
        size: side of the images of a training step in pixels.
        batch: images in a training step.
        rounds: number of timed steps of each network, after a first step that compiles.
        width: channels of the stem of both networks.
        counted_size: side of the image whose operations are counted.
        stage_sizes: bottlenecks of the network whose parameters and operations are counted.
        timed_stage_sizes: bottlenecks of the network whose steps are timed.

    Returns:
        A row for ``'none'`` and one for each module, in the order given.

    Raises:
        UserError: a module is unknown or returns another shape.
    """
    names = list(dict.fromkeys([NONE, *modules]))
    counted = [_count(name, counted_size, width, stage_sizes) for name in names]
    steps = [_make_step(name, size, batch, width, timed_stage_sizes) for name in names]
    seconds = np.array([[step() for step in steps] for _ in range(rounds)])
    return [
        Cost(
            name,
            parameters - counted[0][0],
            flops - counted[0][1],
            float(np.median(seconds[:, i])),
            float(np.median(seconds[:, i] / seconds[:, 0])),
        )
        for i, (name, (parameters, flops)) in enumerate(zip(names, counted, strict=True))
    ]


def _model(name: str, width: int, stage_sizes: tuple[int, ...]) -> resnet.ResNet:
    return resnet.create_model(attention=name, width=width, stage_sizes=stage_sizes)


def _count(name: str, size: int, width: int, stage_sizes: tuple[int, ...]) -> tuple[int, float]:
    model = _model(name, width, stage_sizes)
    classifier = Classifier(model, pretrained.load("none").preprocessing, (size, size), "squash")
    params = classifier.abstract_variables().get("params")
    return resnet.count_parameters(params), resnet.flops(model, (size, size))


def _make_step(
    name: str, size: int, batch: int, width: int, stage_sizes: tuple[int, ...]
) -> Callable[[], float]:
    """Returns a function that runs a training step and returns its seconds; already compiled."""
    weights = pretrained.load("none")
    model = _model(name, width, stage_sizes)
    classifier = Classifier(model, weights.preprocessing, (size, size), "squash")
    phase, recipe = Phase(Adam(1e-4)), Recipe(Augmentation(False, False), seed=0)
    variables = pretrained.initial_variables(model, weights, jax.random.key(0), (size, size))
    state = TrainState.create(variables, [phase])
    train = make_train_step(classifier, recipe, phase)
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    label = np.arange(batch, dtype=np.float32) % 2
    data = jax.device_put({"image": images, "label": label, "importance": np.ones_like(label)})

    def step() -> float:
        nonlocal state
        start = time.perf_counter()
        state, metrics = train(state, data)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    step()
    return step
