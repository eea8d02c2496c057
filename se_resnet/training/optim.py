"""Builds the optimizer, the learning-rate schedule and the phases of a training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from se_resnet.errors import UserError
from se_resnet.training.lr_multipliers import Rule, multipliers

SCHEDULES = ("constant", "cosine", "linear")
HEAD = "head"
_UNKNOWN = optax.constant_schedule(math.nan)


def make_schedule(kind: str, peak: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Returns the learning rate by step, counted from 0.

    Args:
        kind: shape after the warm-up: ``'constant'``, or a fall to 0 at ``steps`` along half a
            ``'cosine'`` (Loshchilov & Hutter 2017) or a ``'linear'`` line.
        peak: the highest learning rate.
        steps: number of steps of the whole training, with the warm-up.
        warmup_steps: number of steps in which the learning rate rises to the peak in equal parts.
            The first step already has one part.
    """
    rest = max(1, steps - warmup_steps)
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
    }[kind]
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(peak / warmup_steps, peak, max(1, warmup_steps - 1))
    return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
    learning_rate: float | optax.Schedule,
    *,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    multiplier_of: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Returns Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) with weight decay.

    Args:
        learning_rate: a number, or a schedule over the steps of this optimizer.
        weight_decay: share of a weight that is subtracted in a step, times the learning rate.
            Vectors do not decay: biases, and scales and offsets of normalisations.
        clip_norm: largest global norm of the gradients, which are scaled down together; 0 does not
            scale.
        multiplier_of: factor of the learning rate of each parameter by path; by default 1 for all.
    """
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    parts.append(optax.scale_by_adam())
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=_is_matrix))
    parts.append(optax.scale_by_learning_rate(learning_rate))
    if multiplier_of and set(multiplier_of.values()) != {1.0}:
        parts.append(_multiply(multiplier_of))
    return optax.chain(*parts)


def _is_matrix(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _multiply(multiplier_of: Mapping[str, float]) -> optax.GradientTransformation:
    def apply(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        flat = flatten_dict(updates, sep="/")
        return unflatten_dict({path: multiplier_of[path] * u for path, u in flat.items()}, sep="/")

    return optax.stateless(apply)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A range of steps in which one optimizer trains the same parameters.

    Attributes:
        optimizer: optimizer of the trained parameters only.
        frozen: paths ``part/.../name`` of the other parameters.
        number: number of the phase, from 0.
        start: first step of the phase.
        schedule: learning rate by step of the phase; NaN if unknown.
    """

    optimizer: optax.GradientTransformation
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
        phases.append((0, frozen | features, optax.constant_schedule(optim.learning_rate)))
    warmup_steps = round(optim.warmup_epochs * epoch_steps)
    steps = epochs * epoch_steps - head_steps
    schedule = make_schedule(optim.schedule, optim.learning_rate, steps, warmup_steps)
    phases.append((head_steps, frozen, schedule))
    return [
        Phase(
            make_optimizer(
                schedule,
                weight_decay=optim.weight_decay,
                clip_norm=optim.clip_norm,
                multiplier_of=multiplier_of,
            ),
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
