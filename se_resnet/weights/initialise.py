"""Initial variables of a network: a pretrained backbone, the rest freshly initialised."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.models.resnet import ResNet, initialiser, variable_shapes
from se_resnet.weights import layout
from se_resnet.weights.record import Pretrained


def initial_variables(
    model: ResNet,
    pretrained: Pretrained,
    key: jax.Array,
    image_size: tuple[int, int] = (224, 224),
) -> dict[str, Any]:
    """Returns the model's variables before training.

    The backbone is the pretrained one. Attention modules and head are initialised from ``key``; the
    head's weights are zero, see :class:`se_resnet.models.resnet.ResNet`.

    Args:
        model: the model to fill.
        pretrained: the weights; if ``params`` is None, ``key`` initialises all variables.
        key: a random key.
        image_size: height and width in pixels of the images to come.

    Returns:
        ``{'params': ..., 'batch_stats': ...}``, nested dicts of float32 arrays on the default
        device.

    Raises:
        UserError: variant or epsilon differ, a pretrained tensor does not fit the model, or the
            model's backbone has a tensor that the weights lack.
    """
    backbone: dict[str, np.ndarray] = {}
    if pretrained.params is not None:
        _check_facts(model, pretrained)
        backbone = flatten_dict(
            {"params": pretrained.params, "batch_stats": pretrained.batch_stats}, sep="/"
        )

    shapes, initialise = _program(model, tuple(image_size), frozenset(backbone))
    _check_shapes(pretrained, backbone, shapes)
    fresh = initialise(key)
    # A copy: the loaded arrays must survive a training step that reuses its arguments' memory.
    loaded = jax.device_put(backbone, may_alias=False)
    return unflatten_dict(
        {path: fresh[path] if path in fresh else loaded[path] for path in shapes}, sep="/"
    )


@functools.lru_cache(maxsize=1)  # equal networks share the last program, for example folds
def _program(
    model: ResNet, image_size: tuple[int, int], loaded: frozenset[str]
) -> tuple[dict[str, tuple[int, ...]], Callable[[jax.Array], dict[str, jax.Array]]]:
    """Returns the shapes of all variables by path, and a jitted function that initialises some.

    Args:
        model: the model to fill.
        image_size: height and width in pixels of the images to come.
        loaded: paths of the variables that the function does not return.
    """
    initialise = initialiser(model, image_size)
    shapes = {
        path: leaf.shape
        for path, leaf in flatten_dict(variable_shapes(model, image_size), sep="/").items()
    }

    @jax.jit  # does not return what was loaded, so XLA does not compute it
    def fresh(key: jax.Array) -> dict[str, jax.Array]:
        variables = flatten_dict(initialise(key), sep="/")
        return {path: value for path, value in variables.items() if path not in loaded}

    return shapes, fresh


def _check_facts(model: ResNet, pretrained: Pretrained) -> None:
    fields = ["variant", "bn_epsilon"]
    if pretrained.attention != attention.NONE:
        fields += ["attention", "attention_position", "attention_options"]
    for field in fields:
        required, actual = getattr(pretrained, field), getattr(model, field)
        if required != actual:
            raise UserError(
                f"weights {pretrained.name!r} need {field} {required}, the model has {actual}: "
                "take it from the weights"
            )


def _check_shapes(
    pretrained: Pretrained,
    backbone: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    stage_sizes, width = layout.architecture(backbone)
    problem = f"weights {pretrained.name!r} do not fit the model"
    remedy = f"use stage_sizes {stage_sizes} and width {width}, or weights 'none'"
    for path, value in backbone.items():
        if value.shape != shapes.get(path):
            raise UserError(
                f"{problem}: {path} has shape {value.shape} in the "
                f"weights and {shapes.get(path, 'no place')} in the model: {remedy}"
            )
    for path in shapes:
        new = path.startswith("params/head/") or (
            "attention" in path.split("/") and pretrained.attention == attention.NONE
        )
        if backbone and path not in backbone and not new:
            raise UserError(f"{problem}: they lack {path}: {remedy}")
