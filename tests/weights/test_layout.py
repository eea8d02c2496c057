from __future__ import annotations

import itertools

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.models.preprocessing import CAFFE, IMAGENET
from se_resnet.weights import layout as layouts
from tests.helpers import checkpoints

FACTS = {
    "keras_old": ("v1", 1e-3, CAFFE),
    "keras_new": ("v1", 1.001e-5, CAFFE),
    "torch": ("v1.5", 1e-5, IMAGENET),
    "transformers": ("v1.5", 1e-5, IMAGENET),
}


def assert_equal(ours, expected):
    assert ours.keys() == expected.keys()
    for path, value in expected.items():
        assert ours[path].dtype == np.float32
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("naming", checkpoints.NAMINGS)
def test_every_naming_is_recognised_and_laid_out(naming, top):
    theirs, ours = checkpoints.make(naming, top=top)
    layout = layouts.recognise(theirs, "file")
    assert_equal(layout.variables, ours)
    assert layout.attention == "none"
    found = layout.naming
    assert (found.variant, found.bn_epsilon, found.preprocessing) == FACTS[naming]
    assert layouts.architecture(ours) == (checkpoints.STAGE_SIZES, checkpoints.WIDTH)


@pytest.mark.parametrize("reduction", [8, 16])
def test_trained_gates_come_along(reduction):
    theirs, ours = checkpoints.make("torch", reduction=reduction)
    layout = layouts.recognise(theirs, "file")
    assert_equal(layout.variables, ours)
    assert layout.attention == "se"
    assert layout.attention_options == {"reduction": reduction, "gate": "sigmoid"}


def test_transformers_backbone_alone_has_no_prefix():
    theirs, ours = checkpoints.make("transformers", top=False)
    bare = {name.removeprefix("resnet."): value for name, value in theirs.items()}
    assert_equal(layouts.recognise(bare, "file").variables, ours)


def test_other_float_types_become_float32():
    theirs, _ = checkpoints.make("torch")
    halves = {name: value.astype(np.float16) for name, value in theirs.items()}
    for value in layouts.recognise(halves, "file").variables.values():
        assert value.dtype == np.float32


def without(name):
    return lambda tensors: tensors.pop(name)


def replaced(name, change):
    return lambda tensors: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    "spoil, words",
    [
        (without("layer1.0.conv3.weight"), ["has nothing for params/stage1/block1/conv3/kernel"]),
        (without("bn1.running_var"), ["has nothing for batch_stats/stem/norm/var"]),
        (without("fc.bias"), ["nothing for params/head/bias"]),
        (without("layer2.0.se.fc1.weight"), ["nothing for params/stage2/block1/attention/reduce"]),
        (without("layer1.0.se.fc1.weight"), ["params/stage1/block1/attention"]),
        (without("conv1.weight"), ["nothing for params/stem/conv/kernel"]),
        (lambda t: t.update(extra=np.ones(3)), ["'extra'", "torchvision or timm"]),
        (
            replaced("layer1.0.conv2.weight", lambda v: v[:, :1]),
            ["(3, 3, 1, 16)", "(3, 3, 16, 16)"],
        ),
        (replaced("layer1.1.bn1.weight", lambda v: v[None]), ["stage1/block2/norm1/scale"]),
        (replaced("fc.weight", lambda v: v[:, :5]), ["params/head/kernel", "(5, 3)"]),
        (replaced("bn1.bias", lambda v: v * np.nan), ["'bn1.bias'", "not finite"]),
        (replaced("bn1.bias", lambda v: v.astype(float) * 1e300), ["'bn1.bias'", "not finite"]),
        (replaced("bn1.running_var", lambda v: -v), ["stem/norm/var", "negative"]),
        (replaced("conv1.weight", lambda v: v[0, 0, 0, 0]), ["params/stem/conv/kernel"]),
        (lambda t: t.clear(), ["holds 0 tensors", "'layer1.0.conv1.weight'"]),
    ],
)
def test_what_is_not_whole_is_refused(spoil, words):
    tensors, _ = checkpoints.make("torch", reduction=16)
    spoil(tensors)
    with pytest.raises(UserError) as error:
        layouts.recognise(tensors, "the/file")
    assert all(word in str(error.value) for word in ["config.model.pretrained", "the/file", *words])


@pytest.mark.parametrize(
    "name, words",
    [
        ("blocks.0.mlp.fc1.weight", ["'blocks.0.mlp.fc1.weight'", "fit no ResNet", "Keras"]),
        ("layer1.0.conv1", ["fit no ResNet"]),
    ],
)
def test_what_is_no_resnet_is_refused_with_what_was_found(name, words):
    with pytest.raises(UserError) as error:
        layouts.recognise({name: np.ones(3)}, "file")
    assert all(word in str(error.value) for word in words)


