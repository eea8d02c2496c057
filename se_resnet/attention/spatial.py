"""Attention with a gate for each pixel, or each row and column."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from se_resnet.attention.gate_options import check_gate, check_reduction, last_kernel, to_gates
from se_resnet.attention.registry import register

_LEAST_WIDTH = 8  # of the hidden layer of coordinate attention, by its authors


@register("cbam")
class CBAM(nn.Module):
    """CBAM (Woo et al. 2018, "CBAM: convolutional block attention module").

    First come gates of channels, computed from means and maxima by one shared perceptron. Then come
    gates of pixels, computed from mean and maximum over the channels::

        x = features * gate(W2 relu(W1 mean(features)) + W2 relu(W1 max(features)))
        out = x * gate(conv7x7([mean_C(x), max_C(x)]))

    No layer has a bias or a normalisation, as in the formulas of the paper. In the code of the
    authors the perceptron has biases and the convolution a normalisation. The module has
    ``2 C m + 98`` parameters with ``m`` hidden units.

    Attributes:
        reduction: the hidden layer has ``C // reduction`` units, but at least one.
        gate: of both parts. ``'identity'`` is ``2 * sigmoid`` with W2 and the convolution starting
            at zero, which keeps features at first. ``'sigmoid'`` is the gate of the paper.

    Raises:
        UserError: ``reduction`` is not positive or ``gate`` is neither of the two.
    """

    reduction: int = 16
    gate: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reduction(self)
        check_gate(self)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps ``[B, H, W, C]`` to the same shape and dtype."""
        channels = features.shape[-1]
        hidden = max(1, channels // self.reduction)
        reduce = nn.Dense(hidden, use_bias=False, name="reduce")
        kernel_init = last_kernel(self.gate)
        expand = nn.Dense(channels, use_bias=False, kernel_init=kernel_init, name="expand")
        mean, maximum = features.mean((1, 2)), features.max((1, 2))
        logits = expand(nn.relu(reduce(mean)) + nn.relu(reduce(maximum)))
        gates = to_gates(logits, self.gate)
        self.sow("intermediates", "gates", gates)
        x = features * gates[:, None, None, :].astype(features.dtype)

        summary = jnp.stack([x.mean(-1), x.max(-1)], axis=-1)
        conv = nn.Conv(1, (7, 7), use_bias=False, kernel_init=kernel_init, name="conv")
        return x * to_gates(conv(summary), self.gate).astype(x.dtype)


@register("coord")
class CoordinateAttention(nn.Module):
    """Coordinate attention (Hou et al. 2021, "Coordinate attention for efficient mobile networks").

    Means along each row and each column pass one shared layer. Each value is then multiplied by a
    gate of its row and a gate of its column::

        f = hswish(W1 [mean_W(features), mean_H(features)] + b1)      # [B, H + W, m]
        out = features * gate(W2 f_rows + b2) * gate(W3 f_columns + b3)

    with ``hswish(x) = x * clip(x + 3, 0, 6) / 6`` and ``m = max(8, C // reduction)``. The
    module has ``3 C m + m + 2 C`` parameters. The figure of the paper, but not its formulas, has a
    batch normalisation before ``hswish``. It is left out, so that the module behaves alike in
    training and evaluation. Weights that were trained with the normalisation can be loaded: with
    fixed statistics the normalisation becomes part of W1 and b1
    (:mod:`se_resnet.weights.trained_attention`).

    Attributes:
        reduction: divides the channels of the shared layer.
        gate: ``'identity'`` is ``2 * sigmoid`` with W2, b2, W3 and b3 starting at zero, which
            keeps features at first. ``'sigmoid'`` is the gate of the paper.

    Raises:
        UserError: ``reduction`` is not positive or ``gate`` is neither of the two.
    """

    reduction: int = 32
    gate: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reduction(self)
        check_gate(self)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps ``[B, H, W, C]`` to the same shape and dtype."""
        height, channels = features.shape[1], features.shape[-1]
        lines = jnp.concatenate([features.mean(2), features.mean(1)], axis=1)
        width = max(_LEAST_WIDTH, channels // self.reduction)
        shared = nn.hard_swish(nn.Dense(width, name="shared")(lines))
        rows, columns = (
            to_gates(
                nn.Dense(channels, kernel_init=last_kernel(self.gate), name=name)(part), self.gate
            ).astype(features.dtype)
            for name, part in (("rows", shared[:, :height]), ("columns", shared[:, height:]))
        )
        return features * rows[:, :, None, :] * columns[:, None, :, :]
