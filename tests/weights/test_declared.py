"""What lies beside foreign weights is followed or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from se_resnet.errors import UserError
from se_resnet.models.preprocessing import IMAGENET
from se_resnet.weights import declared_timm, declared_transformers, pretrained
from tests.helpers import checkpoints

TIMM = {
    "architecture": "seresnet50",
    "num_classes": checkpoints.CLASSES,
    "num_features": 2048,
    "global_pool": "avg",
    "model_args": {
        "layers": list(checkpoints.STAGE_SIZES),
        "drop_rate": 0.2,
        "zero_init_last": False,
        "act_layer": "relu",
        "aa_layer": None,
        "block_args": {"attn_layer": "se"},
    },
    "pretrained_cfg": {
        "tag": "mine",
        "input_size": [3, 224, 224],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "mean": [0.7, 0, 1],
        "std": [0.25, 0.5, 1],
        "first_conv": "conv1",
        "classifier": "fc",
    },
}
TRANSFORMERS = {
    "architectures": ["ResNetForImageClassification"],
    "model_type": "resnet",
    "depths": [3, 4, 6, 3],
    "hidden_sizes": [256, 512, 1024, 2048],
    "embedding_size": 64,
    "hidden_act": "relu",
    "layer_type": "bottleneck",
    "num_channels": 3,
    "downsample_in_first_stage": False,
    "id2label": {"0": "a", "1": "b"},
    "torch_dtype": "float32",
}
PROCESSOR = {
    "image_processor_type": "ConvNextImageProcessor",
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.25, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "size": 224,
}


def changed(base, **change):
    """A copy, with the fields of a nested object joined to those that are there."""
    result = json.loads(json.dumps(base))
    for name, value in change.items():
        nested = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = {**result[name], **value} if nested else value
    return result


def test_what_timm_says_is_read():
    said = declared_timm.config(TIMM)
    assert (said.variant, said.stage_sizes, said.width) == ("v1.5", checkpoints.STAGE_SIZES, 64)
    assert (said.attention, said.classes, said.interpolation) == ("se", 3, "bicubic")
    assert (said.preprocessing.mean, said.preprocessing.std) == ((0.7, 0, 1), (0.25, 0.5, 1))
    assert said.preprocessing.scale == 1 / 255


def test_the_older_flat_form_of_timm_is_read():
    flat = {"architecture": "resnet101", **TIMM["pretrained_cfg"]}
    said = declared_timm.config(flat)
    assert (said.stage_sizes, said.attention) == ((3, 4, 23, 3), "none")
    assert said.preprocessing.mean == (0.7, 0, 1)
    assert declared_timm.config({"architecture": "resnet50"}).preprocessing is None
    mean_only = declared_timm.config({"architecture": "resnet50", "mean": [0.5] * 3})
    assert mean_only.preprocessing.std == IMAGENET.std


@pytest.mark.parametrize(
    "architecture",
    [
        *("resnetaa50", "resnet50d", "resnet50c", "resnet50t", "resnet50s", "seresnet50t"),
        *("ecaresnet50t", "resnetrs50", "resnet50_gn", "resnetblur50", "skresnet50"),
        *("wide_resnet50_2", "resnext50_32x4d", "legacy_seresnet50", "resnet18", "resnetv2_50"),
        *("seresnetaa50d", "cspresnet50", "vit_base_patch16_224", "", None),
    ],
)
def test_another_architecture_of_timm_is_refused_by_its_name(architecture):
    with pytest.raises(ValueError, match="its architecture is"):
        declared_timm.config(changed(TIMM, architecture=architecture))


@pytest.mark.parametrize(
    "field, value",
    [
        *(("act_layer", value) for value in ("silu", "hard_swish", "gelu", ["relu"], 3)),
        *(("norm_layer", value) for value in ("groupnorm", "frozenbatchnorm2d", "layernorm2d")),
        *(("aa_layer", value) for value in ("avg", "blurpool", "blur")),
        *(("output_stride", value) for value in (8, 16, "32")),
        *(("stem_type", value) for value in ("deep", "deep_tiered")),
        *(("avg_down", True), ("replace_stem_pool", True), ("cardinality", 32)),
        *(("base_width", 128), ("stem_width", 32), ("down_kernel_size", 3), ("in_chans", 1)),
        *(("block_reduce_first", 2), ("channels", [32, 64, 128, 256]), ("global_pool", "max")),
        *(("block", "BasicBlock"), ("layers", "50"), ("layers", [3, 0]), ("layers", [])),
        *(("block_args", {"attn_layer": a}) for a in ("eca", "cbam", "ese", "hard_se", ["se"])),
        ("block_args", {"attn_layer": "se", "attn_kwargs": {"gate_layer": "hard_sigmoid"}}),
        *(("block_args", "se"), ("num_classes", -1), ("num_classes", "3"), ("dilation", 2)),
    ],
)
def test_a_timm_argument_that_changes_the_network_is_refused(field, value):
    with pytest.raises(ValueError, match=field if field != "block_args" else "att|block_args"):
        declared_timm.config(changed(TIMM, model_args={field: value}))


@pytest.mark.parametrize(
    "field, value",
    [
        *(("mean", v) for v in ([0.5], 0.5, "ImageNet", [0.5, 0.5, None], [0.5, 0.5, True])),
        *(("mean", v) for v in ([123.675, 116.28, 103.53], [-0.1, 0, 0], [np.inf, 0, 0])),
        *(("std", v) for v in ([0, 0, 0], [1, 1], [-1, 1, 1], [58.4, 57.1, 57.4], [np.nan] * 3)),
        *(("input_size", v) for v in ([1, 224, 224], [4, 224, 224], "224", [3.0, 224, 224])),
        *(("interpolation", 3), ("first_conv", "conv1.0"), ("classifier", "head.fc")),
        *(("custom_load", True), ("global_pool", "catavgmax"), ("brightness", 1)),
    ],
)
def test_a_timm_preprocessing_of_another_meaning_is_refused(field, value):
    with pytest.raises(ValueError, match="mean|std" if field in ("mean", "std") else field):
        declared_timm.config(changed(TIMM, pretrained_cfg={field: value}))
    flat = changed({"architecture": "resnet50"}, **{field: value})
    with pytest.raises(ValueError):
        declared_timm.config(flat)


@pytest.mark.parametrize(
    "change",
    [
        *({"mean": [0.5, 0.5, 0.5]}, {"anti_aliasing": True}, {"pretrained_cfg": []}),
        *({"model_args": [1]}, {"global_pool": "max"}, {"model_type": "timm_backbone"}),
    ],
)
def test_a_field_of_unknown_meaning_beside_timms_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        declared_timm.config({**TIMM, **change})


@pytest.mark.parametrize("v1", [True, False])
def test_what_transformers_say_is_read(v1):
    said = declared_transformers.config(changed(TRANSFORMERS, downsample_in_bottleneck=v1))
    assert said.variant == ("v1" if v1 else "v1.5")
    assert (said.stage_sizes, said.width, said.classes) == ((3, 4, 6, 3), 64, 2)
    assert declared_transformers.config({"model_type": "resnet"}).stage_sizes == (3, 4, 6, 3)


@pytest.mark.parametrize(
    "field, value",
    [
        *(("hidden_act", "silu"), ("hidden_act", "gelu"), ("layer_type", "basic")),
        *(("downsample_in_first_stage", True), ("downsample_in_bottleneck", "yes")),
        *(("num_channels", 1), ("hidden_sizes", [64, 128, 256, 512]), ("embedding_size", 32)),
        *(("embedding_size", "64"), ("depths", [3, 4, 6]), ("depths", 50), ("dilation", 2)),
        *(("model_type", "regnet"), ("model_type", "bit"), ("model_type", None)),
        *(("architectures", ["RegNetModel"]), ("architectures", "ResNetModel")),
        *(("auto_map", {"AutoModel": "mine.Mine"}), ("quantization_config", {})),
    ],
)
def test_another_network_of_transformers_is_refused_by_the_field(field, value):
    words = "hidden_sizes" if field in ("embedding_size", "depths") else field
    with pytest.raises(ValueError, match=f"{words}|{field}"):
        declared_transformers.config(changed(TRANSFORMERS, **{field: value}))


@pytest.mark.parametrize(
    "change, scale, mean, std",
    [
        ({}, 1 / 255, (0.5, 0.25, 0.5), (0.5,) * 3),
        ({"rescale_factor": 0.00392156862745098}, 1 / 255, (0.5, 0.25, 0.5), (0.5,) * 3),
        ({"rescale_factor": 1 / 127.5}, 1 / 127.5, (0.5, 0.25, 0.5), (0.5,) * 3),
        ({"do_normalize": False}, 1 / 255, (0,) * 3, (1,) * 3),
        (
            {"do_rescale": False, "image_mean": [123, 116, 103], "image_std": [58, 57, 57]},
            1.0,
            (123, 116, 103),
            (58, 57, 57),
        ),
    ],
)
def test_an_image_processor_is_followed(change, scale, mean, std):
    said = declared_transformers.preprocessor(changed(PROCESSOR, **change))
    found = said.preprocessing
    assert (found.channel_order, found.scale, found.mean, found.std) == ("RGB", scale, mean, std)
    assert said.interpolation == "bicubic"
    nested = {"image_processor": changed(PROCESSOR, **change), "processor_class": "X"}
    assert declared_transformers.preprocessor(nested) == said


@pytest.mark.parametrize(
    "change, words",
    [
        ({"do_rescale": False}, "do_rescale"),
        ({"do_rescale": False, "do_normalize": False}, "do_rescale"),
        ({"image_mean": None}, "image_mean"),
        ({"image_mean": [0.5]}, "mean"),
        ({"image_mean": [123.0, 116.0, 103.0]}, "pixels from 0 to 1"),
        ({"image_std": [0.5, 0.5, -0.5]}, "std"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"image_processor_type": "MobileViTImageProcessor"}, "image_processor_type"),
        ({"resample": 9}, "resample"),
        ({"do_equalise": True}, "do_equalise"),
    ],
)
def test_an_image_processor_that_means_something_else_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        declared_transformers.preprocessor(changed(PROCESSOR, **change))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that writes a small network's tensors with files beside them."""
    monkeypatch.setattr(checkpoints, "WIDTH", 64)

    def write(files, naming="torch", metadata=None, name="model.safetensors", **options):
        tensors, _ = checkpoints.make(naming, **options)
        tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
        safetensors.numpy.save_file(tensors, tmp_path / name, metadata)
        for file, value in files.items():
            text = value if isinstance(value, str) else json.dumps(value)
            (tmp_path / file).write_text(text)
        return str(tmp_path / name)

    return write