def grouped(tensors):
    """As in a ResNeXt: every 3x3 convolution sees a part of its channels."""
    for name in [name for name in tensors if "layer" in name and name.endswith("conv2.weight")]:
        tensors[name] = tensors[name][:, :4]


def wide(tensors):
    """As in a Wide ResNet: twice the channels inside of the blocks."""
    for name in [name for name in tensors if name.startswith("layer")]:
        if name.endswith(("conv1.weight", "conv2.weight")):
            tensors[name] = np.repeat(tensors[name], 2, axis=0)
        if name.endswith(("conv2.weight", "conv3.weight")):
            tensors[name] = np.repeat(tensors[name], 2, axis=1)


def renamed(old, new):
    def rename(tensors):
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return rename


@pytest.mark.parametrize(
    "change, words",
    [
        (grouped, "ResNeXt, whose 3x3 convolutions have 4 groups"),
        (wide, "Wide ResNet"),
        (renamed(".se.", ".se_module."), "legacy_seresnet50, whose max-pooling has no padding"),
        (renamed(".se.fc1", ".se_layer.fc.0"), "MONAI's SEResNet"),
        (renamed(".se.fc1", ".se.conv"), "ECA"),
        (renamed("running", "other"), "keep no running statistics"),
        (renamed("downsample.1", "downsample.2"), "shortcuts average"),
        (lambda t: t.update({"conv1.3.weight": t["conv1.weight"]}), "three 3x3 convolutions"),
        (
            lambda t: t.update({"backbone.fpn.weight": np.ones(1)}),
            "a larger network",
        ),
        (lambda t: t.update({"x.attn.qkv.weight": np.ones(1)}), "vision transformer"),
    ],
)
def test_a_relative_is_refused_with_what_to_take_instead(change, words):
    tensors, _ = checkpoints.make("torch", reduction=16)
    change(tensors)
    with pytest.raises(UserError, match=f"{words}.*: take weights of a plain ResNet50"):
        layouts.recognise(tensors, "file")


@pytest.mark.parametrize("naming", ["torch", "transformers"])
@pytest.mark.parametrize(
    "prefix", ["module.", "model.backbone.", "_orig_mod.", "encoder.", "x.net."]
)
def test_a_prefix_of_all_names_is_removed_and_told(naming, prefix):
    tensors, ours = checkpoints.make(naming)
    layout = layouts.recognise({prefix + name: v for name, v in tensors.items()}, "file")
    assert_equal(layout.variables, ours)
    assert layout.notes == (f"the prefix {prefix!r} of their names was removed",)


@pytest.mark.parametrize(
    "head",
    [
        {"model.head.weight": np.ones((2, 512))},
        {"model.fc.1.weight": np.ones((2, 512)), "model.fc.1.bias": np.ones(2)},
    ],
)
def test_a_head_beside_the_prefix_is_left_out_and_told(head):
    tensors, ours = checkpoints.make("torch", top=False)
    wrapped = {f"model.backbone.{name}": value for name, value in tensors.items()}
    layout = layouts.recognise({**wrapped, **head}, "file")
    assert_equal(layout.variables, ours)
    assert "was left out" in layout.notes[1]


@pytest.mark.parametrize(
    "others, words",
    [
        (
            {"classifier.0.weight": np.ones((2, 8, 3, 3))},
            "'classifier.0.weight'",
        ),  # of segmentation
        ({"normalize.mean": np.ones(3)}, "'normalize.mean'"),
        ({"backbone.extra": np.ones(3)}, "'extra'.*safetensors.torch.save_file"),
    ],
)
def test_what_may_be_more_than_a_head_is_refused(others, words):
    tensors, _ = checkpoints.make("torch", top=False)
    wrapped = {f"backbone.{name}": value for name, value in tensors.items()}
    with pytest.raises(UserError, match=words):
        layouts.recognise({**wrapped, **others}, "file")


def test_two_networks_under_two_prefixes_are_refused_by_both():
    tensors, _ = checkpoints.make("torch")
    both = {f"{p}.{name}": value for p in ("student", "teacher") for name, value in tensors.items()}
    with pytest.raises(UserError, match=r"'student\.' and 'teacher\.'"):
        layouts.recognise(both, "file")


