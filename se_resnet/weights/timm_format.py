"""Converts a trained network to timm's names, so that timm's ResNets can load it.

timm's gates are plain sigmoids. A gate ``2 * sigmoid`` (``'identity'``) is converted exactly: the
normalisation before the gate takes the factor 2. The first layer of the gate then sees doubled
means, so its weights are halved. Factors of two cause no rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from se_resnet.errors import UserError
from se_resnet.models.classifier import Classifier
from se_resnet.models.resnet import ResNet
from se_resnet.weights.naming import TIMM

_DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_REDUCTION = 16
# timm resizes with Pillow. Pillow's bilinear filter averages over areas, as this project does, but
# with other steps: pixels differ slightly.
_INTERPOLATION = "bilinear"
_CROP_MODES = {"squash": "squash", "crop": "center"}


def to_timm(model: ResNet, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors of a network under timm's names, for ``load_state_dict``.

    Args:
        model: the network.
        variables: its ``{'params', 'batch_stats'}``.

    Returns:
        float32 arrays by name, kernels OIHW, and ``num_batches_tracked`` of every normalisation.

    Raises:
        UserError: timm has no such network; the message names the difference.
    """
    if problem := _difference(model):
        raise UserError(
            f"timm's ResNet cannot hold this network: {problem}. Save it with --naming=se_resnet."
        )
    flat = {k: np.asarray(v) for k, v in flatten_dict(dict(variables), sep="/").items()}
    if dict(model.attention_options).get("gate", "identity") == "identity":
        flat = {path: _fold_factor(path, value, flat) for path, value in flat.items()}
    names = _names(model.stage_sizes)
    tensors = {names[path]: _transpose(path, value) for path, value in flat.items()}
    for name in [name for name in tensors if name.endswith("running_mean")]:
        counter = name.replace("running_mean", "num_batches_tracked")
        tensors[counter] = np.zeros((), np.int64)
    return tensors


def timm_config(classifier: Classifier) -> dict[str, Any]:
    """Returns the ``config.json`` that ``timm.create_model('local-dir:...')`` reads.

    Raises:
        UserError: timm cannot prepare images for this network.
    """
    model, preprocessing = classifier.model, classifier.preprocessing
    if preprocessing.channel_order != "RGB":
        raise UserError("timm cannot hold this network: its input channels are BGR.")
    unit = 255 * preprocessing.scale  # timm's pixels lie in [0, 1]
    name = f"resnet{_DEPTHS.get(model.stage_sizes, 50)}"
    config: dict[str, Any] = {
        "architecture": f"se{name}" if model.attention == "se" else name,
        "num_classes": model.num_outputs,
        "num_features": 32 * model.width,
        "pretrained_cfg": {
            "input_size": [3, *classifier.size],
            "mean": [value / unit for value in preprocessing.mean],
            "std": [value / unit for value in preprocessing.std],
            "interpolation": _INTERPOLATION,
            "crop_pct": 1.0,
            "crop_mode": _CROP_MODES.get(classifier.resize, "center"),
            "num_classes": model.num_outputs,
            "first_conv": "conv1",
            "classifier": "fc",
            "label_names": ["malignant"],
        },
    }
    if model.stage_sizes not in _DEPTHS:
        config["model_args"] = {"layers": list(model.stage_sizes)}
    return config


def _difference(model: ResNet) -> str:
    """Returns the difference to timm's networks, or an empty string."""
    if model.variant != TIMM.variant:
        return (
            f"its strides sit in the first 1x1 convolutions (variant {model.variant}), timm's in "
            f"the 3x3 ones ({TIMM.variant})"
        )
    if model.attention not in ("se", "none"):
        return f"its attention {model.attention!r} is not that of timm's SE-ResNets"
    if model.attention == "se":
        if model.attention_position != "branch":
            return f"its gates sit at {model.attention_position!r}, timm's in every branch"
        reduction = dict(model.attention_options).get("reduction", _REDUCTION)
        if reduction != _REDUCTION:
            return f"its gates reduce {reduction}-fold, timm's {_REDUCTION}-fold"
    if model.bn_epsilon != TIMM.bn_epsilon:
        return f"its normalisations add {model.bn_epsilon:g}, timm's {TIMM.bn_epsilon:g}"
    if model.width != 64 or len(model.stage_sizes) != 4:
        return (
            f"it has {len(model.stage_sizes)} stages and a stem of {model.width} channels, timm's "
            "4 and 64"
        )
    return ""


def _fold_factor(path: str, value: np.ndarray, flat: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the tensor at ``path`` for a network whose gates are plain sigmoids."""
    block, _, rest = path.rpartition("/norm3/")
    if rest in ("scale", "bias") and f"{block}/attention/expand/bias" in flat:
        return 2 * value
    return value / 2 if path.endswith("/attention/reduce/kernel") else value


def _names(stage_sizes: Sequence[int]) -> dict[str, str]:
    """Maps this project's paths to timm's names."""
    modules = [
        *TIMM.outside,
        *(
            f"layer{stage}.{block}.{part}"
            for stage, blocks in enumerate(stage_sizes, start=1)
            for block in range(blocks)
            for part in TIMM.parts
        ),
    ]
    leaves = {leaf for kind in TIMM.leaves for leaf in kind}
    names = (f"{module}{TIMM.separator}{leaf}" for module in modules for leaf in leaves)
    return {path: name for name in names if (path := TIMM.path_of(name))}


def _transpose(path: str, value: np.ndarray) -> np.ndarray:
    """Moves outputs before inputs, and turns the layers of gates into 1x1 convolutions."""
    if value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    elif value.ndim == 2:
        value = value.T[:, :, None, None] if "/attention/" in path else value.T
    return np.ascontiguousarray(value)
