"""Attention without parameters: SimAM."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from se_resnet.attention.gate_options import check_positive
from se_resnet.attention.registry import register


@register("simam")
class SimAM(nn.Module):
    """SimAM (Yang et al. 2021, "SimAM: a simple, parameter-free attention module").

    A value is more important the farther it lies from the mean of its channel. ``mean`` and
    ``variance`` are taken over the pixels of each image and channel::

        1 / energy = (features - mean)² / (4 (variance + regularisation)) + 1 / 2
        out = features * sigmoid(1 / energy)

    Mean and variance divide by the number of pixels, as in the formulas of the paper. The code of
    its authors divides the sum of squares by that number less 1.

    There is nothing to learn. The gates lie between sigmoid(1/2) = 0.62 and 1 and cannot start as
    identity, so pretrained features change before the first step. With the shipped ImageNet
    weights, in every branch, on two photographs, stage 1 differs from stage 1 without attention by
    39 % (norm of the difference over the norm), the last stage by 51 % and the ImageNet logits by
    36 % (``tests/attention/test_pretrained.py``).

    Attributes:
        regularisation: the paper's lambda, positive.

    Raises:
        UserError: ``regularisation`` is not positive.
    """

    regularisation: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "regularisation")

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps ``[B, H, W, C]`` to the same shape and dtype."""
        x = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        squares = jnp.square(x - x.mean((1, 2), keepdims=True))
        variance = squares.mean((1, 2), keepdims=True)
        inverse_energy = squares / (4 * (variance + self.regularisation)) + 0.5
        return (x * nn.sigmoid(inverse_energy)).astype(features.dtype)