def test_what_lies_beside_the_tensors_is_followed_not_assumed(folder):
    weights = pretrained.load(folder({"config.json": TIMM}, reduction=16))
    assert weights.preprocessing.mean == (0.7, 0, 1)
    assert weights.interpolation == "bicubic" and weights.assumed == ()
    assert weights.facts()["preprocessing"]["mean"] == [0.7, 0, 1]
    assert "followed config.json" in weights.remarks()
    assert any("resized by bicubic" in remark for remark in weights.remarks())


def test_without_mean_and_std_only_these_are_assumed(folder):
    config = changed(TIMM, pretrained_cfg={"mean": None, "std": None})
    weights = pretrained.load(folder({"config.json": config}, reduction=16))
    assert weights.preprocessing == IMAGENET
    (assumed,) = weights.assumed
    assert "mean 0.485" in assumed


def test_a_bare_file_says_what_it_assumes(folder):
    weights = pretrained.load(folder({}, reduction=16))
    told = weights.remarks()[0]
    for word in ("v1.5", "ReLU", "max-pooling", "dilated", "sigmoid", "mean 0.485, 0.456, 0.406"):
        assert word in told
    assert told.startswith("ASSUMED") and weights.facts()["assumed"] == list(weights.assumed)
    saved = pretrained.load(folder({}, "keras_new", name="other.safetensors"))
    assert "BGR pixels of 0 to 255" in saved.remarks()[0]


