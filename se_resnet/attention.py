"""Attention modules by name: each takes features ``[B, H, W, C]`` and returns the same shape.

A module of your own becomes ``config.model.attention = 'mine'`` by one decorator::

    @register("mine")
    class Mine(nn.Module):
        @nn.compact
        def __call__(self, features): ...

If it multiplies channels by gates ``[B, C]``, ``self.sow("intermediates", "gates", gates)`` shows
them to :func:`se_resnet.explain.gates`; it costs nothing elsewhere. If they depend on the channels'
means alone, a subclass of :class:`ChannelGate` runs faster on a CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from se_resnet.errors import UserError

NONE = "none"
GATES = ("identity", "sigmoid")
REGISTRY: dict[str, type[nn.Module]] = {}

Module = TypeVar("Module", bound=type[nn.Module])


def register(name: str) -> Callable[[Module], Module]:
    """Class decorator: makes a Flax module known to :func:`create` as ``name``.

    Raises:
        ValueError: ``name`` is taken.
    """
    if name == NONE or name in REGISTRY:
        raise ValueError(f"an attention module named {name!r} exists already")

    def add(module: Module) -> Module:
        REGISTRY[name] = module
        return module

    return add


def create(name: str, /, **options: Any) -> nn.Module | None:
    """Makes the attention module ``name`` with ``options`` as its attributes.

    Returns:
        The module, or None for the name ``'none'``, which takes no options.

    Raises:
        UserError: the name, an option or an option's value is unknown to the registry.
    """
    if name == NONE:
        known: set[str] = {"name"}
    elif name in REGISTRY:
        known = {field.name for field in dataclasses.fields(REGISTRY[name]) if field.init}
    else:
        names = ", ".join([NONE, *sorted(REGISTRY)])
        raise UserError(f"unknown attention module {name!r}: choose one of {names}")
    if unknown := sorted(set(options) - known):
        allowed = ", ".join(sorted(known - {"name", "parent"})) or "none"
        raise UserError(
            f"attention module {name!r} has no option {', '.join(unknown)}: it takes {allowed}"
        )
    return None if name == NONE else REGISTRY[name](**options)


class ChannelGate(nn.Module):
    """Attention that multiplies channels by gates which depend on their means alone.

    A subclass defines :meth:`gates`; a network can then join them to the normalisation before.
    """

    def gates(self, means: jax.Array) -> jax.Array:
        """Factors of the channels, ``[B, C]``, from their means over the pixels, ``[B, C]``."""
        raise NotImplementedError

    def __call__(self, features: jax.Array) -> jax.Array:
        """Scales the channels of ``features [B, H, W, C]``; returns the same shape and dtype."""
        gates = self.gates(jnp.mean(features, axis=(1, 2)))
        return features * gates[:, None, None, :].astype(features.dtype)


@register("se")
class SqueezeExcite(ChannelGate):
    """Squeeze-and-Excitation (Hu et al. 2018, "Squeeze-and-Excitation networks").

    Each channel is multiplied by a gate computed from the means of all channels:
    ``gate(W2 relu(W1 mean(features) + b1) + b2)``.

    Attributes:
        reduction: the hidden layer has ``C // reduction`` units, but at least one.
        gate: ``'identity'`` is ``2 * sigmoid`` with W2 and b2 starting at zero, so that a new block
            multiplies by exactly 1 and leaves pretrained features alone; gates lie in (0, 2).
            ``'sigmoid'`` is the paper's own, in (0, 1), for weights that were trained with it.

    Raises:
        UserError: ``reduction`` is not positive or ``gate`` is neither of the two.
    """

    reduction: int = 16
    gate: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reduction, int) or self.reduction < 1:
            raise UserError(
                f"squeeze-and-excitation: reduction must be a whole number of at least 1, "
                f"not {self.reduction!r}"
            )
        if self.gate not in GATES:
            raise UserError(
                f"squeeze-and-excitation: unknown gate {self.gate!r}: choose one of "
                f"{', '.join(GATES)}"
            )

    @nn.compact
    def gates(self, means: jax.Array) -> jax.Array:
        """Maps means ``[B, C]`` to gates ``[B, C]``."""
        channels = means.shape[-1]
        identity = self.gate == "identity"
        hidden = nn.Dense(max(1, channels // self.reduction), name="reduce")(means)
        expand = nn.Dense(
            channels,
            kernel_init=nn.initializers.zeros if identity else nn.initializers.lecun_normal(),
            name="expand",
        )
        gates = jax.nn.sigmoid(expand(nn.relu(hidden)))
        if identity:
            gates = 2 * gates
        self.sow("intermediates", "gates", gates)
        return gates
