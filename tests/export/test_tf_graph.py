"""The export's TensorFlow operations compute what JAX computes, for any number of images."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.export.tf_graph import to_tensorflow
from se_resnet.models import ops_plain
from se_resnet.models.layers import global_average_pool

RNG = np.random.default_rng(0)
KERNEL = {size: RNG.normal(size=(size, size, 3, 4)).astype(np.float32) for size in (1, 3, 7)}
DENSE = RNG.normal(size=(3, 5)).astype(np.float32)
# Odd and even: where a stride starts differs between them.
SIZES = [(8, 8), (9, 9), (8, 9), (7, 12)]


def check(function, size=(8, 9)) -> None:
    """Features from -127 to 128, so that a border of zeros would win a maximum, and no half."""

    def outputs(images):
        return {"result": function(images.astype(jnp.float32) - 127)}

    converted = to_tensorflow(outputs, size)
    for batch in (1, 3):
        images = RNG.integers(0, 256, (batch, *size, 3), np.uint8)
        images[:, 0] = 0  # the border is below zero in every channel
        expected = np.asarray(outputs(images)["result"])
        found = converted(images)["result"].numpy()
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4 * expected.std())


@pytest.mark.parametrize("size", SIZES)
def test_max_pool_pads_both_sides_alike_with_what_never_wins(size):
    check(ops_plain.max_pool, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (3, 1), (1, 2), (1, 1)])
def test_convolutions_pad_both_sides_alike(size, kernel, stride):
    check(lambda x: ops_plain.convolve(x, jnp.asarray(KERNEL[kernel]), stride), size)


@pytest.mark.compiled
@pytest.mark.parametrize("name", [attention.NONE, *attention.REGISTRY])
def test_every_attention_module(name):
    module = attention.create(name, **({"gate": "sigmoid"} if name in ("se", "cbam") else {}))
    if module is None:
        return check(nn.relu)
    variables = jax.tree.map(
        lambda leaf: RNG.normal(0, 0.5, leaf.shape).astype(np.float32),
        module.init(jax.random.key(0), jnp.zeros((1, 8, 9, 3))),
    )
    check(lambda x: module.apply(variables, x / 64))


@pytest.mark.parametrize(
    "function",
    [
        global_average_pool,
        lambda x: x[..., 0],
        lambda x: x[..., ::-1],
        lambda x: x[..., np.array([2, 0])],
        lambda x: x[:, 1:7:2, ::2],
        lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)), constant_values=-7),
        lambda x: jnp.concatenate([x.mean(2), jnp.ones((x.shape[0], 2, 3))], axis=1),
        lambda x: jnp.einsum("bhwc,bhwd->bcd", x, x) / 1000,
        lambda x: jnp.broadcast_to(jnp.arange(9.0)[:, None], x.shape).sum((1, 3)) + x[:, 0, :, 0],
        lambda x: jnp.where(x > 0, x**3, jnp.clip(x, -5, 5)) / 1000,
        lambda x: nn.gelu(x / 100) + nn.softplus(x / 100),
        lambda x: x[..., jnp.arange(5) // 2],
        lambda x: jnp.stack(jnp.split(x, 3, axis=-1), axis=1)[:, :, 0],
        lambda x: nn.softmax(x.reshape(x.shape[0], -1, 3).transpose(0, 2, 1) / 64),
        lambda x: x.max((1, 2)) @ DENSE + x.min((1, 2)) @ DENSE,
        lambda x: lax.conv_general_dilated(
            x,
            KERNEL[3],
            (1, 1),
            "SAME",
            rhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
    ],
)
def test_what_modules_of_ones_own_are_made_of(function):
    check(function)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: jnp.cumsum(x, 1), "cumsum"),
        (lambda x: nn.avg_pool(x, (2, 2)), "reduce_window_sum"),
        (lambda x: nn.max_pool(x, (1, 1, 3)), "reduce_window_max"),
    ],
)
def test_what_has_no_counterpart_is_named(function, name):
    with pytest.raises(UserError, match=f"{name}.*--format=stablehlo"):
        check(function)