def test_what_transformers_say_is_followed(folder):
    shape = {"depths": [2, 1], "hidden_sizes": [256, 512], "id2label": {}}
    shape["id2label"] = {str(i): "x" for i in range(checkpoints.CLASSES)}
    config = changed(TRANSFORMERS, downsample_in_bottleneck=True, **shape)
    files = {"config.json": config, "preprocessor_config.json": PROCESSOR}
    weights = pretrained.load(folder(files, "transformers"))
    assert weights.variant == "v1" and weights.preprocessing.mean == (0.5, 0.25, 0.5)
    assert weights.assumed == ()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"architecture": "resnet50", "model_args": {"block_args": None}}, "attention none"),
        ({"model_args": {"layers": [3, 4, 6, 3]}}, "stage sizes"),
        ({"num_classes": 1000}, "classes 1000"),
        ({"architecture": "resnetaa50"}, "resnetaa50"),
    ],
)
def test_a_configuration_that_contradicts_the_tensors_is_refused(folder, change, words):
    with pytest.raises(UserError, match=rf"config\.json.*{words}.*folder"):
        pretrained.load(folder({"config.json": changed(TIMM, **change)}, reduction=16))


def test_gates_of_another_reduction_than_timms_are_refused(folder):
    with pytest.raises(UserError, match="8-fold"):
        pretrained.load(folder({"config.json": TIMM}, reduction=8))


