"""Reads ``config.json`` and ``preprocessor_config.json`` of transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from se_resnet.attention import NONE
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.weights import declared_timm
from se_resnet.weights.declaration import (
    Declaration,
    positive,
    require_known,
    require_values,
    sizes,
    standardisation,
)

_FIXED: dict[str, tuple[Any, ...]] = {
    "num_channels": (3,),
    "layer_type": ("bottleneck",),
    "hidden_act": ("relu",),
    "downsample_in_first_stage": (False,),
    "downsample_in_bottleneck": (False, True),
}
_SHAPE = {"embedding_size", "hidden_sizes", "depths"}
# Fields of every configuration: names, versions, training, and selection of outputs.
_COMMON = {
    *("architectures", "model_type", "transformers_version", "dtype", "torch_dtype"),
    *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    *("out_features", "out_indices", "stage_names", "chunk_size_feed_forward"),
    *("output_hidden_states", "output_attentions", "return_dict", "use_return_dict"),
    *("initializer_range", "is_encoder_decoder", "tie_word_embeddings", "torchscript"),
    *("license", "description", "tags"),
}
_CLASSES = {"ResNetModel", "ResNetForImageClassification", "ResNetBackbone"}

_RESAMPLE = (
    "nearest",
    "lanczos",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
)  # in the order of Pillow's numbers
_PROCESSORS = tuple(
    f"{name}{kind}"
    for name in ("ConvNext", "ViT", "Bit", "CLIP", "TimmWrapper")
    for kind in ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
)
_PROCESSOR_FIXED: dict[str, tuple[Any, ...]] = {
    "do_flip_channel_order": (False,),
    "rescale_offset": (False,),
    "offset": (False,),
    "image_processor_type": _PROCESSORS,
    "feature_extractor_type": _PROCESSORS,
    "do_rescale": (False, True),
    "do_normalize": (False, True),
}
_PROCESSOR_FACTS = {"image_mean", "image_std", "rescale_factor", "resample", "data_config"}
# Sizes and crops of images, which config.data decides here, and formats of arrays.
_PROCESSOR_FREE = {
    *("do_resize", "size", "crop_pct", "do_center_crop", "crop_size", "do_convert_rgb"),
    *("default_to_square", "do_pad", "pad_size", "data_format", "input_data_format"),
    *("return_tensors", "device", "disable_grouping", "processor_class", "do_reduce_labels"),
    *("architecture", "label_names", "num_classes", "pretrained_cfg"),
}
_PROCESSOR = {*_PROCESSOR_FIXED, *_PROCESSOR_FACTS, *_PROCESSOR_FREE}
FIELDS = frozenset({*_FIXED, *_SHAPE, *_PROCESSOR_FIXED, *_PROCESSOR_FACTS, "model_type"})


def config(fields: Mapping[str, Any]) -> Declaration:
    """Returns the facts about a network in the ``config.json`` of transformers' ResNet.

    Raises:
        ValueError: the network differs from :class:`se_resnet.models.resnet.ResNet`, or the meaning
            of a field is unknown.
    """
    classes = fields.get("architectures")
    if fields.get("model_type", "resnet") != "resnet":
        raise ValueError(f"its model_type is {fields['model_type']!r:.60}, not 'resnet'")
    if classes is not None and not (isinstance(classes, list) and _CLASSES.issuperset(classes)):
        raise ValueError(f"its architectures are {classes!r:.60}, not ResNets of transformers")
    require_known(fields, {*_FIXED, *_SHAPE, *_COMMON})
    require_values(fields, _FIXED)
    stage_sizes = sizes(_or(fields.get("depths"), [3, 4, 6, 3]), "depths")
    width = sizes([_or(fields.get("embedding_size"), 64)], "embedding_size")[0]
    hidden = sizes(_or(fields.get("hidden_sizes"), [256, 512, 1024, 2048]), "hidden_sizes")
    if hidden != tuple(4 * width * 2**i for i in range(len(stage_sizes))):
        raise ValueError(
            f"its hidden_sizes are {list(hidden)}, not 4 times the embedding_size {width} in the "
            "first stage and doubled in every later stage"
        )
    labels = fields.get("id2label")
    return Declaration(
        library="transformers",
        variant="v1" if fields.get("downsample_in_bottleneck") else "v1.5",
        stage_sizes=stage_sizes,
        width=width,
        attention=NONE,
        classes=len(labels) if isinstance(labels, dict) else None,
    )


def preprocessor(fields: Mapping[str, Any]) -> Declaration:
    """Returns the preprocessing that an image processor's file describes.

    Raises:
        ValueError: :class:`se_resnet.models.preprocessing.Preprocessing` cannot express it, the
            description is ambiguous, or the meaning of a field is unknown.
    """
    if isinstance(fields.get("image_processor"), dict):  # a processor of images and other data
        fields = fields["image_processor"]
    require_known(fields, _PROCESSOR)
    require_values(fields, _PROCESSOR_FIXED)
    resample = fields.get("resample")
    if resample is not None and (type(resample) is not int or not 0 <= resample < len(_RESAMPLE)):
        raise ValueError(f"its resample is {resample!r:.60}, not a number of Pillow's filters")
    if isinstance(timm := _or(fields.get("data_config"), fields.get("pretrained_cfg")), dict):
        return Declaration(preprocessing=declared_timm.preprocessing(timm))
    return Declaration(
        preprocessing=_preprocessing(fields),
        interpolation=None if resample is None else _RESAMPLE[resample],
    )


def _preprocessing(fields: Mapping[str, Any]) -> Preprocessing:
    scale = 1.0
    if fields.get("do_rescale") is not False:
        factor = positive(_or(fields.get("rescale_factor"), 1 / 255), "rescale_factor")
        # A rounded value such as 0.00392156862745098 also means 1 / 255.
        scale = 1 / 255 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else factor
    mean, std = fields.get("image_mean"), fields.get("image_std")
    if fields.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    elif mean is None or std is None:
        raise ValueError(
            "it lacks image_mean or image_std, whose defaults differ between image processors"
        )
    if fields.get("do_rescale") is False and not any(v > 1 for v in _numbers(mean)):
        raise ValueError(
            "its do_rescale is false, which leaves open whether the network takes pixels from 0 to "
            "1 or from 0 to 255"
        )
    if fields.get("do_normalize") is False:
        return Preprocessing("RGB", (0.0,) * 3, (1.0,) * 3, scale)
    return standardisation(mean, std, scale)


def _numbers(value: Any) -> list[float]:
    return [v for v in value if isinstance(v, int | float)] if isinstance(value, list) else []


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
