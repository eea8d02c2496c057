"""Our ResNet50 v1 computes what Keras' own does, from the files that Keras writes."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from se_resnet.weights import pretrained
from tests.helpers import parity

keras = pytest.importorskip("keras")

CLASSES = 7
OUTPUTS = (
    "pool1_pool",
    "conv2_block3_out",
    "conv3_block4_out",
    "conv4_block6_out",
    "conv5_block3_out",
)


def random_tensor(rng, name, shape):
    """Values as in trained networks, and biases that are not zero."""
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    spread = np.sqrt(2 / np.prod(shape[:-1])) if name == "kernel" else 0.2
    return rng.normal(0, spread, shape)


@pytest.mark.full_optimisation
@pytest.mark.compiled
@pytest.mark.parametrize(
    "size, top, name", [((224, 224), True, "model.h5"), ((129, 97), False, "it.weights.h5")]
)
def test_stages_and_logits_equal_keras(tmp_path, size, top, name):
    reference = keras.applications.ResNet50(
        weights=None,
        input_shape=(*size, 3),
        include_top=top,
        classes=CLASSES,
        classifier_activation=None,
    )
    rng = np.random.default_rng(0)
    for layer in reference.layers:
        for weight in layer.weights:
            weight.assign(random_tensor(rng, weight.name, weight.shape).astype(np.float32))
    path = tmp_path / name
    (reference.save_weights if name.endswith(".weights.h5") else reference.save)(path)

    images = rng.normal(0, 1, (2, *size, 3)).astype(np.float32)
    outputs = [reference.get_layer(layer).output for layer in OUTPUTS]
    results = keras.Model(reference.input, [*outputs, reference.output])(images)
    expected = dict(zip([*parity.STAGES, "logits"], map(np.asarray, results), strict=True))
    if not top:
        del expected["logits"]
    parity.check(path, images, expected)
    epsilon = reference.get_layer("conv1_bn").epsilon
    assert pretrained.load(str(path)).bn_epsilon == pytest.approx(epsilon)
