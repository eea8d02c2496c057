"""What new attention does to the shipped ImageNet weights; the whole network, so these are slow."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from se_resnet import attention
from se_resnet.models.resnet import create_model
from se_resnet.weights import pretrained

pytestmark = [pytest.mark.slow, pytest.mark.full_optimisation]
IDENTITY = sorted(set(attention.REGISTRY) - {"simam"})


@functools.cache
def run(name, position="branch"):
    """Logits of two photographs, ``[2, 1000]``, and the stages' features."""
    weights = pretrained.load("imagenet")
    images = weights.preprocessing(np.stack(load_sample_images().images)[:, ::2, ::2])
    model = create_model(attention=name, attention_position=position, num_outputs=1000)
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))
    variables["params"]["head"] = pretrained.load_head("imagenet")
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False, return_stages=True))
    return jax.tree.map(np.asarray, apply(variables, images))


@pytest.mark.parametrize("position", ["branch", "stage"])
@pytest.mark.parametrize("name", IDENTITY)
def test_new_modules_keep_the_pretrained_logits_bit_for_bit(name, position):
    np.testing.assert_array_equal(run(name, position)[0], run("none")[0])


def test_simam_changes_pretrained_features_as_its_docstring_says():
    (expected, before), (actual, after) = run("none"), run("simam")

    def deviation(a, b):
        return np.linalg.norm(a - b) / np.linalg.norm(b)

    assert deviation(after["stage1"], before["stage1"]) == pytest.approx(0.39, abs=0.01)
    assert deviation(after["stage4"], before["stage4"]) == pytest.approx(0.51, abs=0.01)
    assert deviation(actual, expected) == pytest.approx(0.36, abs=0.01)
