"""Functions that attention modules share: from logits to gates, and checks of options."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from se_resnet.errors import UserError

GATES = ("identity", "sigmoid")


def to_gates(logits: jax.Array, gate: str) -> jax.Array:
    """Returns ``2 * sigmoid(logits)`` for ``'identity'``, exactly 1 at 0, else ``sigmoid``."""
    gates = jax.nn.sigmoid(logits)
    return 2 * gates if gate == "identity" else gates


def last_kernel(gate: str) -> Any:
    """Returns the initialiser of the kernel before the gates: zero for ``'identity'``."""
    return nn.initializers.zeros if gate == "identity" else nn.initializers.lecun_normal()


def check_gate(module: Any) -> None:
    """Refuses a module whose attribute ``gate`` is not in ``GATES``."""
    if module.gate not in GATES:
        raise UserError(
            f"config.model.attention_options.gate = {module.gate!r} is unknown to "
            f"{type(module).__name__}: choose one of {', '.join(GATES)}."
        )


def check_reduction(module: Any) -> None:
    """Refuses a module whose attribute ``reduction`` is not a whole number of at least 1."""
    if not isinstance(module.reduction, int) or module.reduction < 1:
        raise UserError(
            f"config.model.attention_options.reduction = {module.reduction!r} does not suit "
            f"{type(module).__name__}: give a whole number of at least 1."
        )


def check_positive(module: Any, field: str) -> None:
    """Refuses a module whose attribute ``field`` is not a positive, finite number."""
    value = getattr(module, field)
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(
            f"config.model.attention_options.{field} = {value!r} does not suit "
            f"{type(module).__name__}: give a positive number."
        )
