from __future__ import annotations

import numpy as np
import pytest

from se_resnet import layouts
from se_resnet.errors import UserError
from se_resnet.preprocessing import CAFFE, IMAGENET
from tests import checkpoints

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
        ("blocks.0.attn.qkv.weight", ["'blocks.0.attn.qkv.weight'", "fit no ResNet", "Keras"]),
        ("conv2_block1_preact_bn/gamma", ["fit no ResNet"]),  # ResNet50V2
        ("layer1.0.conv1", ["fit no ResNet"]),
    ],
)
def test_what_is_no_resnet_is_refused_with_what_was_found(name, words):
    with pytest.raises(UserError) as error:
        layouts.recognise({name: np.ones(3)}, "file")
    assert all(word in str(error.value) for word in words)


def test_a_resnet_of_basic_blocks_is_refused():
    tensors, _ = checkpoints.make("torch")
    for name in [name for name in tensors if "conv3" in name or "bn3" in name]:
        del tensors[name]
    with pytest.raises(UserError, match="nothing for .*stage1/block1/norm3"):
        layouts.recognise(tensors, "file")


def test_a_numbering_with_a_gap_is_refused():
    tensors, _ = checkpoints.make("torch")
    far = {name.replace("layer1.1.", "layer1.99999999."): value for name, value in tensors.items()}
    with pytest.raises(UserError, match="nothing for .*stage1/block2/"):
        layouts.recognise(far, "file")