def test_names_for_the_same_tensor_are_refused():
    tensors, _ = checkpoints.make("transformers")
    bare = {name.removeprefix("resnet."): value for name, value in tensors.items()}
    with pytest.raises(UserError, match="twice"):
        layouts.recognise({**tensors, **bare}, "file")


def dense(*sizes):
    layers = {}
    for i, shape in enumerate(itertools.pairwise(sizes)):
        layers |= {f"dense_{i}/kernel": np.ones(shape), f"dense_{i}/bias": np.ones(shape[1])}
    return layers


def test_dense_layers_on_a_keras_network_are_left_out_and_told():
    tensors, ours = checkpoints.make("keras_new", top=False)
    channels = ours["params/stage2/block1/conv3/kernel"].shape[-1]
    layout = layouts.recognise({**tensors, **dense(channels, 64, 1)}, "file")
    assert_equal(layout.variables, ours)
    assert "dense_0/bias" in layout.notes[0]


@pytest.mark.parametrize(
    "others",
    [
        dense(128, 8, 128),  # a gate
        dense(64, 4, 64),  # a gate in a lower stage
        {"normalization/mean": np.ones(3), "normalization/variance": np.ones(3)},
        {"stem/kernel": np.ones((3, 3, 3, 3))},
    ],
)
def test_other_layers_of_a_keras_model_are_refused_with_a_remedy(others):
    tensors, _ = checkpoints.make("keras_new", top=False)
    with pytest.raises(UserError, match=r"get_layer\('resnet50'\)\.save_weights"):
        layouts.recognise({**tensors, **others}, "file")


@pytest.mark.parametrize("module", ["se", "ca", "coordatt"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_coordinate_attention_comes_with_folded_normalisation(module, with_bias):
    tensors, _ = checkpoints.make("torch")
    rng = np.random.default_rng(3)
    place = "layer1.1."
    for block, channels in (("layer1.0.", 64), (place, 64), ("layer2.0.", 128)):
        for name, outputs, inputs in (
            ("conv1", 8, channels),
            ("conv_h", channels, 8),
            ("conv_w", channels, 8),
        ):
            kernel = rng.normal(size=(outputs, inputs, 1, 1)).astype(np.float32)
            tensors[f"{block}{module}.{name}.weight"] = kernel
            if with_bias:
                bias = rng.normal(size=outputs).astype(np.float32)
                tensors[f"{block}{module}.{name}.bias"] = bias
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            value = rng.uniform(0.5, 1.5, 8).astype(np.float32)
            tensors[f"{block}{module}.bn1.{leaf}"] = value
    layout = layouts.recognise(tensors, "file")
    assert (layout.attention, layout.attention_options["gate"]) == ("coord", "sigmoid")

    def theirs(part, leaf="weight"):
        default = np.zeros(1)
        return tensors.get(f"{place}{module}.{part}.{leaf}", default).astype(np.float64).squeeze()

    def dense(x, part):
        return x @ theirs(part).T + theirs(part, "bias")

    # After the authors' own code, in float64.
    features = rng.normal(size=(2, 5, 7, 64))
    lines = np.concatenate([features.mean(2), features.mean(1)], axis=1)
    y = (dense(lines, "conv1") - theirs("bn1", "running_mean")) / np.sqrt(
        theirs("bn1", "running_var") + 1e-5
    )
    y = y * theirs("bn1") + theirs("bn1", "bias")
    y = y * np.clip(y + 3, 0, 6) / 6
    rows, columns = (
        1 / (1 + np.exp(-dense(part, name)))
        for part, name in ((y[:, :5], "conv_h"), (y[:, 5:], "conv_w"))
    )
    expected = features * rows[:, :, None] * columns[:, None]
    prefix = "params/stage1/block2/attention/"
    params = unflatten_dict(
        {k.removeprefix(prefix): v for k, v in layout.variables.items() if k.startswith(prefix)},
        sep="/",
    )
    module = attention.create("coord", **layout.attention_options)
    ours = module.apply({"params": params}, features.astype(np.float32))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_a_resnet_of_basic_blocks_is_refused():
    tensors, _ = checkpoints.make("torch")
    for name in [name for name in tensors if "conv3" in name or "bn3" in name]:
        del tensors[name]
    with pytest.raises(UserError, match="basic blocks.*: take weights of a plain ResNet50"):
        layouts.recognise(tensors, "file")


def test_a_numbering_with_a_gap_is_refused():
    tensors, _ = checkpoints.make("torch")
    far = {name.replace("layer1.1.", "layer1.99999999."): value for name, value in tensors.items()}
    with pytest.raises(UserError, match="nothing for .*stage1/block2/"):
        layouts.recognise(far, "file")
