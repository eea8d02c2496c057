"""What a training step does, as configured."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from se_resnet.training.augment import Augmentation
from se_resnet.training.config import FIXED_STATISTICS
from se_resnet.training.losses import Loss
from se_resnet.training.mixup import Mixing


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training step does besides the network's forward pass and the optimizer's update.

    Attributes:
        augment: changes each image.
        seed: with the step's number it decides all that is random.
        loss: of one image.
        mixing: mixes the augmented images of a batch.
        fixed_statistics: whether all batch normalisations use their running statistics, as in
            evaluation, and keep them. Without, those do whose scale and bias are both frozen: a
            frozen layer then computes what the pretrained one did.
        accumulate: the gradient is the mean of those of so many parts of the batch, computed one
            after another, so that memory is needed for one part only. Batch statistics are those of
            a part, and the running ones are updated by each.
        ema_decay: of the exponential moving average of parameters and running statistics; 0 for
            none. In step ``t``, from 0, it is at most ``(1 + t) / (10 + t)``, so that a short
            training's average forgets where it began.
    """

    augment: Augmentation
    seed: int
    loss: Loss = dataclasses.field(default_factory=Loss)
    mixing: Mixing = dataclasses.field(default_factory=Mixing)
    fixed_statistics: bool = False
    accumulate: int = 1
    ema_decay: float = 0.0


def make_augmentation(config: ConfigDict) -> Augmentation:
    """What happens to each image on its own.

    Raises:
        UserError: a value is out of range.
    """
    names = [field.name for field in dataclasses.fields(Augmentation)]
    return Augmentation(**{name: config.augment[name] for name in names})


def make_recipe(config: ConfigDict, augment: Augmentation) -> Recipe:
    """The configured recipe, with this augmentation."""
    return Recipe(
        augment=augment,
        seed=config.seed,
        loss=Loss(**config.loss),
        mixing=Mixing(config.augment.mixup, config.augment.cutmix),
        fixed_statistics=config.model.batch_norm == FIXED_STATISTICS,
        accumulate=config.optim.accumulate,
        ema_decay=config.optim.ema_decay,
    )
