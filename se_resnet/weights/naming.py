"""Names that Keras, torchvision, timm and transformers give the tensors of a ResNet.

Keras and Caffe put the stride of a stage into its first 1x1 convolution (variant v1). The other
libraries put it into the 3x3 convolution (v1.5). Tensors show neither the variant nor the epsilon
nor the preprocessing. Files beside the weights may state them (:mod:`se_resnet.weights.declared`).
Otherwise the values of the naming's library are assumed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from se_resnet.models.preprocessing import CAFFE, IMAGENET, Preprocessing


@dataclasses.dataclass(frozen=True)
class Naming:
    """The tensor names of one library: ``module + separator + leaf``.

    Attributes:
        title: name of the library.
        example: a tensor that every file of this naming holds.
        separator: text between module and leaf.
        outside: modules outside the stages, from the library's name to this project's.
        block: regular expression for the modules of a block, with the groups ``stage``, ``block``,
            ``part`` and optionally ``kind``.
        parts: modules within a block, from the library's kind and part to this project's name.
        first_stage: number of the first stage.
        first_block: number of a stage's first block; the letter a counts as 0.
        leaves: leaves from the library's name to this project's: first those of a convolution or
            dense layer, then those of a normalisation.
        variant: position of the strides.
        bn_epsilon: added to the variances in batch normalisation.
        preprocessing: preprocessing that the library trains with.
    """

    title: str
    example: str
    separator: str
    outside: Mapping[str, str]
    block: str
    parts: Mapping[str, str]
    first_stage: int
    first_block: int
    leaves: tuple[Mapping[str, str], Mapping[str, str]]
    variant: str
    bn_epsilon: float
    preprocessing: Preprocessing

    @property
    def examples(self) -> tuple[str, ...]:
        """The example, with and without the name of the enclosing module."""
        return (self.example, self.example.removeprefix("resnet."))

    def path_of(self, name: str) -> str | None:
        """Returns this project's path of the tensor ``name``; None if the network lacks it."""
        module, _, leaf = name.rpartition(self.separator)
        if match := re.fullmatch(self.block, module):
            part = self.parts.get(match.groupdict().get("kind", "") + match["part"])
            block = int(match["block"]) if match["block"].isdigit() else ord(match["block"]) - 97
            stage = int(match["stage"]) - self.first_stage + 1
            target = part and f"stage{stage}/block{block - self.first_block + 1}/{part}"
        else:
            target = self.outside.get(module)
        if not target:
            return None
        collection, _, leaf = self.leaves["norm" in target].get(leaf, "").partition("/")
        return f"{collection}/{target}/{leaf}" if leaf else None


TORCH_LEAVES = (
    {"weight": "params/kernel", "bias": "params/bias"},
    {
        "weight": "params/scale",
        "bias": "params/bias",
        "running_mean": "batch_stats/mean",
        "running_var": "batch_stats/var",
    },
)
KERAS_LEAVES = (
    {"kernel": "params/kernel", "bias": "params/bias"},
    {
        "gamma": "params/scale",
        "beta": "params/bias",
        "moving_mean": "batch_stats/mean",
        "moving_variance": "batch_stats/var",
    },
)

