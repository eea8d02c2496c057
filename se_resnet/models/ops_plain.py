"""The operations of a ResNet as XLA provides them, for every platform.

:mod:`se_resnet.models.ops_fast` has the same operations for a CPU, and
:mod:`se_resnet.models.ops_fused` those of normalisation for a GPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution, zero-padded by the same amount on both sides, as in Caffe and torch.

    Args:
        x: ``[B, H, W, C]``.
        kernel: ``[size, size, C, K]`` of the same dtype, with an odd size.
        stride: step of the kernel in both directions.

    Returns:
        ``[B, ceil(H / stride), ceil(W / stride), K]``.
    """
    padding = (len(kernel) // 2, len(kernel) // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def image_means(x: jax.Array) -> jax.Array:
    """Returns the means of ``x [B, H, W, C]`` in each image: ``[B, C]``, at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the means of ``x [B, H, W, C]`` and of its squares.

    Returns:
        Mean ``[C]``, mean square ``[C]``, and the means of each image, ``[B, C]``; at least
        float32.
    """
    values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    means = values.mean((1, 2))
    return means.mean(0), jnp.square(values).mean((0, 1, 2)), means


def max_pool(x: jax.Array) -> jax.Array:
    """The 3x3 maximum at stride 2, with a border of one pixel of minus infinity.

    If values are equal, the gradient goes to the first of them, row by row. Equal values are
    common, because a ReLU sets many values to zero.

    Args:
        x: ``[B, H, W, C]``.

    Returns:
        ``[B, ceil(H / 2), ceil(W / 2), C]``.
    """
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
