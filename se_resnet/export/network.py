"""The exported function, from pixels to probabilities, with weights and decision inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from se_resnet.models.folding import fold
from se_resnet.models.precision import full_float32
from se_resnet.runs.workdir import Run

# The threshold of a run applies to the first; the second is for display.
OUTPUTS = ("probability", "calibrated_probability")
_STEM = "stem/conv/kernel"  # [height, width, input channels, output channels]


def in_float32(run: Run) -> Run:
    """Returns the run with computation in float32, which every runtime supports."""
    classifier = run.classifier
    model = classifier.model.clone(dtype="float32")
    return dataclasses.replace(run, classifier=dataclasses.replace(classifier, model=model))


def inference(run: Run) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """Returns the function to export; the weights are constants in it.

    The function uses XLA's plain operations, which every runtime supports. Batch normalisations
    are folded into the convolutions. Of an ensemble it holds all networks, one after another.

    Args:
        run: a run in float32.

    Returns:
        A function of RGB images ``uint8 [B, H, W, 3]`` of the network's size, for any B. Its result
        is a dict of :data:`OUTPUTS`, float32 ``[B]`` each: the network's probability of malignant,
        and the same after temperature scaling.
    """
    classifier = run.classifier
    model = classifier.model.clone(formulation="plain")

    @jax.jit
    @full_float32
    def fold_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
        return fold(model, variables, classifier.size)

    members = [jax.tree.map(np.asarray, fold_variables(member)) for member in run.members]
    preprocessing = classifier.preprocessing
    if preprocessing.channel_order == "BGR":
        members = [_reorder_to_rgb(member) for member in members]
        preprocessing = dataclasses.replace(
            preprocessing,
            channel_order="RGB",
            mean=preprocessing.mean[::-1],
            std=preprocessing.std[::-1],
        )

    @full_float32
    def apply(images: jax.Array) -> dict[str, jax.Array]:
        inputs = preprocessing(images)
        by_member: list[Any] = [model.apply(member, inputs, train=False) for member in members]
        logits = sum(by_member[1:], by_member[0])
        if len(members) > 1:
            logits /= len(members)
        # Scaled as a column: OpenCV 4 applies the first number of a row to all images.
        columns = logits, logits / run.decision.temperature
        probabilities = [jnp.squeeze(jax.nn.sigmoid(column), -1) for column in columns]
        return dict(zip(OUTPUTS, probabilities, strict=True))

    return apply


def _reorder_to_rgb(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the same network with the inputs of its first convolution in reverse order.

    Then no operation reverses channels, which several runtimes cannot do.
    """
    params = flatten_dict(variables["params"], sep="/")
    params[_STEM] = params[_STEM][:, :, ::-1]
    return {**variables, "params": unflatten_dict(params, sep="/")}
