"""The recipes that :mod:`benchmarks.recipes` compares, their order, and the nested division."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data.protocols import audit
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.runs.run_files import STRICT

MEMBERS = 3
LAST, AVERAGED, UNIFORM, DIHEDRAL = "last", "averaged", "uniform", "dihedral"
SQUASH, TILES = "squash", "tiles"


@dataclasses.dataclass(frozen=True)
class Arm:
    """A recipe.

    Attributes:
        name: name of the folder.
        changes: paths and values of the fields that differ from ``configs/breakhis.py``.
        times_epochs: factor of the number of epochs.
        tiles: trains on three squares of an image and predicts their mean logit.
        dihedral: member 0 also predicts the mean logit of the dihedral views of the test images.
    """

    name: str
    changes: tuple[tuple[str, Any], ...] = ()
    times_epochs: int = 1
    tiles: bool = False
    dihedral: bool = False

    def config(self, base: ConfigDict) -> ConfigDict:
        """Returns the configuration of the arm."""
        config = copy.deepcopy(base)  # a ConfigDict of another shares its sections
        config.update_from_flattened_dict(dict(self.changes))
        config.epochs = base.epochs * self.times_epochs
        return config


_COLOURS = (("augment.stain", 0.2), ("augment.brightness", 0.1), ("augment.contrast", 0.2))
_FROZEN = (("model.batch_norm", "frozen"),)
BASE = Arm("base", dihedral=True)
# In the order of the work. The last two need other pixels.
OTHERS = (
    Arm("colours", _COLOURS),
    Arm("frozen_statistics", _FROZEN),
    Arm("colours_and_frozen", (*_COLOURS, *_FROZEN)),
    Arm("rate_3e-4", (("optim.learning_rate", 3e-4),)),
    Arm("rate_3e-5", (("optim.learning_rate", 3e-5),)),
    Arm("balance_none", (("balance.method", "none"),)),
    Arm("balance_weights", (("balance.method", "class_weights"),)),
    Arm("epochs_twice", times_epochs=2),
    Arm("epochs_thrice", times_epochs=3),
    Arm("mixup", (("augment.mixup", 0.2),)),
    Arm("attention_none", (("model.attention", "none"),)),
    Arm("head_first", (("optim.head_epochs", 1),)),
    Arm("tiles", tiles=True),
    Arm("size_160", (("data.size", (160, 160)),)),
)
ARMS = (BASE, *OTHERS)
WHOLE_OTHERS = OTHERS[:-2]


@dataclasses.dataclass(frozen=True)
class Member:
    """One training.

    Attributes:
        arm: the recipe.
        seed: of the division.
        fold: outer fold, from 0.
        number: of the member, from 0.
        training_seed: of new weights, batches and augmentation.
    """

    arm: Arm
    seed: int
    fold: int
    number: int
    training_seed: int


@dataclasses.dataclass(frozen=True)
class Round:
    """Trainings that belong together.

    Attributes:
        seed: of the division.
        members: numbers of the members.
        arms: the recipes.
    """

    seed: int
    members: tuple[int, ...]
    arms: tuple[Arm, ...]


def rounds_of(seeds: int, members: int, others: Sequence[Arm] = OTHERS) -> list[Round]:
    """Returns the rounds in the order of the work, so that an early stop leaves comparisons.

    For each seed: the base with all members, then one member of every other arm. After all seeds:
    the other members of the other arms.

    Args:
        seeds: number of seeds of the division.
        members: number of members of an ensemble.
        others: the arms beside the base.
    """
    every, others = tuple(range(members)), tuple(others)
    first = [
        turn
        for seed in range(seeds)
        for turn in (Round(seed, every, (BASE,)), Round(seed, every[:1], others))
    ]
    return first + [Round(seed, every[1:], others) for seed in range(seeds)]


def jobs(
    rounds: Sequence[Round], folds: int, part: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Arm, int, int, int]]:
    """Yields arm, seed, fold and member. Each arm of a round is finished before the next.

    Args:
        rounds: see :func:`rounds_of`.
        folds: number of outer folds.
        part: number of this process, from 0, and number of processes that divide the trainings.
    """
    number, count = part
    trainings = (
        (arm, turn.seed, fold, member)
        for turn in rounds
        for arm in turn.arms
        for fold in range(folds)
        for member in turn.members
    )
    for position, training in enumerate(trainings):
        if position % count == number:
            yield training


def roles_of(
    config: ConfigDict, records: Records, seed: int, fold: int, member: int, members: int
) -> np.ndarray:
    """Returns the roles of the images for a member, ``str [N]``.

    Args:
        config: ``split.folds`` is the number of outer folds.
        records: all images.
        seed: of both divisions.
        fold: outer fold, from 0.
        member: number of the member, from 0.
        members: number of members.

    Raises:
        UserError: the patients are too few for the folds.
    """
    roles = assign_roles(
        records,
        STRICT,
        folds=config.split.folds,
        fold=fold,
        val_folds=members,
        val_fold=member,
        seed=seed,
    )
    audit.verify(records, roles, STRICT)
    return roles
