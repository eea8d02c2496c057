"""The configured parts of a training step, besides network and optimizer."""

from __future__ import annotations

import dataclasses

from se_resnet.training.arguments import register
from se_resnet.training.augment import Augmentation
from se_resnet.training.losses import Loss
from se_resnet.training.mixup import Mixing


@register(arguments=("seed",), switches=("ema_decay",))
@dataclasses.dataclass(frozen=True)
class Recipe:
    """The parts of a training step besides the forward pass and the update of the optimizer.

    Attributes:
        augment: augmentation of each image.
        seed: seed of all random numbers, together with the number of the step.
        loss: loss of one image.
        mixing: mixes the augmented images of a batch.
        fixed_statistics: whether all batch normalisations use and keep their running statistics, as
            in evaluation. Otherwise only normalisations with frozen scale and bias do, so that a
            frozen layer computes the same as in the pretrained network.
        accumulate: number of parts of the batch. The gradient is the mean of the gradients of the
            parts, computed one after another, so that only one part takes memory. A part has
            its batch statistics, and each part updates the running statistics.
        ema_decay: decay of the exponential moving average of parameters and running statistics; 0
            for no average. In step ``t``, from 0, it is at most ``(1 + t) / (10 + t)``, so that the
            average of a short training forgets the start.
    """

    augment: Augmentation
    seed: int
    loss: Loss = dataclasses.field(default_factory=Loss)
    mixing: Mixing = dataclasses.field(default_factory=Mixing)
    fixed_statistics: bool = False
    accumulate: int = 1
    ema_decay: float = 0.0
