"""How Keras, torchvision, timm and transformers name the tensors of a ResNet with bottlenecks.

Keras and Caffe put a stage's stride into its first 1x1 convolution (variant v1), the others into
its 3x3 convolution (v1.5). That, the epsilon and the preprocessing cannot be seen in the tensors.
Where no file beside them says otherwise (:mod:`se_resnet.weights.declared`), those of the code that
each naming belongs to are assumed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from se_resnet.models.preprocessing import CAFFE, IMAGENET, Preprocessing


@dataclasses.dataclass(frozen=True)
class Naming:
    """How one library names a ResNet's tensors: ``module + separator + leaf``.

    Attributes:
        title: whose it is.
        example: a tensor that every file of this naming holds.
        separator: between module and leaf.
        outside: our module by theirs, outside the stages.
        block: matches the modules of a block; its groups are ``stage``, ``block`` and ``part``,
            which may follow on a ``kind``.
        parts: our module by their kind and part, within a block.
        first_stage: number of the first stage.
        first_block: number of a stage's first block; of letters, a is 0.
        leaves: our leaf by theirs, of a convolution or dense layer and of a normalisation.
        variant: where the strides sit.
        bn_epsilon: added to the variances in batch normalisation.
        preprocessing: what weights of this naming are trained with.
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
        """The example, with and without the module that holds the network."""
        return (self.example, self.example.removeprefix("resnet."))

    def place(self, name: str) -> str | None:
        """Our path of the tensor ``name``; None where the network has no such tensor."""
        module, _, leaf = name.rpartition(self.separator)
        if match := re.fullmatch(self.block, module):
            part = self.parts.get(match.groupdict().get("kind", "") + match["part"])
            block = int(match["block"]) if match["block"].isdigit() else ord(match["block"]) - 97
            stage = int(match["stage"]) - self.first_stage + 1
            ours = part and f"stage{stage}/block{block - self.first_block + 1}/{part}"
        else:
            ours = self.outside.get(module)
        if not ours:
            return None
        collection, _, leaf = self.leaves["norm" in ours].get(leaf, "").partition("/")
        return f"{collection}/{ours}/{leaf}" if leaf else None


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
        # CoordinateAttention attention, with the parts' names of its authors and of timm.
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
