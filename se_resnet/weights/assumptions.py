"""Joins the facts that tensors show with those in the files beside them, and assumes the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.core import FrozenDict

from se_resnet.attention import NONE
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.weights.declaration import Declaration, describe_pixels
from se_resnet.weights.formats import refused
from se_resnet.weights.layout import Layout, architecture
from se_resnet.weights.naming import SEQUENTIAL, TIMM, TORCH_LEAVES, Naming

CONFIGURED = "mean and std of the pixels are those of config.model.mean and config.model.std"
_STRIDES = {"v1": "first 1x1", "v1.5": "3x3"}
_SE_REDUCTION = 16  # timm's


def join_facts(
    layout: Layout, declaration: Declaration, source: str, pixels: Preprocessing | None = None
) -> dict[str, Any]:
    """Returns the fields of a :class:`~se_resnet.weights.record.Pretrained` except its arrays.

    Args:
        layout: facts that the tensors show.
        declaration: facts from the files beside the tensors.
        source: name of the weights in an error.
        pixels: preprocessing that the user states; it applies if no file states one.

    Raises:
        UserError: tensors, files and user contradict each other, or the tensors fit several
            networks and no file names one of them.
    """
    naming = layout.naming
    _check(layout, declaration, source)
    assumed = []
    if declaration.library is None:
        if layout.biased:
            raise refused(
                source,
                "its convolutions have biases, as MONAI's ResNets have, whose first convolution "
                "has by default a stride of 1, which the tensors do not show: if it was trained "
                "with conv1_t_stride=2, ReLU and max-pooling, move it to a new folder and write a "
                'file config.json there, with {"architecture": "resnet50", "mean": [...], '
                '"std": [...]} of pixels from 0 to 1; with a stride of 1 it cannot be used',
            )
        assumed += _architecture(naming, layout.attention)
    preprocessing = declaration.preprocessing or pixels or naming.preprocessing
    if pixels and preprocessing != pixels:
        raise refused(
            source,
            f"config.model.mean and config.model.std give {describe_pixels(pixels)}, which "
            f"contradicts {_origin(declaration)}, with {describe_pixels(preprocessing)}: leave "
            "them out" + ("" if declaration.by_authors else ", or correct the file if it is wrong"),
        )
    notes = list(layout.notes)
    if declaration.files:
        notes.append(f"followed {' and '.join(declaration.files)}")
    notes += declaration.notes
    if declaration.preprocessing is None and pixels:
        notes.append(CONFIGURED)
    elif declaration.preprocessing is None:
        assumed.append(
            f"{describe_pixels(preprocessing)} (set config.model.mean and config.model.std if "
            "they differ)"
        )
    if declaration.classes and not any("/head/" in path for path in layout.variables):
        notes.append(
            f"the file holds no classifier, though {' and '.join(declaration.files)} states "
            f"{declaration.classes} classes; none is needed"
        )
    if declaration.interpolation:
        notes.append(
            f"they were trained on images resized by {declaration.interpolation}; here "
            "config.data.size and config.data.resize decide"
        )
    return {
        "variant": declaration.variant or naming.variant,
        "bn_epsilon": declaration.bn_epsilon or naming.bn_epsilon,
        "preprocessing": preprocessing,
        "interpolation": declaration.interpolation or "",
        "input_size": declaration.input_size,
        "attention": layout.attention,
        "attention_options": FrozenDict(layout.attention_options),
        "assumed": tuple(assumed),
        "notes": tuple(notes),
    }


def _origin(declaration: Declaration) -> str:
    """Returns who states the preprocessing."""
    return "the weights' authors" if declaration.by_authors else " and ".join(declaration.files)


def _check(layout: Layout, declaration: Declaration, source: str) -> None:
    """Compares the declared facts with those that the tensors show."""
    stage_sizes, width = architecture(layout.variables)
    head = layout.variables.get("params/head/bias")
    shown: Mapping[str, Any] = {
        "library": _library(layout.naming),
        "stage_sizes": stage_sizes,
        "width": width,
        "attention": layout.attention,
        "classes": head.size if isinstance(head, np.ndarray) else declaration.classes,
    }
    reduction = layout.attention_options.get("reduction")
    for field, value in declaration.stated().items():
        if field in shown and shown[field] != value:
            raise refused(
                source,
                f"it contradicts {' and '.join(declaration.files)}, with {field.replace('_', ' ')} "
                f"{value} there and {shown[field]} in its tensors: put the weights into a folder "
                "with the configuration that belongs to them",
            )
    if declaration.library == "timm" and layout.attention == "se" and reduction != _SE_REDUCTION:
        raise refused(
            source,
            f"its gates reduce {reduction}-fold, those of timm's architecture in config.json "
            f"{_SE_REDUCTION}-fold: put the weights into a separate folder",
        )


def _library(naming: Naming) -> str:
    if naming.leaves is not TORCH_LEAVES:
        return "Keras"
    return "timm" if naming in (TIMM, SEQUENTIAL) else naming.title


def _architecture(naming: Naming, attention: str) -> list[str]:
    """Lists facts that only the source code shows, and that differ between networks of a naming."""
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
