"""Builds the optimizer, the learning-rate schedule and the phases of a training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from se_resnet.errors import UserError
from se_resnet.training.arguments import is_on, register
from se_resnet.training.lr_multipliers import Rule, multipliers

SCHEDULES = ("constant", "cosine", "linear")
HEAD = "head"
_UNKNOWN = optax.constant_schedule(math.nan)


@register(arguments=("peak", "steps"), switches=("warmup_steps",))
@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate by step, counted from 0.

    Attributes:
        kind: shape after the warm-up: ``'constant'``, or a fall to 0 at ``steps`` along half a
            ``'cosine'`` (Loshchilov & Hutter 2017) or a ``'linear'`` line.
        peak: the highest learning rate.
        steps: number of steps of the whole training, with the warm-up.
        warmup_steps: number of steps in which the learning rate rises to the peak in equal parts.
            The first step already has one part.
    """

    kind: str
    peak: float
    steps: float = 1.0
    warmup_steps: float = 0.0

    def __call__(self, step: float | jax.Array) -> float | jax.Array:
        """Returns the learning rate of a step."""
        if self.kind == "constant":
            after = self.peak
        else:
            # optax refuses numbers of steps that a compiled program does not know: steps of 1.
            falls = {"cosine": optax.cosine_decay_schedule, "linear": _falling_line}
            passed = (step - self.warmup_steps) / jnp.maximum(1, self.steps - self.warmup_steps)
            after = falls[self.kind](self.peak, 1)(jnp.maximum(0, passed))
        if not is_on(self.warmup_steps):
            return after
        rising = self.peak * (step + 1) / self.warmup_steps
        return jnp.where(step < self.warmup_steps, rising, after)


def _falling_line(peak: float, steps: int) -> optax.Schedule:
    return optax.linear_schedule(peak, 0.0, steps)


@register(arguments=("schedule",), switches=("weight_decay", "clip_norm"))
@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) with weight decay.

    Has the methods of an ``optax.GradientTransformation``. Its numbers are arguments of the
    compiled step.

    Attributes:
        schedule: a learning rate, or the learning rate over the steps of this optimizer.
        weight_decay: share of a weight that is subtracted in a step, times the learning rate.
            Vectors do not decay: biases, and scales and offsets of normalisations.
        clip_norm: largest global norm of the gradients, which are scaled down together; 0 does not
            scale.
        multipliers: path and factor of the learning rate of each parameter; empty if all are 1.
    """

    schedule: float | Schedule
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    multipliers: tuple[tuple[str, float], ...] = ()

    def init(self, params: optax.Params) -> optax.OptState:
        """Returns the state before the first step, which is zeros."""
        # Made by optax, each shape of the zeros would be compiled: seconds for a ResNet50.
        shapes = jax.eval_shape(self._transformation().init, params)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.device_put(zeros, may_alias=False)

    def update(
        self, updates: optax.Updates, state: optax.OptState, params: optax.Params
    ) -> tuple[optax.Updates, optax.OptState]:
        """Returns the changes of the parameters by gradients, and the next state."""
        return self._transformation().update(updates, state, params)

    def _transformation(self) -> optax.GradientTransformation:
        parts = [optax.clip_by_global_norm(self.clip_norm)] if is_on(self.clip_norm) else []
        parts.append(optax.scale_by_adam())
        if is_on(self.weight_decay):
            parts.append(optax.add_decayed_weights(self.weight_decay, mask=_is_matrix))
        parts.append(optax.scale_by_learning_rate(self.schedule))
        if self.multipliers:
            parts.append(_multiply(dict(self.multipliers)))
        return optax.chain(*parts)


def _is_matrix(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _multiply(multiplier_of: Mapping[str, float]) -> optax.GradientTransformation:
    def apply(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        flat = flatten_dict(updates, sep="/")
        return unflatten_dict({path: multiplier_of[path] * u for path, u in flat.items()}, sep="/")

    return optax.stateless(apply)


@register(unused=("start", "schedule"))
@dataclasses.dataclass(frozen=True)
class Phase:
    """A range of steps in which one optimizer trains the same parameters.

    Attributes:
        optimizer: optimizer of the trained parameters only. The numbers of an :class:`Adam` are
            arguments of the compiled step, those of another optimizer are constants in it.
        frozen: paths ``part/.../name`` of the other parameters.
        number: number of the phase, from 0.
        start: first step of the phase.
        schedule: learning rate by step of the phase; NaN if unknown.
    """

    optimizer: Adam | optax.GradientTransformation
    frozen: frozenset[str] = frozenset()
    number: int = 0
    start: int = 0
    schedule: optax.Schedule = _UNKNOWN

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of step ``step`` of the training, before multipliers."""
        return float(self.schedule(step - self.start))

    def split(self, params: Mapping) -> tuple[dict, dict]:
        """Returns two nested dicts: the trained parameters and the frozen parameters."""
        flat = flatten_dict(params, sep="/")
        trained = {path: leaf for path, leaf in flat.items() if path not in self.frozen}
        frozen = {path: leaf for path, leaf in flat.items() if path in self.frozen}
        return unflatten_dict(trained, sep="/"), unflatten_dict(frozen, sep="/")


def merge(trained: Mapping, frozen: Mapping) -> dict:
    """Joins the two dicts that :meth:`Phase.split` returns."""
    return unflatten_dict({**flatten_dict(trained), **flatten_dict(frozen)})


def make_phases(
    optim: ConfigDict, rules: Iterable[Rule], params: Mapping, *, epochs: int, epoch_steps: int
) -> list[Phase]:
    """Returns the phases of a training: one phase, or the epochs of the head and then the rest.

    Training the head first keeps gradients of an untrained head away from pretrained features
    (Kumar et al. 2022). Attention modules are frozen with the backbone in that phase: new modules
    begin as identity, and their gradients would need the gradients of all features after them.

    Args:
        optim: the section ``optim`` of the configuration. Its schedule belongs to the last phase.
            The learning rate of the head phase is constant.
        rules: rules that cover ``params``.
        params: parameters of the network, or their shapes.
        epochs: number of epochs of the whole training.
        epoch_steps: number of steps in one epoch.

    Raises:
        UserError: the rules do not cover the parameters, or freeze the head of the head phase.
    """
    multiplier_of = multipliers(rules, params)
    frozen = {path for path, multiplier in multiplier_of.items() if multiplier == 0}
    features = {path for path in multiplier_of if path.split("/")[0] != HEAD}
    head_steps = optim.head_epochs * epoch_steps
    phases = []
    if head_steps:
        if frozen - features:
            raise UserError(
                f"config.optim.rules freezes the head, which config.optim.head_epochs = "
                f"{optim.head_epochs} trains: change one of the two."
            )
        phases.append((0, frozen | features, Schedule("constant", optim.learning_rate)))
    warmup_steps = round(optim.warmup_epochs * epoch_steps)
    steps = epochs * epoch_steps - head_steps
    schedule = Schedule(optim.schedule, optim.learning_rate, float(steps), float(warmup_steps))
    used = () if set(multiplier_of.values()) == {1.0} else tuple(multiplier_of.items())
    phases.append((head_steps, frozen, schedule))
    return [
        Phase(
            Adam(schedule, optim.weight_decay, optim.clip_norm, used),
            frozenset(frozen_paths),
            number,
            start,
            schedule,
        )
        for number, (start, frozen_paths, schedule) in enumerate(phases)
    ]


def phase_at(phases: Iterable[Phase], step: int) -> Phase:
    """Returns the phase of step ``step``, counted from 0."""
    return [phase for phase in phases if phase.start <= step][-1]
