"""Our ResNet50 v1 computes what Keras' own does, given the same tensors."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from se_resnet.convert import backbone_from_keras
from se_resnet.resnet import create_model

keras = pytest.importorskip("keras")

CLASSES = 7
STAGES = {
    "stem": "pool1_pool",
    "stage1": "conv2_block3_out",
    "stage2": "conv3_block4_out",
    "stage3": "conv4_block6_out",
    "stage4": "conv5_block3_out",
}


def layer_names(stage, block, convolution):
    if stage == 0:
        return "conv1_conv", "conv1_bn"
    prefix = f"conv{stage + 1}_block{block}_{convolution}"
    return f"{prefix}_conv", f"{prefix}_bn"


def random_tensor(rng, name, shape):
    """Values as in trained networks, and biases that are not zero."""
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    spread = np.sqrt(2 / np.prod(shape[:-1])) if name == "kernel" else 0.2
    return rng.normal(0, spread, shape)


@pytest.mark.parametrize("size", [(224, 224), (129, 97)])
def test_stages_and_logits_equal_keras(size):
    reference = keras.applications.ResNet50(
        weights=None, input_shape=(*size, 3), classes=CLASSES, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in reference.layers:
        for weight in layer.weights:
            value = random_tensor(rng, weight.name, weight.shape).astype(np.float32)
            weight.assign(value)
            tensors[f"{layer.name}/{weight.name}"] = value
    outputs = [reference.get_layer(name).output for name in STAGES.values()]
    images = rng.normal(0, 1, (2, *size, 3)).astype(np.float32)
    *expected_stages, expected = keras.Model(reference.input, [*outputs, reference.output])(images)

    variables = unflatten_dict(backbone_from_keras(tensors, layer_names), sep="/")
    variables["params"]["head"] = {
        name: tensors[f"predictions/{name}"] for name in ("kernel", "bias")
    }
    model = create_model(
        attention="none",
        variant="v1",
        bn_epsilon=reference.get_layer("conv1_bn").epsilon,
        num_outputs=CLASSES,
    )
    logits, stages = jax.jit(lambda x: model.apply(variables, x, train=False, return_stages=True))(
        images
    )

    for name, theirs in zip([*STAGES, "logits"], [*expected_stages, expected], strict=True):
        ours, theirs = np.asarray(stages.get(name, logits)), np.asarray(theirs)
        assert ours.shape == theirs.shape
        spread = theirs.std()
        assert spread > 0.1 * np.abs(theirs).mean(), f"{name} tells nothing"
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * spread, err_msg=name)
