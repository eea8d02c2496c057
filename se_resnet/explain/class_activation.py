"""Class activation maps: Grad-CAM and Grad-CAM++."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.errors import UserError
from se_resnet.explain.target import check_target, sign_of
from se_resnet.models.classifier import Classifier
from se_resnet.models.resnet import PERTURBATIONS


def grad_cam(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    *,
    stage: str | None = None,
    target: int | None = None,
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks").

    The feature maps are summed, each weighted by the mean over its pixels of the gradient of the
    target's logit; what is negative is set to 0.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.
        stage: stage whose output is explained: ``'stem'``, ``'stage1'``, ...; None for the last
            stage. Later stages say more about the class, earlier stages resolve more detail: a cell
            of ``'stage4'`` covers 32 x 32 pixels.
        target: 0 for benign, 1 for malignant, None for each image's predicted class (malignant from
            probability 0.5).

    Returns:
        float32 ``[B, H, W]`` in [0, 1]. An image's largest value is 1, or 0 where nothing speaks
        for the target: maps of different images cannot be compared by their values.

    Raises:
        UserError: ``stage`` or ``target`` is unknown.
    """
    return _class_activation(classifier, variables, images, stage, target, plus_plus=False)


def grad_cam_plus_plus(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    *,
    stage: str | None = None,
    target: int | None = None,
) -> np.ndarray:
    """Grad-CAM++ (Chattopadhay et al. 2018), which finds several occurrences of a pattern better.

    As :func:`grad_cam`, but a feature map is weighted by the sum of its positive gradients, each
    taken with the weight that the exponential of the target's logit as score gives in closed form.
    """
    return _class_activation(classifier, variables, images, stage, target, plus_plus=True)


def _class_activation(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    stage: str | None,
    target: int | None,
    plus_plus: bool,
) -> np.ndarray:
    stages = classifier.model.stage_names
    stage = stages[-1] if stage is None else stage
    if stage not in stages:
        raise UserError(f"unknown stage {stage!r}: choose one of {', '.join(stages)}")
    check_target(target)
    return np.asarray(_activation_maps(classifier, variables, images, stage, target, plus_plus))


@functools.partial(jax.jit, static_argnames=("classifier", "stage", "plus_plus"))
def _activation_maps(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: jax.Array,
    stage: str,
    target: int | None,
    plus_plus: bool,
) -> jax.Array:
    inputs = classifier.preprocessing(images)

    def run(variables: Mapping[str, Any]) -> Any:
        return classifier.model.apply(variables, inputs, train=False, return_stages=True)

    def score(added: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, stages = run({**variables, PERTURBATIONS: {stage: added}})
        # In evaluation mode an image's logit depends on no other image, so the gradient of the sum
        # holds the gradient of each.
        return (sign_of(logits[:, 0], target) * logits[:, 0]).sum(), stages[stage]

    features = jax.eval_shape(run, variables)[1][stage]
    gradients, features = (
        values.astype(jnp.float32)
        for values in jax.grad(score, has_aux=True)(jnp.zeros(features.shape, features.dtype))
    )
    if plus_plus:
        # The paper's g^2 / (2 g^2 + sum(A) g^3) without g^2, which may underflow. Only g > 0
        # counts, and features are not negative after a ReLU, so the divisor is at least 2.
        gradients = jax.nn.relu(gradients)
        mass = jax.nn.relu(features).sum(axis=(1, 2), keepdims=True)
        weights = (gradients / (2 + mass * gradients)).sum(axis=(1, 2))
    else:
        weights = gradients.mean(axis=(1, 2))
    maps = jax.nn.relu(jnp.einsum("bhwc,bc->bhw", features, weights))
    maps = jax.image.resize(maps, images.shape[:3], "linear")
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return maps / jnp.where(peaks > 0, peaks, 1)