@pytest.mark.parametrize(
    "files, words",
    [
        ({"config.json": TRANSFORMERS}, "library transformers"),
        ({"config.json": {"learning_rate": 1}}, "'learning_rate'.*neither timm's"),
        ({"config.json": {"format": "se_resnet"}}, "model package of this project"),
        ({"config.json": "[]"}, "cannot be read"),
        ({"config.json": '{"architecture": NaN'}, "cannot be read"),
        (
            {"config.json": TIMM, "preprocessor_config.json": PROCESSOR},
            "config.json and preprocessor_config.json contradict",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(folder, files, words):
    with pytest.raises(UserError, match=words):
        pretrained.load(folder(files, reduction=16))


def test_a_header_that_describes_the_network_is_followed(folder):
    metadata = {"format": "pt", "architecture": "seresnet50", "epoch": "7"}
    metadata |= {"model_args": json.dumps(TIMM["model_args"]), "mean": "[0.7, 0.6, 0.5]"}
    weights = pretrained.load(folder({}, metadata=metadata, reduction=16))
    assert weights.preprocessing.mean == (0.7, 0.6, 0.5)
    assert weights.remarks()[0] == "followed its safetensors header"
    with pytest.raises(UserError, match="header cannot be followed.*'resnetaa50'"):
        pretrained.load(folder({}, metadata={**metadata, "architecture": "resnetaa50"}))
    with pytest.raises(UserError, match="header cannot be followed.*'mean'"):
        pretrained.load(folder({}, metadata={"mean": "[0.7, 0.6, 0.5]"}))


def test_a_header_of_notes_alone_changes_nothing(folder):
    notes = {"format": "pt", "num_classes": "2", "dtype": "float32", "input_size": "224"}
    notes |= {"tag": "best", "drop_rate": "0.1", "epoch": "7"}
    weights = pretrained.load(folder({}, metadata=notes, reduction=16))
    assert weights.assumed and not any("header" in remark for remark in weights.remarks())


def test_a_field_that_is_null_says_nothing():
    assert declared_timm.config({**TIMM, "library_version": None}) == declared_timm.config(TIMM)
    said = declared_timm.config({**TIMM, "pretrained_cfg": None})
    assert (said.attention, said.preprocessing) == ("se", None)
    processor = {**PROCESSOR, "image_seq_length": None}
    assert declared_transformers.preprocessor(processor) == declared_transformers.preprocessor(
        PROCESSOR
    )


def test_a_configuration_beside_several_weights_is_refused(folder):
    folder({}, reduction=16, name="b.safetensors")
    path = folder({"config.json": TIMM}, reduction=16, name="a.safetensors")
    with pytest.raises(UserError, match=r"beside b\.safetensors.*either of them"):
        pretrained.load(path)


def test_biases_of_monais_convolutions_need_to_be_explained(folder):
    path = folder({}, top=False)
    tensors = safetensors.numpy.load_file(path)
    tensors["layer1.0.downsample.0.bias"] = np.ones(256, np.float32)
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match="MONAI.*stride of 1"):
        pretrained.load(path)
    said = {"architecture": "resnet50", "model_args": {"layers": [2, 1]}, "mean": [0.5] * 3}
    (pretrained.Path(path).parent / "config.json").write_text(json.dumps(said))
    mean = pretrained.load(path).batch_stats["stage1"]["block1"]["projection"]["norm"]["mean"]
    np.testing.assert_array_equal(mean, tensors["layer1.0.downsample.1.running_mean"] - 1)
