"""Convolution, normalisation and pooling for images ``[B, H, W, C]``, the layers of a ResNet."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

# Weighted moving average as in torch's momentum 0.1: 0.9 of the old statistics is kept.
BatchNorm = functools.partial(nn.BatchNorm, momentum=0.9)


class Conv(nn.Module):
    """Convolution without bias, zero-padded on both sides alike: as in Caffe and torch.

    Its kernel has the shape ``[size, size, C_in, features]`` (HWIO) and starts with He's normal
    initialisation over the outputs (He et al. 2015, "Delving deep into rectifiers").

    Attributes:
        features: number of output channels.
        size: height and width of the kernel; odd, so that the padding is ``size // 2``.
        stride: step of the kernel in both directions.
    """

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[B, H, W, C_in]`` to ``[B, ceil(H / stride), ceil(W / stride), features]``."""
        kernel = self.param(
            "kernel",
            nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            (self.size, self.size, x.shape[-1], self.features),
        )
        if self.size == 1:
            # A dot over the channels: XLA on CPU takes two to three times as long for the weight
            # gradient of the same computation written as a convolution.
            return jnp.dot(x[:, :: self.stride, :: self.stride, :], kernel[0, 0])
        padding = (self.size // 2, self.size // 2)
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(self.stride, self.stride),
            padding=(padding, padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def max_pool(x: jax.Array) -> jax.Array:
    """The 3x3 maximum of ``[B, H, W, C]`` at stride 2: ``[B, ceil(H / 2), ceil(W / 2), C]``.

    The border is padded with zeros, which leaves the maximum alone because ``x`` must not be
    negative (it comes from a ReLU).
    """
    # Elementwise maxima of slices, first over rows and then over columns: the gradient of a
    # windowed reduction is a select-and-scatter, several times slower on CPU.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for axis in (1, 2):
        windows = (x.shape[axis] - 3) // 2 + 1
        parts = [
            lax.slice_in_dim(x, start, start + 2 * windows - 1, stride=2, axis=axis)
            for start in range(3)
        ]
        x = jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
    return x


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean of ``[B, H, W, C]`` over height and width: ``[B, C]``."""
    # A dot with ones: XLA on CPU would compute a mean together with the layers before it and round
    # them otherwise than elsewhere, so that a network with new gates, which are exactly 1, and the
    # same network without them would differ in the logits' last bit.
    pixels = x.shape[1] * x.shape[2]
    return jnp.einsum("bhwc,hw->bc", x, jnp.ones(x.shape[1:3]), precision="highest") / pixels
