"""Trains the last stage and the head on stored features, by the training step of ``train.py``."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import last_stage
from benchmarks.stage_features import architecture
from data.balance import Plan
from data.feed.batch_order import rows_of_step, steps_per_epoch
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import PREDICTIONS, probability_of
from se_resnet.runtime.files import read_json, write_json
from se_resnet.training import optim
from se_resnet.training.config import make_recipe
from se_resnet.training.lr_multipliers import make_rules
from se_resnet.training.step import TrainState, make_train_step
from se_resnet.weights import pretrained

FACTS = "facts.json"  # written last, so that its presence marks a finished training
SETTINGS = "settings.json"


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a training epoch with their features.

    Attributes:
        plan: the rows of an epoch.
        real: ``float16 [N, V, h, w, C]``, copies of all images.
        blends: ``float16 [S, h, w, C]``, features of the blended rows.
    """

    plan: Plan
    real: np.ndarray
    blends: np.ndarray

    @functools.cached_property
    def blend_of_row(self) -> np.ndarray:
        """``int [P]``, position in ``blends`` of a row of the plan; -1 for a real image."""
        blended = np.flatnonzero(self.plan.weight)
        position = np.full(len(self.plan), -1)
        position[blended] = np.arange(len(blended))
        return position

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        """Returns the batch of these rows of the plan; a real image has a random copy."""
        plan, position = self.plan, self.blend_of_row[rows]
        copy = rng.integers(self.real.shape[1], size=len(rows))
        features = self.real[plan.base[rows], copy]
        features[position >= 0] = self.blends[position[position >= 0]]
        return {
            "image": features,
            "label": plan.label[rows].astype(np.float32),
            "importance": plan.importance[rows].astype(np.float32),
        }


class Trainer:
    """The compiled programs of a configuration.

    Neither the seed nor the number of the images is part of a compiled program, so that all
    trainings of a configuration share the programs. The schedule must be constant.

    Args:
        config: the configuration.
        weights: weights before the training.
        initial: keeps variables before the training by attention and seed, for other trainers of
            these weights; None keeps none.
    """

    def __init__(
        self, config: ConfigDict, weights: pretrained.Pretrained, initial: dict | None = None
    ):
        self.config, self.weights, self._initial = config, weights, initial
        attention = config.model.attention
        self.model = last_stage.make_model(weights, attention, architecture(config))
        part = last_stage.LastStage(self.model)
        rules = make_rules(config.optim, (self.model.stage_names[-1], optim.HEAD))
        assert config.optim.schedule == "constant" and not config.optim.warmup_epochs
        # With one step in an epoch, a phase starts at the number of its first epoch.
        self._phases = optim.make_phases(
            config.optim, rules, self._variables(0)["params"], epochs=config.epochs, epoch_steps=1
        )
        recipe = make_recipe(config, lambda key, features: features)
        classifier = last_stage.LastClassifier(part)
        self._steps = [make_train_step(classifier, recipe, phase) for phase in self._phases]
        self.predict = last_stage.make_predict(part)

    def _variables(self, seed: int) -> dict[str, Any]:
        key = (self.config.model.attention, seed)
        if self._initial is not None and key in self._initial:
            return jax.tree.map(jnp.array, self._initial[key])
        size = tuple(self.config.data.size)
        variables = last_stage.last_variables(self.model, self.weights, jax.random.key(seed), size)
        if self._initial is not None:
            self._initial[key] = jax.tree.map(np.array, variables)
        return variables

    def epochs(self, rows: Rows, seed: int) -> Iterator[tuple[TrainState, float]]:
        """Trains, and yields the state and the mean loss after every epoch.

        A state must be read before the next epoch, which takes over its memory.

        Args:
            rows: the rows of an epoch.
            seed: of the new weights, the order of the batches and the copies of the images.

        Raises:
            UserError: the loss of a step is not finite, or a batch has more rows than the plan.
        """
        config, plan = self.config, rows.plan
        state = TrainState.create(
            self._variables(seed), self._phases, averaged=config.optim.ema_decay > 0
        )
        per_epoch = steps_per_epoch(plan, config.batch_size)
        rng = np.random.default_rng((seed, 1))  # of the copies of real images
        for epoch in range(config.epochs):
            step = self._steps[optim.phase_at(self._phases, epoch).number]
            losses = []
            for number in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                chosen = rows_of_step(plan, config.batch_size, seed, number)
                state, metrics = step(state, rows.batch(chosen, rng))
                losses.append(metrics["loss"])
            if not all(np.isfinite(losses)):
                raise UserError(f"the loss of a step in epoch {epoch + 1} is not finite.")
            yield state, float(np.mean(losses))


def write_predictions(
    folder: Path,
    records: Records,
    roles: np.ndarray,
    logits: Mapping[str, Mapping[str, np.ndarray]],
    facts: Mapping[str, Any],
) -> None:
    """Writes predictions and facts. A killed process leaves no folder that looks finished.

    Args:
        folder: of the training, which must not exist.
        records: all images.
        roles: ``str [N]``.
        logits: ``float64 [n]`` by name of the weights and role.
        facts: about the training.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for choice, of_role in logits.items():
        for role, values in of_role.items():
            path = unfinished / choice / role
            path.mkdir(parents=True)
            images = records.take(roles == role)
            images.predictions(probability_of(values)).write_csv(path / PREDICTIONS)
    write_json(unfinished / FACTS, facts)
    unfinished.rename(folder)


def claim(workdir: Path, settings: Mapping[str, Any]) -> None:
    """Refuses a folder with a measurement of other images or settings.

    Raises:
        UserError: the settings of the folder differ.
    """
    path = workdir / SETTINGS
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
    elif (found := read_json(path)) != settings:
        differing = ", ".join(name for name in settings if found.get(name) != settings[name])
        raise UserError(
            f"{workdir} has a measurement with other settings ({differing}): give another folder."
        )
