"""The optimizer."""

from __future__ import annotations

import optax

from se_resnet.errors import UserError


def make_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) with a constant learning rate.

    Raises:
        UserError: the learning rate is not positive.
    """
    if not learning_rate > 0:
        raise UserError(
            f"config.optim.learning_rate = {learning_rate} is out of range: give a positive "
            "number, for example 1e-4."
        )
    return optax.adam(learning_rate)
