"""The last stage of the network as a network of its own, on features of the frozen stages before.

The frozen stages compute the same features for an image in every step, so that the features of all
images are computed once. :func:`make_frozen` computes them, :class:`LastStage` is the rest of the
network, and :func:`last_variables` has its variables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from se_resnet.models.folding import fold
from se_resnet.models.layers import global_average_pool
from se_resnet.models.precision import full_float32
from se_resnet.models.resnet import ResNet, Stage, create_model
from se_resnet.runtime.batches import batches
from se_resnet.weights.initialise import initial_variables
from se_resnet.weights.record import Pretrained

BATCH = 32  # images or features in one call of a forward pass


class LastStage(nn.Module):
    """The last stage and the head of ``model``. Parameters have the paths of the whole network."""

    model: ResNet

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        """Maps the output of the stage before, ``[B, H, W, C]``, to logits ``[B, num_outputs]``."""
        model = self.model
        x = Stage(
            blocks=model.stage_sizes[-1],
            width=model.width * 2 ** (len(model.stage_sizes) - 1),
            stride=2,
            variant=model.variant,
            bn_epsilon=model.bn_epsilon,
            attention=model.attention,
            attention_position=model.attention_position,
            attention_options=model.attention_options,
            formulation=model.formulation,
            name=model.stage_names[-1],
        )(features.astype(model.dtype), train)
        return nn.Dense(model.num_outputs, name="head")(global_average_pool(x))


@dataclasses.dataclass(frozen=True)
class LastClassifier:
    """Stands for :class:`se_resnet.models.classifier.Classifier` in a training step.

    Attributes:
        model: the trained part of the network.
    """

    model: LastStage

    @staticmethod
    def preprocessing(features: jax.Array) -> jax.Array:
        """Returns the features: pixels were preprocessed before the frozen stages."""
        return features


def make_model(weights: Pretrained, attention: str, architecture: Mapping[str, Any]) -> ResNet:
    """Returns the whole network for these weights.

    Args:
        weights: the weights that will fill the network.
        attention: name of the attention module.
        architecture: ``stage_sizes`` and ``width``.
    """
    return create_model(
        attention=attention,
        variant=weights.variant,
        bn_epsilon=weights.bn_epsilon,
        **architecture,
    )


def last_variables(
    model: ResNet, weights: Pretrained, key: jax.Array, size: tuple[int, int]
) -> dict[str, Any]:
    """Returns the variables of ``LastStage(model)`` before the training.

    They are those of the whole network, see
    :func:`se_resnet.weights.initialise.initial_variables`.
    """
    whole = initial_variables(model, weights, key, size)
    names = (model.stage_names[-1], "head")
    return {
        collection: {name: variables[name] for name in names if name in variables}
        for collection, variables in whole.items()
    }


def make_frozen(
    model: ResNet,
    variables: Mapping[str, Any],
    weights: Pretrained,
    size: tuple[int, int],
    dtype: Any = jnp.float16,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the forward pass of all stages before the last, in evaluation mode.

    Args:
        model: the whole network, without attention.
        variables: its variables.
        weights: their preprocessing.
        size: height and width of the images.
        dtype: of the features.

    Returns:
        A function from pixels ``uint8 [B, H, W, 3]`` to the output of the last frozen stage,
        ``[B, h, w, C]``.
    """
    folded = jax.jit(full_float32(lambda variables: fold(model, variables, size)))(variables)

    @jax.jit
    @full_float32
    def forward(folded: Mapping[str, Any], images: jax.Array) -> jax.Array:
        inputs = weights.preprocessing(images)
        _, stages = model.apply(folded, inputs, train=False, return_stages=True)
        return stages[model.stage_names[-2]].astype(dtype)

    def frozen(images: np.ndarray) -> np.ndarray:
        parts = []
        for positions, mask in batches(len(images), BATCH):
            parts.append(np.asarray(forward(folded, images[positions]))[mask])
        return np.concatenate(parts)

    return frozen


def make_predict(part: LastStage) -> Callable[[Mapping[str, Any], np.ndarray], np.ndarray]:
    """Returns a function from variables and features ``[M, h, w, C]`` to logits ``float64 [M]``."""

    @jax.jit
    @full_float32
    def forward(variables: Mapping[str, Any], features: jax.Array) -> jax.Array:
        return part.apply(variables, features, train=False)[:, 0]

    def predict(variables: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
        parts = []
        for positions, mask in batches(len(features), BATCH):
            parts.append(np.asarray(forward(variables, features[positions]))[mask])
        return np.concatenate(parts).astype(np.float64)

    return predict
