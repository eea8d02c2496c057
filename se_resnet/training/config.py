"""Validates a configuration before training starts, and builds the recipe that it describes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.images.scale import MAX_FIELD, um_per_px_problem
from se_resnet.metrics.decision import parse_target
from se_resnet.models.layers import FORMULATIONS
from se_resnet.models.resnet import ATTENTION_POSITIONS, DTYPES
from se_resnet.runs.run_files import (
    ALL_FOLDS,
    CHECKPOINTS,
    MAX_BATCH,
    MAX_MEMBERS,
    MAX_PERMUTATIONS,
    MAX_REPEATS,
    NO_FOLD,
    REPEAT_SEEDS,
)
from se_resnet.tracking import trackers
from se_resnet.training.augment import Augmentation
from se_resnet.training.early_stopping import METRICS
from se_resnet.training.losses import Loss
from se_resnet.training.lr_multipliers import parse_rules
from se_resnet.training.mixup import Mixing
from se_resnet.training.optim import SCHEDULES
from se_resnet.training.recipe import Recipe
from se_resnet.weights import configured

_COUNTS = (
    "repeats",
    "ensemble.members",
    "epochs",
    "batch_size",
    "eval_batch_size",
    "log_every_steps",
    "permutations",
    "optim.accumulate",
    "early_stopping.patience",
)
# Upper limits, exclusive; the lower limit is 0.
_NUMBERS = {
    "checkpoint_minutes": math.inf,
    "augment.mixup": math.inf,
    "augment.cutmix": math.inf,
    "loss.label_smoothing": 1,
    "loss.focal_gamma": math.inf,
    "model.dropout": 1,
    "optim.warmup_epochs": math.inf,
    "optim.head_epochs": math.inf,
    "optim.weight_decay": math.inf,
    "optim.clip_norm": math.inf,
    "optim.ema_decay": 1,
}
_LARGEST = {
    "repeats": MAX_REPEATS,
    "ensemble.members": MAX_MEMBERS,
    "batch_size": MAX_BATCH,
    "eval_batch_size": MAX_BATCH,
    "permutations": MAX_PERMUTATIONS,
}
_SEEDS = ("seed", "split.seed")
_LARGEST_SEED = 2**32 - 1
ON_DEVICE = "device"
FIXED_STATISTICS = "frozen"
_CHOICES = {
    "checkpoint.choose": CHECKPOINTS,
    "repeat_seeds": tuple(REPEAT_SEEDS),
    "data.placement": ("host", ON_DEVICE),
    "model.attention_position": ATTENTION_POSITIONS,
    "model.formulation": FORMULATIONS,
    "model.dtype": DTYPES,
    "model.batch_norm": ("train", FIXED_STATISTICS),
    "optim.schedule": SCHEDULES,
    "early_stopping.metric": ("", *METRICS),
}


def plain(config: ConfigDict) -> dict[str, Any]:
    """Returns a configuration as ``config.json`` holds it: lists for tuples, no references."""
    return json.loads(config.to_json())


def without_paths(config: ConfigDict) -> dict[str, Any]:
    """Returns a configuration like ``config.json``, without the paths of a machine."""
    content = plain(config)
    del content["data"]["dir"], content["data"]["cache_dir"]
    return content


def check_config(config: ConfigDict) -> None:
    """Checks all values, so that no value fails after hours of training.

    Raises:
        UserError: a value is out of range. The message names the field and the range.
    """
    for name in _COUNTS:
        _require(config, name, lambda value: value >= 1, "1 or more")
    for name, limit in _LARGEST.items():
        _require(config, name, lambda value, limit=limit: value <= limit, f"at most {limit:,}")
    for name, stop in _NUMBERS.items():
        wanted = "a finite number of 0 or more" if stop == math.inf else f"0 to less than {stop}"
        _require(config, name, lambda value, stop=stop: 0 <= value < stop, wanted)
    rate = "a finite positive number, for example 1e-4"
    _require(config, "optim.learning_rate", lambda value: 0 < value < math.inf, rate)
    decay = "more than 0, at most 1"
    _require(config, "optim.layer_decay", lambda value: 0 < value <= 1, decay)
    for name in _SEEDS:
        _require(config, name, lambda value: 0 <= value <= _LARGEST_SEED, f"0 to {_LARGEST_SEED}")
    for name, choices in _CHOICES.items():
        if (value := _field(config, name)) not in choices:
            named = ", ".join(choice or "''" for choice in choices)
            raise UserError(f"config.{name} = {value!r} is unknown: choose from {named}.")
    parse_target(config.decision.target)
    configured.check(config.model)
    attention.create(config.model.attention, **config.model.attention_options.to_dict())
    if config.split.fold not in (ALL_FOLDS, NO_FOLD) and not config.split.fold.isdecimal():
        raise UserError(
            f"config.split.fold = {config.split.fold!r} is not a fold: give a number from 0, "
            f"'{ALL_FOLDS}' for all of them in turn, or '{NO_FOLD}' to train on all patients."
        )
    _check_ensemble(config)
    _check_scale(config)
    _check_magnifications(config)
    _check_repeats(config)
    trackers.parse(config.trackers)
    _check_profile(config.profile_steps)
    _check_recipe(config)


def repeat_configs(config: ConfigDict) -> list[ConfigDict]:
    """Returns the configuration of each repeat: a single run whose seeds have counted up."""
    configs = []
    for repeat in range(config.repeats):
        of_repeat = config.copy_and_resolve_references()
        of_repeat.repeats = 1
        for name in REPEAT_SEEDS[config.repeat_seeds]:
            of_repeat.update_from_flattened_dict({name: _field(config, name) + repeat})
        configs.append(of_repeat)
    return configs


def member_configs(config: ConfigDict) -> list[ConfigDict]:
    """Returns the configuration of each member of an ensemble; of one network its own.

    A member validates on another part of the training part than the members before it, and its
    training seed has counted up by one from member to member.
    """
    if config.ensemble.members == 1:
        return [config]
    configs = []
    for member in range(config.ensemble.members):
        of_member = config.copy_and_resolve_references()
        of_member.ensemble.members = 1
        of_member.split.val_fold = member
        of_member.seed = config.seed + member
        configs.append(of_member)
    return configs


def fold_configs(config: ConfigDict, count: int) -> list[ConfigDict]:
    """Returns the configuration of each of ``count`` folds of a cross-validation."""
    configs = [config.copy_and_resolve_references() for _ in range(count)]
    for fold, of_fold in enumerate(configs):
        of_fold.split.fold = str(fold)
    return configs


def make_augmentation(config: ConfigDict) -> Augmentation:
    """Returns the configured augmentation.

    Raises:
        UserError: a value is out of range.
    """
    names = [field.name for field in dataclasses.fields(Augmentation)]
    return Augmentation(**{name: config.augment[name] for name in names})


def make_recipe(config: ConfigDict, augment: Augmentation) -> Recipe:
    """Returns the configured recipe, with this augmentation."""
    return Recipe(
        augment=augment,
        seed=config.seed,
        loss=Loss(**config.loss),
        mixing=Mixing(config.augment.mixup, config.augment.cutmix),
        fixed_statistics=config.model.batch_norm == FIXED_STATISTICS,
        accumulate=config.optim.accumulate,
        ema_decay=config.optim.ema_decay,
    )


def _check_scale(config: ConfigDict) -> None:
    um_per_px, field, rule = config.data.um_per_px, tuple(config.data.field), config.data.resize
    if um_per_px and (problem := um_per_px_problem(um_per_px)):
        raise UserError(f"config.data.um_per_px = {um_per_px:g} {problem}, or 0 for no scale.")
    if field and not um_per_px:
        raise UserError(
            f"config.data.field = {field} has no effect without config.data.um_per_px: set both, "
            "or neither."
        )
    if not um_per_px:
        return
    if field and not (
        len(field) == 2 and all(type(side) is int and 1 <= side <= MAX_FIELD for side in field)
    ):
        raise UserError(
            f"config.data.field = {field} is no field: give (height, width) of a tile in pixels, "
            f"at most {MAX_FIELD}, or () for config.data.size."
        )
    is_input = not field or field == tuple(config.data.size)
    if is_input and rule != "squash":
        raise UserError(
            f"config.data.resize = {rule!r} has no effect: with config.data.um_per_px a tile has "
            "the network's size already. Leave it at 'squash', or set config.data.field to tiles "
            "of another size."
        )
    if not is_input and rule == "none":
        raise UserError(
            f"config.data.resize = 'none' cannot bring tiles of config.data.field = {field} to "
            f"config.data.size = {tuple(config.data.size)}: choose 'squash' or 'crop'."
        )
    if config.split.protocol == "source":
        raise UserError(
            f"config.data.um_per_px = {um_per_px:g} cannot be combined with protocol 'source', "
            "whose notebook resized whole images: set it to 0."
        )


def _check_ensemble(config: ConfigDict) -> None:
    members = config.ensemble.members
    if members > config.split.val_folds:
        raise UserError(
            f"config.ensemble.members = {members} is out of range: each member validates on "
            f"another of config.split.val_folds = {config.split.val_folds} parts; raise "
            "config.split.val_folds, or lower the members."
        )
    if members > 1 and config.split.val_fold:
        raise UserError(
            f"config.split.val_fold = {config.split.val_fold} is the part of one network, and the "
            f"{members} members of the ensemble validate on one part each: leave it at 0."
        )
    if config.split.fold == NO_FOLD and config.repeats > 1:
        raise UserError(
            f"config.repeats = {config.repeats} are compared on test images, which "
            f"config.split.fold = '{NO_FOLD}' leaves out: give a fold, or set "
            "config.ensemble.members."
        )


def _check_repeats(config: ConfigDict) -> None:
    counted = REPEAT_SEEDS[config.repeat_seeds]
    for name in _SEEDS:
        last = _field(config, name) + (config.repeats - 1 if name in counted else 0)
        last += config.ensemble.members - 1 if name == "seed" else 0
        if last > _LARGEST_SEED:
            raise UserError(
                f"config.{name} = {_field(config, name)} is out of range: with config.repeats = "
                f"{config.repeats} and config.ensemble.members = {config.ensemble.members} it "
                f"counts up to {last}, and the largest seed is {_LARGEST_SEED}."
            )


def _check_magnifications(config: ConfigDict) -> None:
    available = config.data.magnifications
    for name in ("split.train_magnifications", "split.test_magnifications"):
        value = _field(config, name)
        if not value:
            continue
        if config.split.protocol != "strict":
            raise UserError(
                f"config.{name} = {value} needs config.split.protocol = 'strict', which keeps the "
                f"patients apart, not {config.split.protocol!r}: change the protocol, or leave the "
                "field empty and choose config.data.magnifications."
            )
        if not all(type(scale) is int and scale > 0 for scale in value):
            raise UserError(
                f"config.{name} = {value} is out of range: give whole numbers above 0, for example "
                "100,200."
            )
        if available and (absent := sorted(set(value) - set(available))):
            raise UserError(
                f"config.{name} = {value} has {', '.join(map(str, absent))}, which "
                f"config.data.magnifications = {tuple(available)} leaves out: add the "
                "magnification there, or choose another."
            )


def _check_profile(steps: tuple) -> None:
    integers = all(isinstance(step, int) and not isinstance(step, bool) for step in steps)
    if steps and not (len(steps) == 2 and integers and 1 <= steps[0] <= steps[1]):
        raise UserError(
            f"config.profile_steps = {steps!r} is out of range: give the first and the last step "
            "to trace, counted from 1, for example 10,20."
        )


def _check_recipe(config: ConfigDict) -> None:
    """Checks fields that depend on each other."""
    optim = config.optim
    parse_rules(optim.rules)
    if optim.rules and optim.layer_decay != 1:
        raise UserError(
            f"config.optim.rules and config.optim.layer_decay = {optim.layer_decay} both give "
            "multipliers: leave one of them out."
        )
    if config.batch_size % optim.accumulate:
        raise UserError(
            f"config.optim.accumulate = {optim.accumulate} is out of range: it must divide "
            f"config.batch_size = {config.batch_size}."
        )
    if optim.head_epochs + optim.warmup_epochs >= config.epochs:
        raise UserError(
            f"config.optim.head_epochs = {optim.head_epochs} and config.optim.warmup_epochs = "
            f"{optim.warmup_epochs} leave nothing of config.epochs = {config.epochs}: lower them."
        )


def _require(config: ConfigDict, name: str, fits: Callable[..., bool], wanted: str) -> None:
    if not fits(value := _field(config, name)):
        raise UserError(f"config.{name} = {value} is out of range: give {wanted}.")


def _field(config: ConfigDict, name: str):
    value = config
    for part in name.split("."):
        value = value[part]
    return value
