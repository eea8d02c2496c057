"""The class that an explanation concerns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from se_resnet.errors import UserError


def check_target(target: int | None) -> None:
    """Accepts 0 (benign), 1 (malignant) and None (the predicted class) only.

    Raises:
        UserError: ``target`` has another value.
    """
    if target not in (None, 0, 1):
        raise UserError(
            f"unknown target {target!r}: choose 0 for benign, 1 for malignant or None for the "
            "predicted class"
        )


def sign_of(logits: Any, target: int | None) -> Any:
    """Returns the factor from the logit of malignant to that of the target, -1 or 1."""
    if target is None:
        return jnp.where(logits >= 0, 1.0, -1.0)
    return jnp.full(jnp.shape(logits), 2.0 * target - 1)
