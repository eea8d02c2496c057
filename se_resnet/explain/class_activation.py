"""Class activation maps: Grad-CAM and Grad-CAM++."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.errors import UserError
from se_resnet.explain.members import Variables, networks_of
from se_resnet.explain.target import check_target, sign_of
from se_resnet.models.classifier import Array, Classifier
from se_resnet.models.precision import full_float32
from se_resnet.models.resnet import PERTURBATIONS


def grad_cam(
    classifier: Classifier,
    variables: Variables,
    images: np.ndarray,
    *,
    stage: str | None = None,
    target: int | np.ndarray | None = None,
) -> np.ndarray:
    """Computes Grad-CAM (Selvaraju et al. 2017).

    The map is the weighted sum of the feature maps. The weight of a feature map is the mean of the
    target's gradient over its pixels. Negative values are set to 0. The map of an ensemble sums
    over the feature maps of all members, with the gradient of their mean logit.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network, or a sequence of those of the
            members of an ensemble, whose mean logit is explained.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.
        stage: stage of the feature maps: ``'stem'``, ``'stage1'``, ...; None for the last stage.
            Later stages are more specific to the class, earlier stages have a higher resolution: a
            cell of ``'stage4'`` covers 32 x 32 pixels.
        target: 0 for benign, 1 for malignant, ``int [B]`` of both for one class per image, None for
            the predicted class of each image at the threshold 0.5.

    Returns:
        float32 ``[B, H, W]`` in [0, 1]. The maximum of each map is 1, or 0 without any evidence for
        the target. Values of different images are therefore not comparable.

    Raises:
        UserError: ``stage`` or ``target`` is unknown.
    """
    return _class_activation(classifier, variables, images, stage, target, plus_plus=False)


def grad_cam_of_maps(
    variables: Variables,
    maps: Sequence[Array],
    size: tuple[int, int],
    target: int | np.ndarray,
) -> np.ndarray:
    """Computes :func:`grad_cam` for the last stage from its feature maps, without another pass.

    The network ends with the mean over the pixels and a linear layer. So the gradient of the logit
    by a feature map is the weight of its channel, divided by the number of pixels (Zhou et al.
    2016, "Learning Deep Features for Discriminative Localization"; Selvaraju et al. 2017, 3.1).

    Args:
        variables: see :func:`grad_cam`.
        maps: feature maps of the last stage by each network, ``[B, h, w, C]``, as
            :meth:`se_resnet.models.classifier.Forward.with_maps` returns them.
        size: height and width of the images in pixels.
        target: 0 for benign, 1 for malignant, or ``int [B]`` of both for one class per image.

    Returns:
        The result of :func:`grad_cam`, up to rounding.

    Raises:
        UserError: ``target`` is unknown.
    """
    check_target(target)
    networks = networks_of(variables)
    count, height, width, _ = maps[0].shape
    gradients = tuple(
        jnp.broadcast_to(network["params"]["head"]["kernel"][:, 0] / (height * width), of_one.shape)
        for network, of_one in zip(networks, maps, strict=True)
    )
    signs = sign_of(np.zeros(count), target)
    return _scaled(_combine(tuple(maps), gradients, signs, size, False))


def grad_cam_plus_plus(
    classifier: Classifier,
    variables: Variables,
    images: np.ndarray,
    *,
    stage: str | None = None,
    target: int | np.ndarray | None = None,
) -> np.ndarray:
    """Computes Grad-CAM++ (Chattopadhay et al. 2018), better at repeated patterns than Grad-CAM.

    The arguments and the result are those of :func:`grad_cam`. The weight of a feature map is a
    weighted sum of its positive gradients. With the exponential of the target's logit as score, the
    paper gives these weights in closed form.
    """
    return _class_activation(classifier, variables, images, stage, target, plus_plus=True)


def _class_activation(
    classifier: Classifier,
    variables: Variables,
    images: np.ndarray,
    stage: str | None,
    target: int | np.ndarray | None,
    plus_plus: bool,
) -> np.ndarray:
    stages = classifier.model.stage_names
    stage = stages[-1] if stage is None else stage
    if stage not in stages:
        raise UserError(f"unknown stage {stage!r}: choose one of {', '.join(stages)}")
    check_target(target)
    networks = networks_of(variables)
    # One after another through one compiled program.
    parts = [_features_and_gradients(classifier, network, images, stage) for network in networks]
    logits, features, gradients = zip(*parts, strict=True)
    signs = sign_of(sum(logits) / len(networks), target)
    return _scaled(_combine(features, gradients, signs, images.shape[1:3], plus_plus))


def _scaled(combined: jax.Array) -> np.ndarray:
    """Returns maps ``[B, H, W]`` with a maximum of 1, or 0 where there is no evidence."""
    maps = np.asarray(combined)
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peaks > 0, peaks, 1)


@functools.partial(jax.jit, static_argnames=("classifier", "stage"))
@full_float32
def _features_and_gradients(
    classifier: Classifier, variables: Mapping[str, Any], images: jax.Array, stage: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns logits ``[B]``, and ``[B, h, w, C]`` the features and the gradients of the logits."""
    inputs = classifier.preprocessing(images)

    def run(variables: Mapping[str, Any]) -> Any:
        return classifier.model.apply(variables, inputs, train=False, return_stages=True)

    def score(added: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits, stages = run({**variables, PERTURBATIONS: {stage: added}})
        # In evaluation mode a logit depends on a single image. The gradient of the sum therefore
        # contains the gradient of each logit.
        return logits[:, 0].sum(), (logits[:, 0], stages[stage])

    features = jax.eval_shape(run, variables)[1][stage]
    gradients, (logits, features) = jax.grad(score, has_aux=True)(
        jnp.zeros(features.shape, features.dtype)
    )
    return logits, features, gradients


@functools.partial(jax.jit, static_argnames=("size", "plus_plus"))
@full_float32
def _combine(
    features: tuple[jax.Array, ...],
    gradients: tuple[jax.Array, ...],
    signs: jax.Array,
    size: tuple[int, int],
    plus_plus: bool,
) -> jax.Array:
    """Returns the maps of the mean logit; the members' feature maps stand side by side."""
    joined = jnp.concatenate(features, axis=-1).astype(jnp.float32)
    gradient = jnp.concatenate(gradients, axis=-1).astype(jnp.float32) / len(features)
    gradient *= signs[:, None, None, None]
    if plus_plus:
        # The paper has g^2 / (2 g^2 + sum(A) g^3). Cancelling g^2 avoids underflow. Only g > 0
        # contributes. Features are not negative after a ReLU, so the divisor is at least 2.
        gradient = jax.nn.relu(gradient)
        feature_sum = jax.nn.relu(joined).sum(axis=(1, 2), keepdims=True)
        weights = (gradient / (2 + feature_sum * gradient)).sum(axis=(1, 2))
    else:
        weights = gradient.mean(axis=(1, 2))
    maps = jax.nn.relu(jnp.einsum("bhwc,bc->bhw", joined, weights))
    return jax.image.resize(maps, (len(maps), *size), "linear")
