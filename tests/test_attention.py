from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from se_resnet import attention
from se_resnet.errors import UserError

FEATURES = jax.random.normal(jax.random.key(1), (2, 5, 3, 32))


@pytest.mark.parametrize("name", sorted(attention.REGISTRY))
@pytest.mark.parametrize("shape", [(2, 5, 3, 32), (1, 1, 1, 4)])
def test_every_module_keeps_shape_and_dtype(name, shape):
    output, _ = attention.create(name).init_with_output(jax.random.key(0), jnp.ones(shape))
    assert output.shape == shape
    assert output.dtype == jnp.float32


def test_se_is_exactly_the_identity_at_the_start():
    output, _ = attention.create("se").init_with_output(jax.random.key(0), FEATURES)
    np.testing.assert_array_equal(output, FEATURES)


@pytest.mark.parametrize("gate, factor", [("identity", 2.0), ("sigmoid", 1.0)])
def test_se_computes_the_formula_of_the_paper(gate, factor):
    module = attention.create("se", reduction=4, gate=gate)
    shapes = jax.eval_shape(module.init, jax.random.key(0), FEATURES)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    assert params["reduce"]["kernel"].shape == (32, 8)

    hidden = np.asarray(FEATURES).mean(axis=(1, 2)) @ params["reduce"]["kernel"]
    hidden = np.maximum(hidden + params["reduce"]["bias"], 0)
    logits = hidden @ params["expand"]["kernel"] + params["expand"]["bias"]
    gates = factor / (1 + np.exp(-logits))

    output = module.apply({"params": params}, FEATURES)
    np.testing.assert_allclose(output, FEATURES * gates[:, None, None, :], rtol=1e-5, atol=1e-6)


def test_se_trained_gate_does_not_start_as_identity():
    output, _ = attention.create("se", gate="sigmoid").init_with_output(jax.random.key(0), FEATURES)
    assert np.abs(output).max() < np.abs(FEATURES).max()


def test_none_is_no_module():
    assert attention.create("none") is None


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("sé", {}, ["'sé'", "none", "se"]),
        ("se", {"ratio": 4}, ["ratio", "gate, reduction"]),
        ("none", {"reduction": 4}, ["reduction"]),
        ("se", {"gate": "hard"}, ["'hard'", "identity", "sigmoid"]),
        ("se", {"reduction": 0}, ["reduction", "0"]),
        ("se", {"reduction": 2.5}, ["reduction", "2.5"]),
    ],
)
def test_mistakes_are_named(name, options, words):
    with pytest.raises(UserError) as error:
        attention.create(name, **options)
    assert all(word in str(error.value) for word in words)


def test_a_registered_module_can_be_made_by_name(monkeypatch):
    monkeypatch.setattr(attention, "REGISTRY", dict(attention.REGISTRY))

    @attention.register("double")
    class Double(nn.Module):
        factor: float = 2.0

        def __call__(self, features):
            return self.factor * features

    assert isinstance(attention.create("double", factor=3.0), Double)
    for taken in ("double", "none"):
        with pytest.raises(ValueError, match=taken):
            attention.register(taken)
