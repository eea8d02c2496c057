"""Every attention module against its paper: its formula in plain numpy, its parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from se_resnet import attention
from se_resnet.models.resnet import count_parameters
from tests.helpers.networks import options_of

SHAPE = (2, 7, 5, 32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def se(x, p, factor):
    hidden = relu(x.mean((1, 2)) @ p["reduce"]["kernel"] + p["reduce"]["bias"])
    gates = factor * sigmoid(hidden @ p["expand"]["kernel"] + p["expand"]["bias"])
    return x * gates[:, None, None]


def ese(x, p, factor):
    gates = factor * sigmoid(x.mean((1, 2)) @ p["dense"]["kernel"] + p["dense"]["bias"])
    return x * gates[:, None, None]


def eca(x, p, factor):
    kernel = p["conv"]["kernel"][:, 0, 0]
    padded = np.pad(x.mean((1, 2)), ((0, 0), (len(kernel) // 2, len(kernel) // 2)))
    gates = np.stack([padded[:, c : c + len(kernel)] @ kernel for c in range(x.shape[-1])], 1)
    return x * factor * sigmoid(gates)[:, None, None]


def cbam(x, p, factor):
    def perceptron(pooled):
        return relu(pooled @ p["reduce"]["kernel"]) @ p["expand"]["kernel"]

    gates = factor * sigmoid(perceptron(x.mean((1, 2))) + perceptron(x.max((1, 2))))
    x = x * gates[:, None, None]
    padded = np.pad(np.stack([x.mean(-1), x.max(-1)], -1), ((0, 0), (3, 3), (3, 3), (0, 0)))
    out = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            logits = (padded[:, i : i + 7, j : j + 7] * p["conv"]["kernel"][..., 0]).sum((1, 2, 3))
            out[:, i, j] = x[:, i, j] * factor * sigmoid(logits)[:, None]
    return out


def coord(x, p, factor):
    def shared(line):
        y = line @ p["shared"]["kernel"] + p["shared"]["bias"]
        return y * np.clip(y + 3, 0, 6) / 6

    out = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            row = shared(x[:, i].mean(1)) @ p["rows"]["kernel"] + p["rows"]["bias"]
            column = shared(x[:, :, j].mean(1)) @ p["columns"]["kernel"] + p["columns"]["bias"]
            out[:, i, j] = x[:, i, j] * factor * sigmoid(row) * factor * sigmoid(column)
    return out


def gc(x, p, factor):
    out = np.empty_like(x)
    for n, image in enumerate(x):
        weights = np.exp(image @ p["pool"]["kernel"][:, 0])
        context = (image * (weights / weights.sum())[..., None]).sum((0, 1))
        hidden = context @ p["reduce"]["kernel"] + p["reduce"]["bias"]
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
        hidden = relu(hidden * p["norm"]["scale"] + p["norm"]["bias"])
        out[n] = image + hidden @ p["expand"]["kernel"] + p["expand"]["bias"]
    return out


def simam(x, p, factor):
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    energy = 4 * (variance + 1e-4) / ((x - mean) ** 2 + 2 * variance + 2e-4)
    return x * sigmoid(1 / energy)


REFERENCES = {f.__name__: f for f in (se, ese, eca, cbam, coord, gc, simam)}
# By number of channels and of units in the hidden layer.
PARAMETERS = {
    "se": lambda c, m: 2 * c * m + m + c,
    "ese": lambda c, m: c * c + c,
    "eca": lambda c, m: {64: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 2048: 7}[c],
    "cbam": lambda c, m: 2 * c * m + 2 * 7 * 7,
    "coord": lambda c, m: (c * m + m) + 2 * (m * c + c),
    "gc": lambda c, m: c + (c * m + m) + 2 * m + (m * c + c),
    "simam": lambda c, m: 0,
}


def test_every_module_has_a_reference_and_a_count():
    assert set(REFERENCES) == set(PARAMETERS) == set(attention.REGISTRY)


@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 1, 32)])
@pytest.mark.parametrize("gate", ["identity", "sigmoid"])
@pytest.mark.parametrize("name", attention.REGISTRY)
def test_a_module_computes_the_formula_of_its_paper(name, gate, shape):
    options = options_of(name, reduction=4, gate=gate)
    if "gate" not in options and gate == "sigmoid":
        pytest.skip("has no choice of gates")
    module = attention.create(name, **options)
    rng = np.random.default_rng(1)
    features = rng.normal(0.3, 1, shape)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape)).get("params", {})
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape), shapes)

    expected = REFERENCES[name](features, params, 2 if gate == "identity" else 1)
    actual = module.apply({"params": params}, jnp.asarray(features, jnp.float32))
    assert np.abs(expected - features).max() > 0.1
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [64, 128, 256, 512, 1024, 2048])
@pytest.mark.parametrize("name", attention.REGISTRY)
def test_parameters_are_as_many_as_the_paper_says(name, channels):
    module = attention.create(name)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 3, 3, channels)))
    hidden = max(8, channels // 32) if name == "coord" else channels // 16
    assert count_parameters(shapes) == PARAMETERS[name](channels, hidden)


def test_the_kernel_of_eca_grows_with_its_options():
    eca = attention.REGISTRY["eca"]
    assert [eca().kernel_size(c) for c in (1, 2, 64, 128, 4096)] == [1, 1, 3, 5, 7]
    assert [eca(gamma=1).kernel_size(64), eca(b=5).kernel_size(64)] == [7, 5]
