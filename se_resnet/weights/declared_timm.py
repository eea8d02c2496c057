"""Reads timm's ``config.json``: architecture, its arguments and the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se_resnet.attention import NONE
from se_resnet.models.preprocessing import IMAGENET, Preprocessing
from se_resnet.weights.declaration import (
    Declaration,
    require_known,
    require_values,
    sizes,
    standardisation,
    text,
)

_BLOCKS: dict[int, tuple[int, ...]] = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# timm's ResNets with this network's stem, bottlenecks, shortcuts and pooling.
_ARCHITECTURES = {
    **{f"resnet{depth}": (blocks, NONE) for depth, blocks in _BLOCKS.items()},
    **{f"seresnet{depth}": (_BLOCKS[depth], "se") for depth in (50, 101, 152)},
}
_WIDTH = 64
_ATTENTION = {"": NONE, "se": "se", "coord": "coord"}
_POOLING = ("", "avg", "fast", "fastavg")  # '' leaves pooling to the user of the features

# Arguments of timm.models.resnet.ResNet that change the function, with the accepted values.
_FIXED: dict[str, tuple[Any, ...]] = {
    "block": ("Bottleneck", "bottleneck"),
    "in_chans": (3,),
    "output_stride": (32,),
    "global_pool": _POOLING,
    "cardinality": (1,),
    "base_width": (64,),
    "stem_width": (64,),
    "stem_type": ("",),
    "replace_stem_pool": (False,),
    "block_reduce_first": (1,),
    "down_kernel_size": (1,),
    "avg_down": (False,),
    "channels": ([64, 128, 256, 512],),
    "act_layer": ("relu",),
    "norm_layer": ("batchnorm2d", "batchnorm"),
    "aa_layer": ("",),
}
_TRAINING = {"drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last"}
_MODEL_ARGS = {*_FIXED, *_TRAINING, "layers", "num_classes", "block_args"}

_CFG_FIXED: dict[str, tuple[Any, ...]] = {
    "custom_load": (False,),
    "first_conv": ("conv1",),
    "classifier": ("fc",),
    "global_pool": _POOLING,
}
_CFG_FACTS = {"mean", "std", "input_size", "interpolation", "num_classes"}
# Sizes and crops of images, which config.data decides here, and descriptions for people.
_CFG_FREE = {
    *("test_input_size", "min_input_size", "fixed_input_size", "pool_size", "test_pool_size"),
    *("crop_pct", "test_crop_pct", "crop_mode", "crop_border_pixels"),
    *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag"),
    *("label_offset", "label_names", "label_descriptions", "labels", "num_features"),
    *("license", "description", "origin_url", "paper_name", "paper_ids", "notes"),
}
_CFG = {*_CFG_FIXED, *_CFG_FACTS, *_CFG_FREE}
_TOP = {
    *("architecture", "model_args", "pretrained_cfg", "num_classes", "num_features"),
    *("global_pool", "label_names", "label_descriptions", "labels", "license", "description"),
    # from transformers' TimmWrapperConfig
    *("model_type", "architectures", "dtype", "torch_dtype", "transformers_version"),
    *("initializer_range", "do_pooling", "problem_type", "id2label", "label2id", "num_labels"),
}
FIELDS = frozenset({*_TOP, *_CFG, *_MODEL_ARGS} - {"license", "description", "notes", "source"})
# Fields that change nothing, or that the tensors show as well.
NOTES = frozenset(
    {
        *(_CFG_FREE - {"architecture"}),
        *("num_classes", "input_size", "interpolation", "classifier", "layers"),
        *("dtype", "torch_dtype", "transformers_version", "id2label", "label2id", "num_labels"),
        *_TRAINING,
    }
)


def config(fields: Mapping[str, Any]) -> Declaration:
    """Returns the facts about a network in timm's ``config.json``.

    Args:
        fields: fields of the file. Older versions of timm wrote the fields of ``pretrained_cfg`` at
            the top level.

    Raises:
        ValueError: the network differs from :class:`se_resnet.models.resnet.ResNet`, or the meaning
            of a field is unknown.
    """
    nested = fields.get("pretrained_cfg") is not None
    cfg = _object(fields["pretrained_cfg"], "pretrained_cfg") if nested else fields
    require_known(fields, _TOP if nested else {*_TOP, *_CFG})
    if nested:
        require_known(cfg, _CFG, "pretrained_cfg.")
    require_values(fields, {"model_type": ("timm_wrapper",), "global_pool": _POOLING})
    require_values(cfg, _CFG_FIXED)
    args = _object(fields.get("model_args") or {}, "model_args")
    require_known(args, _MODEL_ARGS, "model_args.")
    require_values(args, _FIXED)

    name = text(fields.get("architecture", cfg.get("architecture")), "architecture") or ""
    if name.partition(".")[0] not in _ARCHITECTURES:
        raise ValueError(
            f"its architecture is {name!r}, which this network cannot represent: only "
            f"{', '.join(_ARCHITECTURES)} can be used"
        )
    stage_sizes, attention = _ARCHITECTURES[name.partition(".")[0]]
    if args.get("layers") is not None:
        stage_sizes = sizes(args["layers"], "model_args.layers")
    if args.get("block_args") is not None:
        attention = _attention(_object(args["block_args"], "model_args.block_args"))
    input_size = None
    if cfg.get("input_size") is not None:
        input_size = _height_and_width(cfg["input_size"])
    return Declaration(
        library="timm",
        variant="v1.5",
        stage_sizes=stage_sizes,
        width=_WIDTH,
        attention=attention,
        classes=_classes(args, fields, cfg),
        preprocessing=preprocessing(cfg),
        interpolation=text(cfg.get("interpolation"), "interpolation"),
        input_size=input_size,
    )


def preprocessing(cfg: Mapping[str, Any]) -> Preprocessing | None:
    """Returns the preprocessing for timm's ``mean`` and ``std`` of pixels from 0 to 1.

    If one of them is missing, ImageNet's value is used, as in timm. If both are missing, the result
    is None.

    Raises:
        ValueError: pixels from 0 to 1 cannot have this mean or standard deviation.
    """
    mean, std = cfg.get("mean"), cfg.get("std")
    if mean is None and std is None:
        return None
    return standardisation(
        list(IMAGENET.mean) if mean is None else mean,
        list(IMAGENET.std) if std is None else std,
        IMAGENET.scale,
    )


def _height_and_width(input_size: Any) -> tuple[int, int]:
    channels, *size = sizes(input_size, "input_size")
    if channels != 3 or len(size) != 2:
        raise ValueError(
            f"its input_size is {list(input_size)}, which this network cannot have: only [3, "
            "height, width] can be used"
        )
    return size[0], size[1]


def _attention(block_args: Mapping[str, Any]) -> str:
    require_known(block_args, {"attn_layer"}, "model_args.block_args.")
    require_values(block_args, {"attn_layer": tuple(_ATTENTION)})
    return _ATTENTION[block_args.get("attn_layer") or ""]


def _classes(*sections: Mapping[str, Any]) -> int | None:
    """Returns the number of classes from the first section that states it, or None."""
    for section in sections:
        if (number := section.get("num_classes")) is not None:
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise ValueError(f"its num_classes is {number!r}, not a whole number")
            return number
    return None


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is {value!r:.60}, not a JSON object")
    return value
