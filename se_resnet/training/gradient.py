"""The gradient of the loss on a batch, and its sum over the parts of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from se_resnet.models.classifier import Classifier
from se_resnet.models.layers import BatchNorm
from se_resnet.training.optim import Phase, merge
from se_resnet.training.recipe import Recipe

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class Gradient:
    """The results of a forward and a backward pass.

    Attributes:
        of_params: gradient of the loss by the trained parameters.
        batch_stats: running means and variances after the pass.
        metrics: ``{'loss', 'accuracy'}``, ``float32 []``.
    """

    of_params: Any
    batch_stats: Any
    metrics: Metrics


def prepare(
    classifier: Classifier, recipe: Recipe, step: jax.Array, batch: Batch
) -> tuple[Batch, jax.Array]:
    """Returns the augmented, mixed and normalised batch, and the random key of its gradient."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), step)
    images = recipe.augment(key, batch["image"].astype(jnp.float32))
    mixed = recipe.mixing(jax.random.fold_in(key, 1), {**batch, "image": images})
    return {**mixed, "image": classifier.preprocessing(mixed["image"])}, jax.random.fold_in(key, 2)


def gradient(
    classifier: Classifier,
    recipe: Recipe,
    phase: Phase,
    params: Mapping,
    batch_stats: Mapping,
    batch: Batch,
    key: jax.Array,
) -> Gradient:
    """Returns the gradient of a prepared batch by the parameters that the phase trains."""
    trained, frozen = phase.split(params)

    def loss_fn(trained: Mapping) -> tuple[jax.Array, tuple[Any, Metrics]]:
        with nn.intercept_methods(_fix_statistics(recipe, phase)):
            logits, updates = classifier.model.apply(
                {"params": merge(trained, frozen), "batch_stats": batch_stats},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
        losses = recipe.loss(logits[:, 0], batch["label"])
        accuracy = jnp.mean((logits[:, 0] > 0) == (batch["label"] > 0.5))
        loss = jnp.mean(batch["importance"] * losses)
        return loss, (updates["batch_stats"], {"loss": loss, "accuracy": accuracy})

    of_params, (batch_stats, metrics) = jax.grad(loss_fn, has_aux=True)(trained)
    return Gradient(of_params, batch_stats, metrics)


def divide(recipe: Recipe, batch: Batch, key: jax.Array) -> tuple[Batch, jax.Array]:
    """Returns the parts of a prepared batch and their random keys, along a new first axis."""
    parts = recipe.accumulate
    # Part i is every parts-th image from i on, so that each device keeps its own images.
    batches = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    return batches, jax.random.split(key, parts)


def start(phase: Phase, params: Mapping, batch_stats: Mapping) -> Gradient:
    """Returns the sum over no part, in memory of its own."""
    trained, _ = phase.split(params)
    zeros = jax.tree.map(jnp.zeros_like, trained)
    metrics = {"loss": jnp.zeros(()), "accuracy": jnp.zeros(())}
    return Gradient(zeros, jax.tree.map(jnp.copy, batch_stats), metrics)


def add(
    classifier: Classifier,
    recipe: Recipe,
    phase: Phase,
    params: Mapping,
    total: Gradient,
    part: Batch,
    key: jax.Array,
) -> Gradient:
    """Adds gradient and metrics of a part. It takes over the running statistics of the sum."""
    found = gradient(classifier, recipe, phase, params, total.batch_stats, part, key)
    of_params, metrics = jax.tree.map(
        jnp.add, (total.of_params, total.metrics), (found.of_params, found.metrics)
    )
    return Gradient(of_params, found.batch_stats, metrics)


def mean(recipe: Recipe, total: Gradient) -> Gradient:
    """Returns the means of gradients and metrics over the parts."""
    of_params, metrics = jax.tree.map(
        lambda leaf: leaf / recipe.accumulate, (total.of_params, total.metrics)
    )
    return Gradient(of_params, total.batch_stats, metrics)


def _fix_statistics(recipe: Recipe, phase: Phase) -> Callable:
    """For ``nn.intercept_methods``: lets normalisations use and keep their running statistics."""

    def intercept(call, args, kwargs, context):
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "coefficients":
            path = "/".join(module.path)
            if recipe.fixed_statistics or phase.frozen >= {f"{path}/scale", f"{path}/bias"}:
                x, _ = args
                return call(x, False)
        return call(*args, **kwargs)

    return intercept
