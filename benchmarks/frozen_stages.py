r"""Compares splits, attention modules and balancing, with the early stages of the network frozen.

    python -m benchmarks.frozen_stages WORKDIR --data_dir=/path/to/BreaKHis_v1

Trains the last stage and the head of the network of ``configs/breakhis.py`` by the training step of
``train.py``. The stem and the stages before keep the weights and the statistics of ImageNet, so
that their features are computed once for all fold runs. Attention modules are in the last stage
only. The arms are:

* leak: protocol ``strict`` against ``random``, with SE and SMOTE, all seeds,
* attention: every registered module and none, under ``strict`` with SMOTE,
* balancing: none, class weights, oversampling and SMOTE, under ``strict`` with SE.

A seed decides the division of the images, the blends of SMOTE, the new weights and the order of the
batches. These parts are cheaper than in ``train.py``: images of 112x112 pixels, four epochs of
batches of 16 images, three folds, flips and right-angle rotations as the only augmentation,
features stored as float16. A real image has another of its eight dihedral views in every epoch. A
blend of SMOTE has one random view in all epochs.

A finished fold run has its predictions in
``WORKDIR/ARM/seedS/foldF/{last,averaged,best}/{val,test}/predictions.csv`` and the facts of its
training in ``facts.json``. ``last`` has the weights after the last epoch, ``averaged`` their moving
average over the steps, ``best`` the weights after the epoch with the highest validation AUC. The
same command resumes an interrupted measurement. A training uses one core, so that ``--parts`` can
divide the fold runs over processes. ``python -m benchmarks.frozen_report WORKDIR``
prints the comparisons.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.stage_features import VIEWS, Features, open_features, views
from benchmarks.stage_training import FACTS, Rows, Trainer, claim, write_predictions
from configs import breakhis
from data.balance import make_plan
from data.dataset import Dataset, load_dataset
from data.feed.batch_order import blend, steps_per_epoch
from data.protocols import audit
from data.protocols.magnifications import exclude_magnifications
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet import attention as attention_modules
from se_resnet.runs.run_files import TEST, TRAIN, VAL
from se_resnet.runtime.cli import exit_on_user_error, path_argument, path_option
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.tracking.epoch_table import validation_score
from se_resnet.training.validation import validation_metrics

CHOICES = ("last", "averaged", "best")
BALANCING = ("none", "class_weights", "oversample", "smote")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        protocol: see :mod:`data.protocols.roles`.
        attention: name of the attention module in the last stage.
        balancing: see :func:`data.balance.make_plan`.
        train_magnifications: of the training and validation images; empty for all. The test images
            have all magnifications.
    """

    protocol: str = "strict"
    attention: str = "se"
    balancing: str = "smote"
    train_magnifications: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name of the folder."""
        name = f"{self.protocol}-{self.attention}-{self.balancing}"
        scales = "-".join(map(str, self.train_magnifications))
        return f"{name}-{scales}X" if scales else name


BASE = Arm()
LEAK = (BASE, Arm(protocol="random"))


def attention_arms() -> tuple[Arm, ...]:
    """Returns an arm without attention, and an arm for every registered module."""
    names = (attention_modules.NONE, *attention_modules.REGISTRY)
    return tuple(Arm(attention=name) for name in names)


def balancing_arms() -> tuple[Arm, ...]:
    """Returns an arm for every method of balancing."""
    return tuple(Arm(balancing=name) for name in BALANCING)


def arms_of_rounds(seeds: int, all_arms_seeds: int) -> list[tuple[int, tuple[Arm, ...]]]:
    """Returns seeds with the arms to train, in the order of the work.

    An early stop leaves complete comparisons: a seed is finished before the next seed begins. The
    leak, which needs most seeds, precedes further seeds of the other comparisons.

    Args:
        seeds: number of seeds of the leak.
        all_arms_seeds: number of seeds of attention and balancing, at most ``seeds``.
    """
    every = tuple(dict.fromkeys((*LEAK, *balancing_arms(), *attention_arms())))
    first = min(2, all_arms_seeds)
    return [
        *((seed, every) for seed in range(first)),
        *((seed, LEAK) for seed in range(first, seeds)),
        *((seed, every) for seed in range(first, all_arms_seeds)),
    ]


class Work:
    """Trains fold runs and keeps what several fold runs share.

    Args:
        config: of all fold runs; arm, seed and fold are set for each.
        dataset: the images.
        features: their features.
        workdir: folder of the measurement.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, features: Features, workdir: Path):
        self.config, self.dataset, self.features, self.workdir = config, dataset, features, workdir
        self._fold = functools.lru_cache(maxsize=1)(self._make_fold)
        self._trainer = functools.cache(self._make_trainer)

    def run(self, arm: Arm, seed: int, fold: int) -> None:
        """Trains and predicts one fold, unless it is finished."""
        folder = self.workdir / arm.name / f"seed{seed}" / f"fold{fold}"
        if (folder / FACTS).exists():
            return
        start = time.monotonic()
        # Arms that differ in their attention only share the training images.
        roles, rows = self._fold(dataclasses.replace(arm, attention=""), seed, fold)
        prepared = time.monotonic()
        logits, facts = self._train(arm.attention, roles, rows, seed)
        facts |= {**dataclasses.asdict(arm), "seed": seed, "fold": fold}
        facts["seconds"] = {
            "features of blends": prepared - start,
            "training": time.monotonic() - prepared,
        }
        write_predictions(folder, self.dataset.records, roles, logits, facts)
        print(f"{arm.name} seed {seed} fold {fold}: {_seconds(facts)}", flush=True)

    def _make_fold(self, arm: Arm, seed: int, fold: int) -> tuple[np.ndarray, Rows]:
        """Returns the roles ``str [N]`` and the rows of an epoch."""
        records, images, config = self.dataset.records, self.dataset.images, self.config
        roles = roles_of(config, records, arm, seed, fold)
        plan = make_plan(
            records.take(roles == TRAIN),
            images,
            method=arm.balancing,
            features=config.balance.features,
            within_magnification=config.balance.within_magnification,
            k_neighbors=config.balance.k_neighbors,
            seed=seed,
        )
        blended = np.flatnonzero(plan.weight)
        view = np.random.default_rng((seed, fold)).integers(VIEWS, size=len(blended))
        blends = np.zeros((0, *self.features.real.shape[2:]), np.float16)
        if len(blended):
            pixels = views(blend(images, plan, blended))[np.arange(len(blended)), view]
            blends = self.features.frozen(pixels)
        return roles, Rows(plan, self.features.real, blends)

    def _make_trainer(self, attention: str) -> Trainer:
        config = copy.deepcopy(self.config)
        config.model.attention = attention
        return Trainer(config, self.features.weights)

    def _train(
        self, attention: str, roles: np.ndarray, rows: Rows, seed: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
        """Returns the logits by checkpoint and role, and facts about the training."""
        trainer, records = self._trainer(attention), self.dataset.records
        held_out = {role: records.row[roles == role] for role in (VAL, TEST)}
        label = records.label[roles == VAL]
        epochs, best, best_score = [], None, None

        def logits_of(variables: Mapping, chosen=(VAL, TEST)) -> dict[str, np.ndarray]:
            return {
                role: trainer.predict(variables, self.features.real[held_out[role], 0])
                for role in chosen
            }

        for state, loss in trainer.epochs(rows, seed):
            raw = {"params": state.params, "batch_stats": state.batch_stats}
            scalars = validation_metrics(label, logits_of(raw, (VAL,))[VAL])
            epochs.append({**scalars, "train/loss": loss})
            score = validation_score(scalars)
            if best_score is None or score > best_score:
                # A copy, because a step takes over the memory of the state.
                best, best_score = jax.tree.map(np.array, raw), score
                best_epoch = len(epochs)
        trained = records.label[roles == TRAIN]
        facts = {
            "training_images": np.bincount(trained, minlength=2).tolist(),
            "plan_rows": np.bincount(rows.plan.label, minlength=2).tolist(),
            "blends": len(rows.blends),
            "steps_per_epoch": steps_per_epoch(rows.plan, self.config.batch_size),
            "epochs": epochs,
            "best_epoch": best_epoch,
            "audit": audit.count_leaks(records, roles),
        }
        last = logits_of(raw)
        is_last = best_epoch == len(epochs)
        logits = {
            "last": last,
            "averaged": logits_of(state.variables),
            "best": last if is_last else logits_of(best),
        }
        return logits, facts


def roles_of(config: ConfigDict, records: Records, arm: Arm, seed: int, fold: int) -> np.ndarray:
    """Returns the roles of the images in a fold run, ``str [N]``.

    Raises:
        UserError: the images cannot be divided for this arm.
    """
    roles = assign_roles(
        records,
        arm.protocol,
        folds=config.split.folds,
        fold=fold,
        val_folds=config.split.val_folds,
        seed=seed,
    )
    roles = exclude_magnifications(records, roles, arm.train_magnifications, ())
    audit.verify(records, roles, arm.protocol)
    return roles


def _seconds(facts: Mapping) -> str:
    aucs = ", ".join(
        "undefined" if epoch["val/roc_auc"] is None else f"{epoch['val/roc_auc']:.3f}"
        for epoch in facts["epochs"]
    )
    parts = ", ".join(f"{name} {value:.0f} s" for name, value in facts["seconds"].items())
    steps = facts["steps_per_epoch"] * len(facts["epochs"])
    return f"{parts}, {steps} steps, validation AUC {aucs}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of :func:`make_config` and :func:`measure`."""
    parser.add_argument("workdir", type=path_argument)
    parser.add_argument("--data_dir", type=path_option, required=True)
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--part", type=int, default=0, help="number of this process, from 0")
    parser.add_argument("--parts", type=int, default=1, help="processes that divide the fold runs")


def make_config(options: argparse.Namespace) -> ConfigDict:
    """Returns the configuration of all fold runs."""
    config = breakhis.get_config()
    config.data.dir = str(options.data_dir)
    config.data.size = (options.size, options.size)
    config.split.folds = options.folds
    config.epochs = options.epochs
    config.batch_size = options.batch_size
    config.optim.ema_decay = 0.99
    return config


def measure(
    config: ConfigDict,
    workdir: Path,
    rounds: list[tuple[int, tuple[Arm, ...]]],
    part: tuple[int, int] = (0, 1),
) -> None:
    """Trains every fold of every arm, in the order of ``rounds``; skips finished fold runs.

    Args:
        config: of all fold runs.
        workdir: folder of the measurement.
        rounds: see :func:`arms_of_rounds`.
        part: number of this process, from 0, and number of processes that divide the fold runs.

    Raises:
        UserError: the images are not available, or ``workdir`` has a measurement with other
            settings.
    """
    dataset = load_dataset(config.data.dir, size=tuple(config.data.size))
    print(dataset.description, flush=True)
    claim(workdir, settings_of(config, dataset))
    features = open_features(config, dataset, workdir / "features.npy")
    work = Work(config, dataset, features, workdir)
    for arm, seed, fold in _jobs(rounds, config.split.folds, part):
        work.run(arm, seed, fold)


def _jobs(
    rounds: list[tuple[int, tuple[Arm, ...]]], folds: int, part: tuple[int, int]
) -> Iterator[tuple[Arm, int, int]]:
    """Yields arm, seed and fold. Arms with the same training images follow each other."""
    number, count = part
    for position, (seed, arms) in enumerate(rounds):
        for fold in range(folds):
            if (position * folds + fold) % count != number:
                continue
            for arm in sorted(arms, key=lambda arm: (arm.protocol, arm.balancing)):
                yield arm, seed, fold


def settings_of(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
    """Returns the settings of a measurement, which all its fold runs share."""
    return {
        "fingerprint": dataset.fingerprint,
        "size": list(config.data.size),
        "folds": config.split.folds,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "ema_decay": config.optim.ema_decay,
        "pretrained": config.model.pretrained,
        "stage_sizes": list(config.model.stage_sizes),
        "width": config.model.width,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the leak")
    parser.add_argument(
        "--all_arms_seeds", type=int, default=2, help="seeds of attention and balancing"
    )
    options = parser.parse_args()
    keep_compiled_programs()
    with exit_on_user_error():
        rounds = arms_of_rounds(options.seeds, options.all_arms_seeds)
        part = (options.part, options.parts)
        measure(make_config(options), options.workdir, rounds, part)


if __name__ == "__main__":
    main()
