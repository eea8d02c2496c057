"""Optimizer, learning-rate schedules, and the phases of a training."""

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
_UNTOLD = optax.constant_schedule(math.nan)


def make_schedule(kind: str, peak: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """The learning rate by step, from 0 on.

    Args:
        kind: how it goes on after the warm-up: ``'constant'``, or falling to 0 at ``steps`` along
            half a ``'cosine'`` (Loshchilov & Hutter 2017) or a ``'linear'`` line.
        peak: the highest learning rate.
        steps: of the whole training, warm-up included.
        warmup_steps: in these the learning rate rises to the peak in equal parts; the first step
            has one part already.
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
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) where weights decay.

    Args:
        learning_rate: a number, or a schedule of the optimizer's own steps.
        weight_decay: share of a weight that goes in a step, times the learning rate. Vectors do
            not decay: biases, and scales and offsets of normalisations.
        clip_norm: gradients are scaled down together so that their global norm is at most this;
            0 leaves them.
        multiplier_of: factors of the learning rate by path, for every parameter given; by default
            1 for all.
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
    """Steps in which the same parameters are trained, by an optimizer of their own.

    Attributes:
        optimizer: of the trained parameters alone.
        frozen: paths ``part/.../name`` of the others.
        number: which phase it is, from 0.
        start: its first step.
        schedule: the optimizer's learning rate by the phase's own steps, as far as it is told.
    """

    optimizer: optax.GradientTransformation
    frozen: frozenset[str] = frozenset()
    number: int = 0
    start: int = 0
    schedule: optax.Schedule = _UNTOLD

    def learning_rate(self, step: int) -> float:
        """Of the training's step ``step``, before multipliers."""
        return float(self.schedule(step - self.start))

    def split(self, params: Mapping) -> tuple[dict, dict]:
        """Two nested dicts: the trained parameters and the frozen ones."""
        flat = flatten_dict(params, sep="/")
        trained = {path: leaf for path, leaf in flat.items() if path not in self.frozen}
        frozen = {path: leaf for path, leaf in flat.items() if path in self.frozen}
        return unflatten_dict(trained, sep="/"), unflatten_dict(frozen, sep="/")


def merge(trained: Mapping, frozen: Mapping) -> dict:
    """The whole parameters of what :meth:`Phase.split` returned."""
    return unflatten_dict({**flatten_dict(trained), **flatten_dict(frozen)})


def make_phases(
    optim: ConfigDict, rules: Iterable[Rule], params: Mapping, *, epochs: int, epoch_steps: int
) -> list[Phase]:
    """The phases of a training: one, or the head's epochs and then the rest.

    First the head alone, so that the first gradients of a pretrained network's features do not
    come from an untrained head (Kumar et al. 2022). Attention modules wait with the backbone: new
    ones begin as identity, and their gradients would need those of all features after them.

    Args:
        optim: the part ``optim`` of the configuration. Its schedule is that of the last phase; the
            head's learning rate is constant.
        rules: cover ``params``.
        params: of the network, or their shapes.
        epochs: of the whole training.
        epoch_steps: steps in one epoch.

    Raises:
        UserError: the rules do not cover the parameters, or freeze the head that is to be trained.
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
                f"{optim.head_epochs} trains: set one of the two otherwise."
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
            frozenset(held),
            number,
            start,
            schedule,
        )
        for number, (start, held, schedule) in enumerate(phases)
    ]


def phase_at(phases: Iterable[Phase], step: int) -> Phase:
    """The phase of the step ``step``, from 0."""
    return [phase for phase in phases if phase.start <= step][-1]
