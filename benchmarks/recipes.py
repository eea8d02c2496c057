r"""Compares training recipes on patients never seen, and ensembles with single networks.

    python -m benchmarks.recipes WORKDIR --data_dir=/path/to/BreaKHis_v1

The division is nested. A seed divides the patients into outer folds. The patients outside of the
test part of a fold are divided once more: member ``k`` validates on inner part ``k`` and trains on
the others. The members of a fold form an ensemble, every patient outside of the test part is
validated by exactly one member, and a recipe can be chosen by validation alone. Every member
predicts the test images.

The network and the training are those of :mod:`benchmarks.frozen_stages`: the last stage and the
head are trained by the training step of ``train.py``, and the stages before keep the weights and
the statistics of ImageNet. These parts are cheaper than in ``train.py``: images of 112x112 pixels,
three epochs, features stored as float16, and four augmented copies of every image, one of them at
random in every epoch. A blend of SMOTE has one augmented copy in all epochs.

An arm differs from ``configs/breakhis.py`` in the fields that :data:`ARMS` lists. The arm ``tiles``
trains on squares of the left, middle and right of an image at its aspect ratio, and predicts the
mean logit of the three. Images that are stored as squares have lost their aspect ratio.

A finished training has its predictions in
``WORKDIR/ARM/seedS/foldF/memberK/{last,averaged}/{val,test}/predictions.csv`` and the facts of its
training in ``facts.json``. ``last`` has the weights after the last epoch, ``averaged`` their moving
average over the steps. Member 0 of ``base`` also has ``dihedral``, the mean logit of ``averaged``
over the eight dihedral views of the test images. The same command resumes an interrupted
measurement. ``--parts`` divides the trainings over processes.
``python -m benchmarks.recipes_report WORKDIR`` prints the comparisons.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import frozen_stages, last_stage
from benchmarks.stage_features import FrozenStages, frozen_stages_of, stored, views
from benchmarks.stage_training import FACTS, Rows, Trainer, claim, write_predictions
from data.balance import make_plan
from data.dataset import Dataset, load_dataset
from data.feed.batch_order import blend
from data.protocols import audit
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.images.resize import TILE_RULES
from se_resnet.runs.run_files import STRICT, TEST, TRAIN, VAL
from se_resnet.runtime.batches import batches
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.training.augment import Augmentation
from se_resnet.training.config import make_augmentation
from se_resnet.training.step import TrainState
from se_resnet.training.validation import validation_metrics

COPIES = 4
MEMBERS = 3
LAST, AVERAGED, DIHEDRAL = "last", "averaged", "dihedral"
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
# In the order of the work. The last two need the features of other pixels.
OTHERS = (
    Arm("colours", _COLOURS),
    Arm("frozen_statistics", _FROZEN),
    Arm("colours_and_frozen", (*_COLOURS, *_FROZEN)),
    Arm("rate_3e-4", (("optim.learning_rate", 3e-4),)),
    Arm("rate_3e-5", (("optim.learning_rate", 3e-5),)),
    Arm("balance_none", (("balance.method", "none"),)),
    Arm("attention_none", (("model.attention", "none"),)),
    Arm("mixup", (("augment.mixup", 0.2),)),
    Arm("head_first", (("optim.head_epochs", 1),)),
    Arm("balance_weights", (("balance.method", "class_weights"),)),
    Arm("epochs_twice", times_epochs=2),
    Arm("tiles", tiles=True),
    Arm("size_160", (("data.size", (160, 160)),)),
)
ARMS = (BASE, *OTHERS)


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


def rounds_of(seeds: int, members: int) -> list[Round]:
    """Returns the rounds in the order of the work, so that an early stop leaves comparisons.

    For each seed: the base with all members, then one member of every other arm, then their other
    members.
    """
    every = tuple(range(members))
    return [
        turn
        for seed in range(seeds)
        for turn in (
            Round(seed, every, (BASE,)),
            Round(seed, every[:1], OTHERS),
            Round(seed, every[1:], OTHERS),
        )
    ]


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


class Bank:
    """Features of the images as an arm trains on them and predicts them.

    Attributes:
        dataset: the images; the middle tiles where an arm has tiles.
        frozen: the frozen stages.
        copies: ``float16 [N, COPIES, h, w, C]``, augmented.
        plain: ``float16 [N, E, h, w, C]``, the original or the three tiles.
    """

    def __init__(self, config: ConfigDict, tiles: bool, folder: Path):
        size = tuple(config.data.size)

        def images_of(rule: str) -> Dataset:
            return load_dataset(config.data.dir, size=size, resize=rule)

        sources = [images_of(rule) for rule in (TILE_RULES if tiles else (config.data.resize,))]
        self.dataset = sources[len(sources) // 2]
        self.frozen: FrozenStages = frozen_stages_of(config)
        augmentation = make_augmentation(config)
        self._augment = jax.jit(augmentation)
        pixels = np.stack([source.images for source in sources], axis=1)  # [N, E, H, W, 3]
        stem = f"{size[0]}x{size[1]}-{TILES if tiles else config.data.resize}"

        def changed(block: np.ndarray, first: int) -> np.ndarray:
            copies = []
            for number in range(COPIES):
                rng = np.random.default_rng((first, number))
                tile = rng.integers(block.shape[1], size=len(block))
                copies.append(self._augmented(block[np.arange(len(block)), tile], first, number))
            return np.stack(copies, axis=1)

        self.copies = stored(
            folder / f"{stem}-{_describe(augmentation)}.npy", pixels, changed, self.frozen
        )
        self.plain = stored(folder / f"{stem}.npy", pixels, lambda block, _: block, self.frozen)

    def _augmented(self, images: np.ndarray, *seeds: int) -> np.ndarray:
        """Augments ``uint8 [B, H, W, 3]``; returns ``float32`` of the same shape."""
        key = functools.reduce(jax.random.fold_in, seeds, jax.random.key(0))
        parts = []
        for number, (positions, mask) in enumerate(batches(len(images), last_stage.BATCH)):
            block = images[positions].astype(np.float32)
            parts.append(np.asarray(self._augment(jax.random.fold_in(key, number), block))[mask])
        return np.concatenate(parts)

    def blends(self, plan, *seeds: int) -> np.ndarray:
        """Returns the features of the blended rows of a plan, ``float16 [S, h, w, C]``."""
        blended = np.flatnonzero(plan.weight)
        if not len(blended):
            return np.zeros((0, *self.copies.shape[2:]), np.float16)
        pixels = blend(self.dataset.images, plan, blended)
        return self.frozen.compute(self._augmented(pixels, *seeds))


def _describe(augmentation: Augmentation) -> str:
    values = dataclasses.asdict(augmentation)
    return "-".join(f"{name}{float(value):g}" for name, value in values.items())


class Work:
    """Trains members and keeps what several members share.

    Args:
        config: of the base.
        workdir: folder of the measurement.
        members: number of members of an ensemble.
    """

    def __init__(self, config: ConfigDict, workdir: Path, members: int):
        self.config, self.workdir, self.members = config, workdir, members
        self._banks: dict[tuple, Bank] = {}
        self._trainers: dict[Arm, Trainer] = {}
        self._initial: dict = {}
        self._dihedral = functools.cache(self._make_dihedral)

    def bank(self, arm: Arm) -> Bank:
        """Returns the features of an arm, which arms with the same pixels share."""
        config = arm.config(self.config)
        augmentation = make_augmentation(config)
        key = (tuple(config.data.size), config.data.resize, arm.tiles, augmentation)
        if key not in self._banks:
            self._banks[key] = Bank(config, arm.tiles, self.workdir / "features")
        return self._banks[key]

    def _make_dihedral(self, bank: Bank) -> np.ndarray:
        """Returns the features of the dihedral views, ``float16 [N, 8, h, w, C]``."""
        height, width = self.config.data.size
        path = self.workdir / "features" / f"{height}x{width}-dihedral.npy"
        return stored(path, bank.dataset.images, lambda block, _: views(block), bank.frozen)

    def run(self, arm: Arm, seed: int, fold: int, member: int) -> None:
        """Trains and predicts one member, unless it is finished."""
        folder = self.workdir / arm.name / f"seed{seed}" / f"fold{fold}" / f"member{member}"
        if (folder / FACTS).exists():
            return
        start = time.monotonic()
        bank, config = self.bank(arm), arm.config(self.config)
        records, balance = bank.dataset.records, config.balance
        roles = roles_of(config, records, seed, fold, member, self.members)
        training_seed = seed * self.members + member
        plan = make_plan(
            records.take(roles == TRAIN),
            bank.dataset.images,
            method=balance.method,
            features=balance.features,
            within_magnification=balance.within_magnification,
            k_neighbors=balance.k_neighbors,
            seed=training_seed,
        )
        rows = Rows(plan, bank.copies, bank.blends(plan, seed, fold, member))
        prepared = time.monotonic()
        if arm not in self._trainers:
            self._trainers[arm] = Trainer(config, bank.frozen.weights, self._initial)
        trainer = self._trainers[arm]
        epochs = list(trainer.epochs(rows, training_seed))
        trained = time.monotonic()
        logits = self._logits(trainer, bank, roles, epochs[-1][0], arm.dihedral and member == 0)
        label = records.label[roles == VAL]
        facts = {
            "arm": arm.name,
            "changes": {name: list(v) if isinstance(v, tuple) else v for name, v in arm.changes},
            "epochs": config.epochs,
            "seed": seed,
            "fold": fold,
            "member": member,
            "training_images": np.bincount(records.label[roles == TRAIN], minlength=2).tolist(),
            "plan_rows": np.bincount(plan.label, minlength=2).tolist(),
            "steps": config.epochs * (len(plan) // config.batch_size),
            "losses": [loss for _, loss in epochs],
            "validation": {
                choice: validation_metrics(label, of_role[VAL])
                for choice, of_role in logits.items()
                if VAL in of_role
            },
            "audit": audit.count_leaks(records, roles),
            "seconds": {
                "preparation": prepared - start,
                "training": trained - prepared,
                "prediction": time.monotonic() - trained,
            },
        }
        write_predictions(folder, records, roles, logits, facts)
        seconds = ", ".join(f"{name} {value:.0f} s" for name, value in facts["seconds"].items())
        auc = facts["validation"][AVERAGED]["val/roc_auc"]
        print(
            f"{arm.name} seed {seed} fold {fold} member {member}: {seconds}, {facts['steps']} "
            f"steps, validation AUC {'undefined' if auc is None else format(auc, '.3f')}",
            flush=True,
        )

    def _logits(
        self, trainer: Trainer, bank: Bank, roles: np.ndarray, state: TrainState, dihedral: bool
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns the logits by choice and role."""
        row = bank.dataset.records.row
        raw = {"params": state.params, "batch_stats": state.batch_stats}

        def mean_over(features: np.ndarray, variables: Any, role: str) -> np.ndarray:
            """Returns the mean logit over the second axis of the features."""
            images = row[roles == role]
            copies = range(features.shape[1])
            return np.mean([trainer.predict(variables, features[images, c]) for c in copies], 0)

        logits = {
            choice: {role: mean_over(bank.plain, variables, role) for role in (VAL, TEST)}
            for choice, variables in ((LAST, raw), (AVERAGED, state.variables))
        }
        if dihedral:
            logits[DIHEDRAL] = {TEST: mean_over(self._dihedral(bank), state.variables, TEST)}
        return logits


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of :func:`make_config` and :func:`measure`."""
    frozen_stages.add_options(parser)
    parser.set_defaults(epochs=3, batch_size=32)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--seeds", type=int, default=2)


def measure(
    config: ConfigDict,
    workdir: Path,
    rounds: Sequence[Round],
    members: int = MEMBERS,
    part: tuple[int, int] = (0, 1),
) -> None:
    """Trains every member of every arm, in the order of ``rounds``; skips finished trainings.

    Args:
        config: of the base.
        workdir: folder of the measurement.
        rounds: see :func:`rounds_of`.
        members: number of members of an ensemble.
        part: number of this process, from 0, and number of processes that divide the trainings.

    Raises:
        UserError: the images are not available, or ``workdir`` has a measurement with other
            settings.
    """
    dataset = load_dataset(config.data.dir, size=tuple(config.data.size))
    print(dataset.description, flush=True)
    settings = frozen_stages.settings_of(config, dataset)
    claim(workdir, {**settings, "members": members, "copies": COPIES})
    work = Work(config, workdir, members)
    for training in jobs(rounds, config.split.folds, part):
        work.run(*training)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    options = parser.parse_args()
    keep_compiled_programs()
    with exit_on_user_error():
        rounds = rounds_of(options.seeds, options.members)
        part = (options.part, options.parts)
        config = frozen_stages.make_config(options)
        measure(config, options.workdir, rounds, options.members, part)


if __name__ == "__main__":
    main()
