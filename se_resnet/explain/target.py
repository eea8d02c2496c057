"""The class that an explanation concerns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from se_resnet.errors import UserError


def check_target(target: int | np.ndarray | None) -> None:
    """Accepts 0 (benign), 1 (malignant), an array of both, and None (the predicted class) only.

    Raises:
        UserError: ``target`` has another value.
    """
    if target is not None and not np.isin(target, (0, 1)).all():
        raise UserError(
            f"unknown target {target!r}: choose 0 for benign, 1 for malignant or None for the "
            "predicted class"
        )


def sign_of(logits: Any, target: int | np.ndarray | None) -> Any:
    """Returns the factor from the logit of malignant to that of the target, -1 or 1."""
    if target is None:
        return jnp.where(logits >= 0, 1.0, -1.0)
    return jnp.broadcast_to(2.0 * jnp.asarray(target) - 1, jnp.shape(logits))
