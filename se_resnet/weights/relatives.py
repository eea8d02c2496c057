"""Recognises related networks that cannot be loaded, so that the error can name them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

# Patterns of tensor names that only one kind of network has; the first match counts.
_BY_NAME = (
    (
        r"(^|\.)se_module\.fc",
        "it is an SE-ResNet after Cadene, such as timm's legacy_seresnet50, whose max-pooling has "
        "no padding",
    ),
    (r"(^|\.)se_layer\.fc", "it is MONAI's SEResNet, whose max-pooling has no padding"),
    (r"(^|\.)conv2\.paths\.|(^|\.)conv2\.attn\.", "it is an SKNet, with selective kernels"),
    (r"(^|\.)conv1\.[036]\.weight$", "its stem is three 3x3 convolutions (ResNet-C, -D, -S or -T)"),
    (r"(^|\.)maxpool\.\d\.weight$", "it has a convolution in place of the max-pooling"),
    (r"\.downsample\.2\.", "its shortcuts average before they project (ResNet-D)"),
    (r"\.se\.channel\.|\.se\.spatial\.", "it has CBAM modules"),
    (r"\.se\.conv\.weight$", "it has ECA modules"),
    (r"\.se\.fc\.weight$", "it has effective SE modules"),
    (r"(^|\.)stem\.conv\.weight$|\.norm1\.weight$", "it is a ResNet of version 2 (BiT)"),
    (r"preact_bn", "it is a ResNet of version 2"),
    (
        r"(^|\.)(fpn|rpn|aux_classifier|decoder|segmentation_head)\.",
        "it is a larger network with a ResNet inside",
    ),
    (r"(^|\.)patch_embed|\.attn\.qkv\.|\.attention\.query\.", "it is a vision transformer"),
)


def describe(tensors: Mapping[str, np.ndarray]) -> str:
    """Returns a description of a related network, or an empty string for an unknown one.

    Args:
        tensors: arrays of a file by name.
    """
    for pattern, description in _BY_NAME:
        if any(re.search(pattern, name) for name in tensors):
            return description
    shapes = {
        name: value.shape
        for name, value in tensors.items()
        if re.search(r"(^|\.)layer1\.\d+\.conv[123]\.weight$", name) and value.ndim == 4
    }
    stem = tensors["conv1.weight"].shape[:1] if "conv1.weight" in tensors else ()
    spatial = [shape for name, shape in shapes.items() if name.endswith("conv2.weight")]
    if spatial and not any(name.endswith("conv3.weight") for name in shapes):
        return "it is a ResNet of basic blocks, such as ResNet18 or 34"
    if spatial and all(0 < inputs < outputs for outputs, inputs, *_ in spatial):
        groups = spatial[0][0] // spatial[0][1]
        return f"it is a ResNeXt, whose 3x3 convolutions have {groups} groups"
    if spatial and stem and all(outputs > stem[0] for outputs, *_ in spatial):
        return "it is a Wide ResNet, whose 3x3 convolutions have more channels"
    if any(name.endswith("layer1.0.bn1.weight") for name in tensors) and not any(
        name.endswith("layer1.0.bn1.running_mean") for name in tensors
    ):
        return "its normalisations keep no running statistics (such as group normalisation)"
    return ""
