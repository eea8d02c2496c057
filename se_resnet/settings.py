"""What a configuration must hold before a run spends work on it."""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from se_resnet import attention
from se_resnet.decision import parse_target
from se_resnet.errors import UserError
from se_resnet.resnet import DTYPES

_COUNTS = ("epochs", "batch_size", "eval_batch_size", "log_every_steps", "bootstrap_resamples")
_NUMBERS = ("optim.learning_rate", "checkpoint_minutes")
_SEEDS = ("seed", "split.seed")
ALL_FOLDS = "all"
ON_DEVICE = "device"
_CHOICES = {"data.placement": ("host", ON_DEVICE), "model.dtype": DTYPES}


def check(config: ConfigDict) -> None:
    """Refuses, before any work, values that would fail after it.

    Raises:
        UserError: a value is out of range; the sentence names the field and the range.
    """
    for name in _COUNTS:
        if config[name] < 1:
            raise UserError(f"config.{name} = {config[name]} is out of range: give 1 or more.")
    parse_target(config.decision.target)
    attention.create(config.model.attention, **config.model.attention_options.to_dict())
    for name in _NUMBERS:
        if not math.isfinite(value := _field(config, name)):
            raise UserError(f"config.{name} = {value} is out of range: give a finite number.")
    for name in _SEEDS:
        if not 0 <= (value := _field(config, name)) < 2**32:
            raise UserError(f"config.{name} = {value} is out of range: give 0 to {2**32 - 1}.")
    for name, choices in _CHOICES.items():
        if (value := _field(config, name)) not in choices:
            raise UserError(
                f"config.{name} = {value!r} is unknown: choose from {', '.join(choices)}."
            )
    if config.split.fold != ALL_FOLDS and not config.split.fold.isdecimal():
        raise UserError(
            f"config.split.fold = {config.split.fold!r} names no fold: give a number from 0, or "
            f"'{ALL_FOLDS}' for all of them in turn."
        )


def _field(config: ConfigDict, name: str):
    value = config
    for part in name.split("."):
        value = value[part]
    return value