TIMM = Naming(
    title="torchvision or timm",
    example="layer1.0.conv1.weight",
    separator=".",
    outside={"conv1": "stem/conv", "bn1": "stem/norm", "fc": "head"},
    block=r"layer(?P<stage>\d)\.(?P<block>\d+)\.(?P<part>.+)",
    parts={
        "downsample.0": "projection/conv",
        "downsample.1": "projection/norm",
        **{f"conv{i}": f"conv{i}" for i in (1, 2, 3)},
        **{f"bn{i}": f"norm{i}" for i in (1, 2, 3)},
        "se.fc1": "attention/reduce",
        "se.fc2": "attention/expand",
        # Coordinate attention, with the names that its authors and timm use.
        **{
            f"{module}.{theirs}": f"attention/{ours}"
            for module in ("coordatt", "ca", "se")
            for theirs, ours in (
                ("conv1", "shared"),
                ("bn1", "norm"),
                ("conv_h", "rows"),
                ("conv_w", "columns"),
            )
        },
    },
    first_stage=1,
    first_block=0,
    leaves=TORCH_LEAVES,
    variant="v1.5",
    bn_epsilon=1e-5,
    preprocessing=IMAGENET,
)
# torchvision's layers, numbered by nn.Sequential: 0 is the stem, 4 to 7 are the stages.
SEQUENTIAL = dataclasses.replace(
    TIMM,
    title="torchvision's layers in nn.Sequential, as in TIAToolbox",
    example="4.0.conv1.weight",
    outside={"0": "stem/conv", "1": "stem/norm", "classifier": "head", "fc": "head"},
    block=r"(?P<stage>[4-7])\.(?P<block>\d+)\.(?P<part>.+)",
    first_stage=4,
)

NAMINGS = (
    Naming(
        title="Keras or Caffe, old names",
        example="res2a_branch2a/kernel",
        separator="/",
        outside={"conv1": "stem/conv", "bn_conv1": "stem/norm", "fc1000": "head"},
        block=r"(?P<kind>res|bn)(?P<stage>\d)(?P<block>[a-z])_branch(?P<part>\w+)",
        parts={
            "res1": "projection/conv",
            "bn1": "projection/norm",
            **{f"res2{'abc'[i - 1]}": f"conv{i}" for i in (1, 2, 3)},
            **{f"bn2{'abc'[i - 1]}": f"norm{i}" for i in (1, 2, 3)},
        },
        first_stage=2,
        first_block=0,
        leaves=KERAS_LEAVES,
        variant="v1",
        bn_epsilon=1e-3,
        preprocessing=CAFFE,
    ),
    Naming(
        title="Keras, new names",
        example="conv2_block1_1_conv/kernel",
        separator="/",
        outside={
            "conv1_conv": "stem/conv",
            "conv1_bn": "stem/norm",
            "predictions": "head",
            "probs": "head",
        },
        block=r"conv(?P<stage>\d)_block(?P<block>\d+)_(?P<part>\d_\w+)",
        parts={
            "0_conv": "projection/conv",
            "0_bn": "projection/norm",
            **{f"{i}_conv": f"conv{i}" for i in (1, 2, 3)},
            **{f"{i}_bn": f"norm{i}" for i in (1, 2, 3)},
        },
        first_stage=2,
        first_block=1,
        leaves=KERAS_LEAVES,
        variant="v1",
        bn_epsilon=1.001e-5,
        preprocessing=CAFFE,
    ),
    TIMM,
    SEQUENTIAL,
    Naming(
        title="transformers",
        example="resnet.encoder.stages.0.layers.0.layer.0.convolution.weight",
        separator=".",
        outside={
            **{
                f"{prefix}embedder.embedder.{theirs}": f"stem/{ours}"
                for prefix in ("", "resnet.")
                for theirs, ours in (("convolution", "conv"), ("normalization", "norm"))
            },
            "classifier.1": "head",
        },
        block=(
            r"(?:resnet\.)?encoder\.stages\.(?P<stage>\d)\.layers\.(?P<block>\d+)\.(?P<part>.+)"
        ),
        parts={
            "shortcut.convolution": "projection/conv",
            "shortcut.normalization": "projection/norm",
            **{f"layer.{i - 1}.convolution": f"conv{i}" for i in (1, 2, 3)},
            **{f"layer.{i - 1}.normalization": f"norm{i}" for i in (1, 2, 3)},
        },
        first_stage=0,
        first_block=0,
        leaves=TORCH_LEAVES,
        variant="v1.5",
        bn_epsilon=1e-5,
        preprocessing=IMAGENET,
    ),
)
