"""The loss of one image: binary cross-entropy with label smoothing, or focal loss."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

from se_resnet.training.arguments import is_on, register


@register(switches=("label_smoothing", "focal_gamma"))
@dataclasses.dataclass(frozen=True)
class Loss:
    """Binary cross-entropy of logits, with options. 0 switches an option off.

    Attributes:
        label_smoothing: in [0, 1): a label ``y`` becomes ``(1 - s) * y + s / 2`` (Szegedy et al.
            2016).
        focal_gamma: 0 or more (Lin et al. 2017): the loss of each class is multiplied by
            ``(1 - p) ** gamma``, with ``p`` the probability of the class, so that images that are
            classified well count less. Labels between 0 and 1, from smoothing or mixing, weigh the
            losses of the two classes.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def __call__(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Returns losses ``float32 [B]`` of logits ``[B]`` and labels ``[B]`` in [0, 1]."""
        if is_on(self.label_smoothing):
            label = (1 - self.label_smoothing) * label + self.label_smoothing / 2
        if not is_on(self.focal_gamma):
            return optax.sigmoid_binary_cross_entropy(logits, label)
        of_positive, of_negative = (
            # (1 - p) ** gamma by its logarithm, whose gradient stays finite where 1 - p underflows.
            -jnp.exp(self.focal_gamma * jax.nn.log_sigmoid(-x)) * jax.nn.log_sigmoid(x)
            for x in (logits, -logits)
        )
        return label * of_positive + (1 - label) * of_negative
