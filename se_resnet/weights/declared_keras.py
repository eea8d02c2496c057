"""Reads the configuration of layers that Keras stores with the tensors of a whole model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from se_resnet.weights.declaration import Declaration, positive, require_values

# Values that options of layers can have, where no tensor shows the option.
_FIXED: dict[str, dict[str, tuple[Any, ...]]] = {
    "Activation": {"activation": ("relu", "softmax", "sigmoid", "linear")},
    "ReLU": {"max_value": (None,), "negative_slope": (0, 0.0), "threshold": (0, 0.0)},
    "Conv2D": {"dilation_rate": ([1, 1],), "groups": (1,)},
    "MaxPooling2D": {"pool_size": ([3, 3],), "strides": ([2, 2],)},
}
_REFUSED = ("ELU", "LeakyReLU", "PReLU", "ThresholdedReLU")
_BEFORE_STEM = ("InputLayer", "ZeroPadding2D")
_AUGMENTATION = "Random"  # prefix of layers that act only in training
_MAX_DEPTH = 8  # of models within models


def topology(model: Any) -> Declaration:
    """Returns the facts about a network in Keras' ``model_config``.

    Args:
        model: ``class_name`` and ``config``, as Keras writes them.

    Raises:
        ValueError: the network differs from :class:`se_resnet.models.resnet.ResNet`, or a layer
            before it changes the pixels.
    """
    epsilons, strides, in_network = set(), set(), False
    for kind, config in _layers(model):
        name = f"layer {str(config.get('name'))!r:.40} of kind {kind}"
        in_network = in_network or kind.startswith("Conv")
        if not in_network and kind not in _BEFORE_STEM and not kind.startswith(_AUGMENTATION):
            raise ValueError(f"its {name} changes the pixels before they reach the network")
        if kind in _REFUSED:
            raise ValueError(f"its {name} has no place in this network")
        try:
            require_values(config, _FIXED.get(kind, {}))
        except ValueError as error:
            raise ValueError(f"in its {name}, {error}") from error
        if kind == "BatchNormalization" and "epsilon" in config:
            epsilons.add(positive(config["epsilon"], "epsilon"))
        if kind == "Conv2D" and config.get("strides") == [2, 2]:
            strides.add(str(config.get("kernel_size")))
    if len(epsilons) > 1:
        raise ValueError("its batch normalisations differ in their epsilon")
    return Declaration(
        library="Keras",
        variant="v1.5" if "[3, 3]" in strides else "v1" if "[1, 1]" in strides else None,
        bn_epsilon=epsilons.pop() if epsilons else None,
    )


def _layers(model: Any, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields kind and configuration of every layer, including those of nested models."""
    if not isinstance(model, dict) or depth > _MAX_DEPTH:
        raise ValueError("its layers are not as Keras writes them")
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    if isinstance(layers, list):
        for layer in layers:
            yield from _layers(layer, depth + 1)
    elif isinstance(config, dict):
        yield str(model.get("class_name")), config
