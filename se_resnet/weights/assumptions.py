"""Joins what a file's tensors show with what the files beside it say; the rest is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.core import FrozenDict

from se_resnet.attention import NONE
from se_resnet.models.preprocessing import CAFFE, Preprocessing
from se_resnet.weights.declaration import Declaration
from se_resnet.weights.formats import refused
from se_resnet.weights.layout import Layout, architecture
from se_resnet.weights.naming import TIMM, TORCH_LEAVES, Naming

_STRIDES = {"v1": "first 1x1", "v1.5": "3x3"}
_SE_REDUCTION = 16  # timm's


def facts(layout: Layout, said: Declaration, source: str) -> dict[str, Any]:
    """Returns the fields of a :class:`~se_resnet.weights.pretrained.Pretrained` except its arrays.

    Args:
        layout: what the tensors show.
        said: what the files beside them say.
        source: what to call the weights in an error.

    Raises:
        UserError: the two contradict each other, or the tensors are of code whose networks differ
            and nothing says of which.
    """
    naming = layout.naming
    _check(layout, said, source)
    assumed = []
    if said.library is None:
        if layout.biased:
            raise refused(
                source,
                "its convolutions have biases, as MONAI's ResNets have, whose first convolution "
                "has by default a stride of 1, which the tensors do not show: if it was trained "
                "with conv1_t_stride=2, ReLU and max-pooling, say so by a file config.json beside "
                'it in a folder of its own, with {"architecture": "resnet50", "mean": [...], '
                '"std": [...]} of pixels from 0 to 1; with a stride of 1 it cannot be used',
            )
        assumed += _architecture(naming, layout.attention)
    preprocessing = said.preprocessing or naming.preprocessing
    if said.preprocessing is None:
        assumed.append(_pixels(preprocessing))
    notes = list(layout.notes)
    if said.files:
        notes.append(f"followed {' and '.join(said.files)}")
    if said.interpolation:
        notes.append(
            f"they were trained on images resized by {said.interpolation}; here "
            "config.data.size and config.data.resize decide"
        )
    return {
        "variant": said.variant or naming.variant,
        "bn_epsilon": said.bn_epsilon or naming.bn_epsilon,
        "preprocessing": preprocessing,
        "interpolation": said.interpolation or "",
        "attention": layout.attention,
        "attention_options": FrozenDict(layout.attention_options),
        "assumed": tuple(assumed),
        "notes": tuple(notes),
    }


def _check(layout: Layout, said: Declaration, source: str) -> None:
    stage_sizes, width = architecture(layout.variables)
    head = layout.variables.get("params/head/bias")
    shown: Mapping[str, Any] = {
        "library": _library(layout.naming),
        "stage_sizes": stage_sizes,
        "width": width,
        "attention": layout.attention,
        "classes": head.size if isinstance(head, np.ndarray) else said.classes,
    }
    reduction = layout.attention_options.get("reduction")
    for field, value in said.stated().items():
        if field in shown and shown[field] != value:
            raise refused(
                source,
                f"it contradicts {' and '.join(said.files)}, with {field.replace('_', ' ')} "
                f"{value} there and {shown[field]} in its tensors: put the weights into a folder "
                "with the configuration that belongs to them",
            )
    if said.library == "timm" and layout.attention == "se" and reduction != _SE_REDUCTION:
        raise refused(
            source,
            f"its gates reduce {reduction}-fold, those of timm's architecture in config.json "
            f"{_SE_REDUCTION}-fold: put the weights into a folder of their own",
        )


def _library(naming: Naming) -> str:
    if naming.leaves is not TORCH_LEAVES:
        return "Keras"
    return "timm" if naming is TIMM else naming.title


def _architecture(naming: Naming, attention: str) -> list[str]:
    """Lists what differs among networks of the naming and shows only in their code."""
    assumed = [
        f"variant {naming.variant}, with a stage's stride in its {_STRIDES[naming.variant]} "
        "convolution and none dilated",
        "a stem of stride 2 and 3x3 max-pooling of stride 2, without anti-aliasing",
        "ReLU",
        f"a batch normalisation's epsilon of {naming.bn_epsilon:g}",
    ]
    if attention != NONE:
        assumed.append(f"attention {attention!r} at the end of each branch, with a sigmoid")
    if naming.leaves is not TORCH_LEAVES:
        assumed.append("layers in the order of keras.applications.ResNet50 where they are numbered")
    return assumed


def _pixels(preprocessing: Preprocessing) -> str:
    mean, std = (", ".join(f"{v:g}" for v in getattr(preprocessing, p)) for p in ("mean", "std"))
    scale = "0 to 255" if preprocessing.scale == CAFFE.scale else "0 to 1"
    return f"{preprocessing.channel_order} pixels of {scale} with mean {mean} and std {std}"
