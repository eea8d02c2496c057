"""The layers that Keras writes into a whole model's file are followed or refused."""

from __future__ import annotations

import json

import h5py
import pytest

from se_resnet.errors import UserError
from se_resnet.weights import pretrained
from tests.helpers import checkpoints


def layer(kind, **config):
    return {"class_name": kind, "config": {"name": kind.lower(), **config}}


def model(*layers):
    return {"class_name": "Functional", "config": {"name": "model", "layers": list(layers)}}


def convolution(size, stride, **config):
    return layer(
        "Conv2D", kernel_size=[size] * 2, strides=[stride] * 2, dilation_rate=[1, 1], **config
    )


START = (layer("InputLayer"), layer("ZeroPadding2D"), convolution(7, 2))
NORM = layer("BatchNormalization", epsilon=1.001e-5)
RELU = layer("Activation", activation="relu")
POOL = layer("MaxPooling2D", pool_size=[3, 3], strides=[2, 2])
BLOCK = (convolution(1, 2), NORM, RELU, convolution(3, 1), NORM, RELU, convolution(1, 1), NORM)
RESNET = (*START, NORM, RELU, POOL, *BLOCK)


@pytest.fixture
def saved(tmp_path):
    """A function that writes a small network of Keras with a configuration of layers."""

    def write(config):
        tensors, _ = checkpoints.make("keras_new")
        with h5py.File(tmp_path / "model.h5", "w") as file:
            for name, value in tensors.items():
                file[name] = value
            if config is not None:
                text = config if isinstance(config, str | bytes) else json.dumps(config)
                file.attrs["model_config"] = text
        return str(tmp_path / "model.h5")

    return write


def test_layers_that_keras_saved_leave_only_the_pixels_assumed(saved):
    weights = pretrained.load(saved(model(*RESNET)))
    assert (weights.variant, weights.bn_epsilon) == ("v1", 1.001e-5)
    (assumed,) = weights.assumed
    assert assumed.startswith("BGR pixels")
    assert len(pretrained.load(saved(None)).assumed) > 1


def test_strides_and_epsilon_of_keras_layers_are_followed(saved):
    other = json.loads(json.dumps(model(*START, *BLOCK, convolution(3, 2))))
    for part in other["config"]["layers"]:
        if "epsilon" in part["config"]:
            part["config"]["epsilon"] = 1e-3
    weights = pretrained.load(saved(other))
    assert (weights.variant, weights.bn_epsilon) == ("v1.5", 1e-3)


def test_a_model_in_a_model_with_augmentation_and_a_head_is_read(saved):
    head = (layer("GlobalAveragePooling2D"), layer("Dropout"), layer("Dense", activation="softmax"))
    whole = model(layer("InputLayer"), layer("RandomFlip"), model(*RESNET), *head)
    for config in (
        whole,
        json.dumps(whole).encode(),
        {**whole, "config": whole["config"]["layers"]},
    ):
        assert pretrained.load(saved(config)).variant == "v1"


@pytest.mark.parametrize(
    "config, words",
    [
        (model(*START, layer("Activation", activation="swish")), "activation.*'swish'.*relu"),
        (model(*START, layer("LeakyReLU")), "LeakyReLU has no place"),
        (model(*START, layer("ReLU", max_value=6.0)), "max_value is 6.0"),
        (model(*START, layer("MaxPooling2D", pool_size=[2, 2])), "pool_size"),
        (model(*START, convolution(3, 1) | {"config": {"dilation_rate": [2, 2]}}), "dilation_rate"),
        (model(layer("InputLayer"), layer("Rescaling"), *RESNET), "Rescaling changes the pixels"),
        (model(layer("InputLayer"), layer("Lambda"), model(*RESNET)), "Lambda changes the pixels"),
        (model(*START, NORM, layer("BatchNormalization", epsilon=0.1)), "differ in their epsilon"),
        (model(*START, layer("BatchNormalization", epsilon=0)), "not a positive number"),
        ("[]", "not as Keras writes"),
        ("{", "cannot be followed"),
    ],
)
def test_keras_layers_of_another_network_are_refused_by_name(saved, config, words):
    with pytest.raises(UserError, match=f"configuration of layers.*{words}.*save_weights"):
        pretrained.load(saved(config))
