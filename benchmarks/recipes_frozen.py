"""Trains the recipes of :mod:`benchmarks.recipes` with frozen stages, on a CPU.

The network and the training are those of :mod:`benchmarks.frozen_stages`: the last stage and the
head are trained by the training step of ``train.py``, and the stages before keep the weights and
the statistics of ImageNet. These parts are cheaper than in ``train.py``: images of 112x112 pixels,
three epochs, features stored as float16, and four augmented copies of every image, one of them at
random in every epoch. A blend of SMOTE has one augmented copy in all epochs.

The arm ``tiles`` trains on squares of the left, middle and right of an image at its aspect ratio,
and predicts the mean logit of the three. Images that are stored as squares have lost their aspect
ratio.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import last_stage
from benchmarks.recipe_arms import AVERAGED, DIHEDRAL, LAST, TILES, Arm, Member
from benchmarks.stage_features import FrozenStages, frozen_stages_of, stored, views
from benchmarks.stage_training import Rows, Trainer
from data.balance import Plan
from data.dataset import Dataset, load_dataset
from data.feed.batch_order import blend
from se_resnet.images.resize import TILE_RULES
from se_resnet.runs.run_files import TEST, VAL
from se_resnet.runtime.batches import batches
from se_resnet.training.augment import Augmentation
from se_resnet.training.config import make_augmentation
from se_resnet.training.step import TrainState

COPIES = 4


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


class FrozenStagesNetwork:
    """Trains members and keeps what several members share, see :class:`benchmarks.recipes.Network`.

    Args:
        config: of the base.
        workdir: folder of the measurement, where features are kept.
    """

    def __init__(self, config: ConfigDict, workdir: Path):
        self._config, self._folder = config, workdir / "features"
        self._banks: dict[tuple, Bank] = {}
        self._trainers: dict[Arm, Trainer] = {}
        self._initial: dict = {}
        self._dihedral = functools.cache(self._make_dihedral)

    def settings(self) -> dict[str, Any]:
        """Returns the settings of a measurement that belong to frozen stages."""
        return {"copies": COPIES}

    def dataset(self, arm: Arm) -> Dataset:
        """Returns the images of an arm."""
        return self._bank(arm).dataset

    def train(
        self, member: Member, roles: np.ndarray, plan: Plan
    ) -> tuple[dict[str, dict[str, np.ndarray]], list[float]]:
        """Trains a member and predicts its images."""
        arm, bank = member.arm, self._bank(member.arm)
        rows = Rows(plan, bank.copies, bank.blends(plan, member.seed, member.fold, member.number))
        if arm not in self._trainers:
            config = arm.config(self._config)
            self._trainers[arm] = Trainer(config, bank.frozen.weights, self._initial)
        trainer = self._trainers[arm]
        epochs = list(trainer.epochs(rows, member.training_seed))
        dihedral = arm.dihedral and member.number == 0
        logits = self._logits(trainer, bank, roles, epochs[-1][0], dihedral)
        return logits, [loss for _, loss in epochs]

    def _bank(self, arm: Arm) -> Bank:
        """Returns the features of an arm, which arms with the same pixels share."""
        config = arm.config(self._config)
        augmentation = make_augmentation(config)
        key = (tuple(config.data.size), config.data.resize, arm.tiles, augmentation)
        if key not in self._banks:
            self._banks[key] = Bank(config, arm.tiles, self._folder)
        return self._banks[key]

    def _make_dihedral(self, bank: Bank) -> np.ndarray:
        """Returns the features of the dihedral views, ``float16 [N, 8, h, w, C]``."""
        height, width = self._config.data.size
        path = self._folder / f"{height}x{width}-dihedral.npy"
        return stored(path, bank.dataset.images, lambda block, _: views(block), bank.frozen)

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
