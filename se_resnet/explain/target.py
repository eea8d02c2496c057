"""The class that an explanation is about."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from se_resnet.errors import UserError


def check_target(target: int | None) -> None:
    """Refuses anything but 0 (benign), 1 (malignant) and None (the predicted class).

    Raises:
        UserError: ``target`` is something else.
    """
    if target not in (None, 0, 1):
        raise UserError(
            f"unknown target {target!r}: choose 0 for benign, 1 for malignant or None for the "
            "predicted class"
        )


def sign_of(logits: Any, target: int | None) -> Any:
    """The factor that makes the logit of malignant the target's own: -1 for benign, 1 otherwise."""
    if target is None:
        return jnp.where(logits >= 0, 1.0, -1.0)
    return jnp.full(jnp.shape(logits), 2.0 * target - 1)
