"""Attention that multiplies whole channels by gates, computed from the means of the channels."""

from __future__ import annotations

import math

import jax
from flax import linen as nn

from se_resnet.attention.gate_options import (
    check_gate,
    check_positive,
    check_reduction,
    last_kernel,
    to_gates,
)
from se_resnet.attention.registry import ChannelGate, register
from se_resnet.errors import UserError


@register("se")
class SqueezeExcite(ChannelGate):
    """Squeeze-and-Excitation (Hu et al. 2018, "Squeeze-and-Excitation networks").

    Each channel is multiplied by a gate computed from the means of all channels:
    ``gate(W2 relu(W1 mean(features) + b1) + b2)``. It has ``2 C m + m + C`` parameters with ``m``
    hidden units.

    Attributes:
        reduction: the hidden layer has ``C // reduction`` units, but at least one.
        gate: ``'identity'`` is ``2 * sigmoid`` with W2 and b2 starting at zero, so that a new block
            multiplies by exactly 1 and keeps pretrained features; gates lie in (0, 2).
            ``'sigmoid'`` is the gate of the paper, in (0, 1), for weights trained with that gate.

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
    def gates(self, means: jax.Array) -> jax.Array:
        """Maps means ``[B, C]`` to gates ``[B, C]``."""
        channels = means.shape[-1]
        hidden = nn.Dense(max(1, channels // self.reduction), name="reduce")(means)
        expand = nn.Dense(channels, kernel_init=last_kernel(self.gate), name="expand")
        gates = to_gates(expand(nn.relu(hidden)), self.gate)
        self.sow("intermediates", "gates", gates)
        return gates


@register("ese")
class EffectiveSqueezeExcite(ChannelGate):
    """Effective Squeeze-and-Excitation (Lee and Park 2020, "CenterMask", VoVNet v2).

    One layer, without the bottleneck that loses channels: ``gate(W mean(features) + b)``. It has
    ``C² + C`` parameters. The paper uses the sigmoid; timm uses a piecewise linear
    function (``hard_sigmoid``).

    Attributes:
        gate: ``'identity'`` or the paper's ``'sigmoid'``, see :class:`SqueezeExcite`.

    Raises:
        UserError: ``gate`` is neither of the two.
    """

    gate: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gate(self)

    @nn.compact
    def gates(self, means: jax.Array) -> jax.Array:
        """Maps means ``[B, C]`` to gates ``[B, C]``."""
        dense = nn.Dense(means.shape[-1], kernel_init=last_kernel(self.gate), name="dense")
        gates = to_gates(dense(means), self.gate)
        self.sow("intermediates", "gates", gates)
        return gates


@register("eca")
class EfficientChannelAttention(ChannelGate):
    """Efficient channel attention (Wang et al. 2020, "ECA-Net").

    Each gate is computed from the means of ``k`` neighbouring channels, with the same ``k`` weights
    for all channels: ``gate(conv1d_k(mean(features)))``, zero-padded, without bias. ``k`` is the
    odd number nearest to ``log2(C) / gamma + b / gamma``, the larger number in a tie: 5 for 256 to
    1024 channels, 7 for 2048. It has ``k`` parameters.

    Attributes:
        gamma: positive; a larger value makes the kernel smaller.
        b: shifts the size of the kernel.
        gate: ``'identity'`` or the paper's ``'sigmoid'``, see :class:`SqueezeExcite`.

    Raises:
        UserError: a value is out of range.
    """

    gamma: float = 2
    b: float = 1
    gate: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "gamma")
        if not isinstance(self.b, int | float) or not math.isfinite(self.b):
            raise UserError(
                f"config.model.attention_options.b = {self.b!r} does not suit attention 'eca': "
                "give a finite number."
            )
        check_gate(self)

    def kernel_size(self, channels: int) -> int:
        """Returns the odd number of neighbours for a number of channels."""
        # Between an even number and the next odd number, the odd number is the nearest.
        return int(abs((math.log2(channels) + self.b) / self.gamma)) | 1

    @nn.compact
    def gates(self, means: jax.Array) -> jax.Array:
        """Maps means ``[B, C]`` to gates ``[B, C]``."""
        conv = nn.Conv(
            features=1,
            kernel_size=(self.kernel_size(means.shape[-1]),),
            padding="SAME",
            use_bias=False,
            kernel_init=last_kernel(self.gate),
            name="conv",
        )
        gates = to_gates(conv(means[..., None])[..., 0], self.gate)
        self.sow("intermediates", "gates", gates)
        return gates
