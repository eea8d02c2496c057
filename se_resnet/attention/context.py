"""Attention that adds a summary of all pixels to each pixel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from se_resnet.attention.gate_options import check_reduction
from se_resnet.attention.registry import register


@register("gc")
class GlobalContext(nn.Module):
    """Global context block (Cao et al. 2019, "GCNet: non-local networks meet squeeze-excitation").

    A softmax over all pixels gives the weights of the pooling. A bottleneck transforms the pooled
    context, and the result is added to every pixel::

        context = sum_p softmax_p(w features_p) features_p            # [B, C]
        out = features + W2 relu(LayerNorm(W1 context + b1)) + b2

    W2 and b2 start at zero, so that a new block keeps pretrained features. The pooling has no bias,
    because the softmax would cancel a bias. It has ``2 C m + 2 C + 3 m`` parameters with ``m``
    hidden units. It multiplies nothing, so it has no gates.

    Attributes:
        reduction: the bottleneck has ``C // reduction`` units, but at least one.

    Raises:
        UserError: ``reduction`` is not positive.
    """

    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reduction(self)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps ``[B, H, W, C]`` to the same shape and dtype."""
        batch, height, width, channels = features.shape
        pixels = features.reshape(batch, height * width, channels)
        logits = nn.Dense(1, use_bias=False, name="pool")(pixels)[..., 0]
        context = jnp.einsum("bpc,bp->bc", pixels, nn.softmax(logits))
        hidden = nn.Dense(max(1, channels // self.reduction), name="reduce")(context)
        hidden = nn.relu(nn.LayerNorm(epsilon=1e-5, name="norm")(hidden))
        added = nn.Dense(channels, kernel_init=nn.initializers.zeros, name="expand")(hidden)
        return features + added[:, None, None, :].astype(features.dtype)
