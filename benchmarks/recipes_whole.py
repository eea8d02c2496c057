"""Trains the recipes of :mod:`benchmarks.recipes` as ``train.py`` does, on a GPU.

All layers are trained, on 224x224 pixels, for ten epochs, in bfloat16, with the images in the
memory of the device. An epoch is one dispatch. Recipes that differ only in numbers share a compiled
program. The weights after the last epoch are evaluated; no epoch is chosen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import train
from benchmarks.recipe_arms import AVERAGED, DIHEDRAL, LAST, UNIFORM, Arm, Member
from benchmarks.stage_features import views
from data.balance import Plan
from data.dataset import Dataset, load_dataset
from data.feed import device
from data.feed.batch_order import rows_of_step, steps_per_epoch
from se_resnet.errors import UserError
from se_resnet.models.classifier import Classifier
from se_resnet.runs.run_files import TEST, VAL
from se_resnet.runtime import processes
from se_resnet.runtime.batches import batches
from se_resnet.runtime.mesh import batch_sharding, data_mesh, replicated
from se_resnet.training import optim
from se_resnet.training.config import make_augmentation, make_recipe
from se_resnet.training.lr_multipliers import make_rules
from se_resnet.training.step import TrainState, make_train_steps
from se_resnet.weights import configured

_DTYPE = "bfloat16"
_EVAL_BATCH = 128


class WholeNetwork:
    """Trains members and keeps what several members share, see :class:`benchmarks.recipes.Network`.

    Args:
        config: of the base.
    """

    def __init__(self, config: ConfigDict):
        self._config = config
        self._weights = configured.load(config.model)
        self._whole = replicated(data_mesh())

    def settings(self) -> dict[str, Any]:
        """Returns the settings of a measurement that belong to whole networks."""
        return {"dtype": _DTYPE}

    @functools.cached_property
    def _dataset(self) -> Dataset:
        return load_dataset(self._config.data.dir, size=tuple(self._config.data.size))

    def dataset(self, arm: Arm) -> Dataset:
        """Returns the images, which are the same for all arms."""
        return self._dataset

    @functools.cached_property
    def _pixels(self) -> jax.Array:
        return processes.put(np.asarray(self._dataset.images), self._whole)

    @functools.cache  # noqa: B019, one object for the whole process
    def _new(self, attention: str, seed: int) -> tuple[Classifier, dict[str, Any]]:
        """Returns the network and its variables before a training, on the host."""
        config = self._config.copy_and_resolve_references()
        config.model.attention, config.model.dtype, config.seed = attention, _DTYPE, seed
        weights = self._weights.for_attention(attention, config.model.attention_position)
        classifier, variables = train.new_network(config, weights)
        return classifier, jax.tree.map(np.array, variables)

    def train(
        self, member: Member, roles: np.ndarray, plan: Plan
    ) -> tuple[dict[str, dict[str, np.ndarray]], list[float]]:
        """Trains a member and predicts its images."""
        config = member.arm.config(self._config)
        classifier, variables = self._new(config.model.attention, member.training_seed)
        losses, uniform = [], None
        for epoch, (state, of_steps) in enumerate(
            self._epochs(config, classifier, variables, plan, member.training_seed)
        ):
            losses.append(jnp.mean(of_steps))
            if epoch >= config.epochs // 2:
                raw = {"params": state.params, "batch_stats": state.batch_stats}
                parts = config.epochs - config.epochs // 2
                uniform = _add_share(uniform or jax.tree.map(jnp.zeros_like, raw), raw, parts)
        if not np.isfinite(losses).all():
            raise UserError(f"the loss of {member.arm.name} is not finite.")
        weights = {LAST: raw, AVERAGED: state.variables, UNIFORM: uniform}
        logits = self._logits(classifier, weights, roles)
        if member.arm.dihedral and member.number == 0:
            logits[DIHEDRAL] = {TEST: self._dihedral(classifier, state.variables, roles)}
        return logits, [float(loss) for loss in losses]

    def _epochs(
        self,
        config: ConfigDict,
        classifier: Classifier,
        variables: Mapping[str, Any],
        plan: Plan,
        seed: int,
    ) -> Iterator[tuple[TrainState, jax.Array]]:
        """Yields the state and the losses of the steps after every epoch."""
        size, per_epoch = config.batch_size, steps_per_epoch(plan, config.batch_size)
        rules = make_rules(config.optim, (*classifier.model.stage_names, optim.HEAD))
        phases = optim.make_phases(
            config.optim, rules, variables["params"], epochs=config.epochs, epoch_steps=per_epoch
        )
        recipe = dataclasses.replace(make_recipe(config, make_augmentation(config)), seed=seed)
        state = TrainState.create(variables, phases, averaged=recipe.ema_decay > 0)
        state = processes.put(state, self._whole)
        resident = device.place(self._pixels, plan, self._whole)
        longest = max(per_epoch, 2 * len(self._pixels) // size)  # one shape for all plans
        for epoch in range(config.epochs):
            phase = optim.phase_at(phases, epoch * per_epoch)
            rows = np.zeros((longest, size), np.int32)
            for number in range(per_epoch):
                rows[number] = rows_of_step(plan, size, seed, epoch * per_epoch + number)
            steps = make_train_steps(classifier, recipe, phase, device.make_batch)
            state, metrics = steps(resident, state, rows, per_epoch)
            yield state, metrics["loss"][:per_epoch]

    def _logits(
        self, classifier: Classifier, weights: Mapping[str, Any], roles: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns the logits by choice of the weights and role, from one pass over the images."""
        rows = {role: self._dataset.records.row[roles == role] for role in (VAL, TEST)}
        sharding = batch_sharding(data_mesh(), _EVAL_BATCH)
        every = device.eval_batches(
            self._pixels,
            np.concatenate([*rows.values()]),
            batch_size=_EVAL_BATCH,
            sharding=sharding,
        )
        logits = classifier.make_predict()(list(weights.values()), every)
        end = len(rows[VAL])
        return {
            choice: {VAL: of_weights[:end], TEST: of_weights[end:]}
            for choice, of_weights in zip(weights, logits, strict=True)
        }

    def _dihedral(
        self, classifier: Classifier, variables: Mapping[str, Any], roles: np.ndarray
    ) -> np.ndarray:
        """Returns the mean logits of the dihedral views of the test images."""
        images = self._dataset.images[self._dataset.records.row[roles == TEST]]
        turned = views(images).reshape(-1, *images.shape[1:])
        every = (
            {"image": turned[positions], "mask": mask}
            for positions, mask in batches(len(turned), _EVAL_BATCH)
        )
        (logits,) = classifier.make_predict()([variables], every)
        return logits.reshape(len(images), -1).mean(axis=1)


@functools.partial(jax.jit, donate_argnums=0)
def _add_share(total: Any, tree: Any, parts: int) -> Any:
    return jax.tree.map(lambda sum_, value: sum_ + value / parts, total, tree)
