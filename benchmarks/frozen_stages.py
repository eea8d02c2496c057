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
import dataclasses
import functools
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import last_stage
from configs import breakhis
from data.balance import Plan, make_plan
from data.dataset import Dataset, load_dataset
from data.feed.batch_order import blend, rows_of_step, steps_per_epoch
from data.protocols import audit
from data.protocols.magnifications import exclude_magnifications
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet import attention as attention_modules
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import PREDICTIONS, probability_of
from se_resnet.predict.tta import dihedral_views
from se_resnet.runs.run_files import TEST, TRAIN, VAL
from se_resnet.runtime.cli import exit_on_user_error, path_argument, path_option
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.runtime.files import atomic_write, read_json, write_json
from se_resnet.training import optim
from se_resnet.training.config import make_recipe
from se_resnet.training.lr_multipliers import make_rules
from se_resnet.training.step import TrainState, make_train_step
from se_resnet.training.validation import validation_metrics
from se_resnet.weights import configured, pretrained

VIEWS = 8
CHOICES = ("last", "averaged", "best")
FACTS = "facts.json"  # written last, so that its presence marks a finished fold run
SETTINGS = "settings.json"
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


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of the images, and the network that they came from.

    Attributes:
        frozen: pixels ``uint8 [B, H, W, 3]`` to features ``float16 [B, h, w, C]``.
        real: ``float16 [N, 8, h, w, C]``, the dihedral views of the images, the original first.
        weights: weights before the training.
    """

    frozen: Any
    real: np.ndarray
    weights: pretrained.Pretrained


def views(images: np.ndarray) -> np.ndarray:
    """Returns the dihedral views of ``uint8 [N, H, H, 3]``: ``uint8 [N, 8, H, H, 3]``."""
    return np.stack([np.asarray(view) for view in dihedral_views(images)], axis=1)


def open_features(config: ConfigDict, dataset: Dataset, path: Path) -> Features:
    """Computes the features of all images, or reads them from a file of an earlier start."""
    weights = configured.load(config.model)
    model = _model(config, weights, attention_modules.NONE)
    size = tuple(config.data.size)
    variables = pretrained.initial_variables(model, weights, jax.random.key(0), size)
    frozen = last_stage.make_frozen(model, variables, weights, size)
    if not path.exists():
        start, parts = time.monotonic(), []
        for first in range(0, len(dataset.images), last_stage.BATCH):
            images = views(dataset.images[first : first + last_stage.BATCH])
            parts.append(frozen(images.reshape(-1, *images.shape[2:])))
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise UserError("a feature is too large for float16: store the features as float32.")
        with atomic_write(path, "wb") as file:
            np.save(file, features.reshape(-1, VIEWS, *features.shape[1:]))
        seconds = time.monotonic() - start
        print(f"{len(features)} views of real images in {seconds:.0f} s", flush=True)
    return Features(frozen, np.load(path, mmap_mode="r"), weights)


def _model(config: ConfigDict, weights: pretrained.Pretrained, attention: str):
    architecture = {name: config.model[name] for name in ("stage_sizes", "width")}
    return last_stage.make_model(weights, attention, architecture)


@dataclasses.dataclass(frozen=True)
class Fold:
    """The images of a fold run.

    Attributes:
        roles: ``str [N]``.
        plan: the rows of an epoch.
        blends: ``float16 [S, h, w, C]``, features of the blended rows.
        blend_of_row: ``int [P]``, position in ``blends`` of a row of the plan; -1 for a real image.
    """

    roles: np.ndarray
    plan: Plan
    blends: np.ndarray
    blend_of_row: np.ndarray


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
        self._program = functools.cache(self._compile)

    def run(self, arm: Arm, seed: int, fold: int) -> None:
        """Trains and predicts one fold, unless it is finished."""
        folder = self.workdir / arm.name / f"seed{seed}" / f"fold{fold}"
        if (folder / FACTS).exists():
            return
        start = time.monotonic()
        # Arms that differ in their attention only share the training images.
        data = self._fold(dataclasses.replace(arm, attention=""), seed, fold)
        prepared = time.monotonic()
        logits, facts = self._train(arm.attention, data, seed)
        facts |= {**dataclasses.asdict(arm), "seed": seed, "fold": fold}
        facts["seconds"] = {
            "features of blends": prepared - start,
            "training": time.monotonic() - prepared,
        }
        self._write(folder, data.roles, logits, facts)
        print(f"{arm.name} seed {seed} fold {fold}: {_seconds(facts)}", flush=True)

    def _make_fold(self, arm: Arm, seed: int, fold: int) -> Fold:
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
        blend_of_row = np.full(len(plan), -1)
        blend_of_row[blended] = np.arange(len(blended))
        blends = np.zeros((0, *self.features.real.shape[2:]), np.float16)
        if len(blended):
            pixels = views(blend(images, plan, blended))[np.arange(len(blended)), view]
            blends = self.features.frozen(pixels)
        return Fold(roles, plan, blends, blend_of_row)

    def _compile(self, attention: str):
        """Returns model, phases of the optimizer, training step and forward pass of an attention.

        Neither the seed nor the number of the images is part of a compiled program.
        """
        model = _model(self.config, self.features.weights, attention)
        part = last_stage.LastStage(model)
        params = self._variables(model, 0)["params"]
        rules = make_rules(self.config.optim, (model.stage_names[-1], optim.HEAD))
        # The step count of an epoch matters to schedules and phases only, which are constant.
        phases = optim.make_phases(
            self.config.optim, rules, params, epochs=self.config.epochs, epoch_steps=1
        )
        assert len(phases) == 1, "every epoch trains the same parameters"
        recipe = make_recipe(self.config, lambda key, features: features)
        step = make_train_step(last_stage.LastClassifier(part), recipe, phases[0])
        return model, phases, step, last_stage.make_predict(part)

    def _variables(self, model, seed: int) -> dict[str, Any]:
        size = tuple(self.config.data.size)
        key = jax.random.key(seed)
        return last_stage.last_variables(model, self.features.weights, key, size)

    def _train(
        self, attention: str, data: Fold, seed: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
        """Returns the logits by checkpoint and role, and facts about the training."""
        model, phases, step, predict = self._program(attention)
        config, records = self.config, self.dataset.records
        held_out = {role: records.row[data.roles == role] for role in (VAL, TEST)}
        label = records.label[data.roles == VAL]
        state = TrainState.create(
            self._variables(model, seed), phases, averaged=config.optim.ema_decay > 0
        )
        per_epoch = steps_per_epoch(data.plan, config.batch_size)
        rng = np.random.default_rng((seed, 1))  # of the views of real images
        epochs, best, best_score, losses = [], None, None, []

        def logits_of(variables: Mapping, roles=(VAL, TEST)) -> dict[str, np.ndarray]:
            return {
                role: predict(variables, self.features.real[held_out[role], 0]) for role in roles
            }

        for number in range(config.epochs * per_epoch):
            rows = rows_of_step(data.plan, config.batch_size, seed, number)
            state, metrics = step(state, self._batch(data, rows, rng))
            losses.append(metrics["loss"])
            if (number + 1) % per_epoch:
                continue
            if not all(np.isfinite(losses)):
                raise UserError(f"the loss of a step before step {number + 2} is not finite.")
            raw = {"params": state.params, "batch_stats": state.batch_stats}
            scalars = validation_metrics(label, logits_of(raw, (VAL,))[VAL])
            epochs.append({**scalars, "train/loss": float(np.mean(losses[-per_epoch:]))})
            score = [scalars["val/roc_auc"] or 0.0, -scalars["val/loss"]]  # as train.py
            if best_score is None or score > best_score:
                # A copy, because a step takes over the memory of the state.
                best, best_score = jax.tree.map(np.array, raw), score
                best_epoch = len(epochs)
        trained = records.label[data.roles == TRAIN]
        facts = {
            "training_images": np.bincount(trained, minlength=2).tolist(),
            "plan_rows": np.bincount(data.plan.label, minlength=2).tolist(),
            "blends": len(data.blends),
            "steps_per_epoch": per_epoch,
            "epochs": epochs,
            "best_epoch": best_epoch,
            "audit": audit.count_leaks(records, data.roles),
        }
        last = logits_of(raw)
        is_last = best_epoch == len(epochs)
        logits = {
            "last": last,
            "averaged": logits_of(state.variables),
            "best": last if is_last else logits_of(best),
        }
        return logits, facts

    def _batch(self, data: Fold, rows: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        plan, position = data.plan, data.blend_of_row[rows]
        view = rng.integers(VIEWS, size=len(rows))
        features = self.features.real[plan.base[rows], view]
        features[position >= 0] = data.blends[position[position >= 0]]
        return {
            "image": features,
            "label": plan.label[rows].astype(np.float32),
            "importance": plan.importance[rows].astype(np.float32),
        }

    def _write(
        self, folder: Path, roles: np.ndarray, logits: Mapping[str, Mapping], facts: Mapping
    ) -> None:
        """Writes predictions and facts. A killed process leaves no folder that looks finished."""
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for choice, of_role in logits.items():
            for role, values in of_role.items():
                path = unfinished / choice / role
                path.mkdir(parents=True)
                images = self.dataset.records.take(roles == role)
                images.predictions(probability_of(values)).write_csv(path / PREDICTIONS)
        write_json(unfinished / FACTS, facts)
        unfinished.rename(folder)


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
    workdir.mkdir(parents=True, exist_ok=True)
    _claim(workdir, config, dataset)
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


def _claim(workdir: Path, config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a folder with a measurement of other images or settings."""
    settings = {
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
    path = workdir / SETTINGS
    if not path.exists():
        write_json(path, settings)
    elif (found := read_json(path)) != settings:
        differing = ", ".join(name for name in settings if found.get(name) != settings[name])
        raise UserError(
            f"{workdir} has a measurement with other settings ({differing}): give another folder."
        )


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
