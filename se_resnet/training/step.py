"""The training step: a pure function of a state and a batch."""

# Read this first. One call of the function that `make_train_step` returns does, in this order:  1.
# derives the random key of the step from recipe.seed and state.step (a resumed run repeats it), 2.
# augments each image, mixes the batch, normalises the pixels (recipe.augment, recipe.mixing,
# classifier.preprocessing), 3. computes loss and gradient for the trained parameters only
# (phase.split), in recipe.accumulate parts, 4. updates these parameters with the optimizer of the
# phase, and the moving averages.  TrainState holds everything that a step changes. Recipe
# (training/recipe.py) and Phase (training/optim.py) hold everything that is fixed. Their numbers
# are arguments of the compiled program, so that folds, seeds and learning rates share a program.
# With recipe.accumulate a step is several programs, or a loop in the program of many steps.

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax

from se_resnet.models.classifier import Classifier
from se_resnet.training import gradient
from se_resnet.training.arguments import is_on
from se_resnet.training.gradient import Batch, Gradient, Metrics
from se_resnet.training.optim import Phase, merge
from se_resnet.training.recipe import Recipe


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes and that a resumed run needs.

    Attributes:
        step: ``int32 []``, number of finished steps. Decides the batch and the random numbers of
            the next step.
        params: all parameters, float32.
        batch_stats: running means and variances of the batch normalisations, float32.
        opt_state: optimizer state of each phase, with the moments of its trained parameters.
        average: ``{'params', 'batch_stats'}`` averaged over the steps, or None.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: tuple[optax.OptState, ...]
    average: Any

    @classmethod
    def create(
        cls, variables: Mapping, phases: Sequence[Phase], averaged: bool = False
    ) -> TrainState:
        """Returns the state before the first step, from ``{'params', 'batch_stats'}``."""
        params, batch_stats = variables["params"], variables["batch_stats"]
        return cls(
            jnp.zeros((), jnp.int32),
            params,
            batch_stats,
            tuple(phase.optimizer.init(phase.split(params)[0]) for phase in phases),
            # Copies, because a step takes over the memory of its whole state.
            jax.device_put({"params": params, "batch_stats": batch_stats}, may_alias=False)
            if averaged
            else None,
        )

    @property
    def variables(self) -> dict[str, Any]:
        """``{'params', 'batch_stats'}`` to evaluate: the averages if there are any."""
        return self.average or {"params": self.params, "batch_stats": self.batch_stats}


def make_train_step(classifier: Classifier, recipe: Recipe, phase: Phase) -> Program:
    """Returns the jitted step. The state passed in is donated and must not be used again.

    A batch holds ``image uint8 [B, H, W, 3]``, ``label float32 [B]`` and
    ``importance float32 [B]``. The loss is the mean over the batch of importance times the loss of
    each image. With a sharded batch, the statistics of batch normalisation, the loss and the
    gradient cover the whole batch. No gradient is computed below the lowest trained parameter.

    Returns:
        ``(state, batch) -> (state, {'loss', 'accuracy', 'finite'})``. Loss and accuracy are
        ``float32 []``; a mixed image has the class of its larger share. ``finite`` is ``bool []``,
        true if the whole gradient is finite.
    """
    program = _step_program if recipe.accumulate == 1 else _parts_program
    return Program(program(classifier), recipe, phase)


def make_train_steps(
    classifier: Classifier,
    recipe: Recipe,
    phase: Phase,
    make_batch: Callable[[Any, jax.Array], Batch],
) -> Program:
    """Returns many steps in one jitted call, on batches that are made on the device.

    One program does any number of steps up to ``k``.

    Args:
        classifier: see :func:`make_train_step`.
        recipe: see :func:`make_train_step`.
        phase: see :func:`make_train_step`.
        make_batch: ``(data, rows int32 [B]) -> batch``, pure.

    Returns:
        ``(data, state, rows int32 [k, B], count int32 []) -> (state, metrics)``: does the steps of
        the first ``count`` rows. The metrics are those of :func:`make_train_step` with an axis
        ``[k]``, and 0 after the first ``count``. The state passed in is donated.
    """
    return Program(_steps_program(classifier, make_batch), recipe, phase)


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of a recipe, a phase and further arguments, with a recipe and a phase."""

    function: Any
    recipe: Recipe
    phase: Phase

    def __call__(self, *arguments: Any) -> tuple[TrainState, Metrics]:
        """Runs the program."""
        return self.function(self.recipe, self.phase, *arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Lowers the program for arguments or their shapes; not possible with accumulation."""
        return self.function.lower(self.recipe, self.phase, *arguments)


# Trainings of equal networks share the last programs. A program that nobody holds is freed.
_shared = functools.lru_cache(maxsize=1)


@_shared
def _step_program(classifier: Classifier) -> Any:
    return jax.jit(_step(classifier), donate_argnames="state")


@_shared
def _parts_program(classifier: Classifier) -> Any:
    """Returns a step of several programs, one of which computes the gradient of a part.

    As one program it needs more: the loop over the parts takes a CPU twice the time, and without a
    loop all parts take memory at once.
    """

    @jax.jit
    def begin(
        recipe: Recipe, phase: Phase, state: TrainState, batch: Batch
    ) -> tuple[Gradient, list[tuple[Batch, jax.Array]]]:
        prepared, key = gradient.prepare(classifier, recipe, state.step, batch)
        parts, keys = gradient.divide(recipe, prepared, key)
        total = gradient.start(phase, state.params, state.batch_stats)
        return total, [
            (jax.tree.map(lambda x, i=i: x[i], parts), key) for i, key in enumerate(keys)
        ]

    add = jax.jit(functools.partial(gradient.add, classifier), donate_argnames="total")

    @functools.partial(jax.jit, donate_argnames="state")
    def end(
        recipe: Recipe, phase: Phase, state: TrainState, total: Gradient
    ) -> tuple[TrainState, Metrics]:
        return _update(recipe, phase, state, gradient.mean(recipe, total))

    def step(
        recipe: Recipe, phase: Phase, state: TrainState, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        total, parts = begin(recipe, phase, state, batch)
        for part, key in parts:
            total = add(recipe, phase, state.params, total, part, key)
        return end(recipe, phase, state, total)

    return step


@_shared
def _steps_program(classifier: Classifier, make_batch: Callable[[Any, jax.Array], Batch]) -> Any:
    step = _step(classifier)

    def steps(
        recipe: Recipe,
        phase: Phase,
        data: Any,
        state: TrainState,
        rows: jax.Array,
        count: jax.Array,
    ) -> tuple[TrainState, Metrics]:
        def next_step(
            number: jax.Array, carry: tuple[TrainState, Metrics]
        ) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            state, of_step = step(recipe, phase, state, make_batch(data, rows[number]))
            return state, {
                name: values.at[number].set(of_step[name]) for name, values in metrics.items()
            }

        _, shapes = jax.eval_shape(step, recipe, phase, state, make_batch(data, rows[0]))
        metrics = {name: jnp.zeros(len(rows), shape.dtype) for name, shape in shapes.items()}
        return lax.fori_loop(0, count, next_step, (state, metrics))

    return jax.jit(steps, donate_argnames="state")


def _step(
    classifier: Classifier,
) -> Callable[[Recipe, Phase, TrainState, Batch], tuple[TrainState, Metrics]]:
    def step(
        recipe: Recipe, phase: Phase, state: TrainState, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        params, batch_stats = state.params, state.batch_stats
        batch, key = gradient.prepare(classifier, recipe, state.step, batch)
        if recipe.accumulate == 1:
            whole = gradient.gradient(classifier, recipe, phase, params, batch_stats, batch, key)
            return _update(recipe, phase, state, whole)

        def add(total: Gradient, part: tuple[Batch, jax.Array]) -> tuple[Gradient, None]:
            return gradient.add(classifier, recipe, phase, params, total, *part), None

        parts = gradient.divide(recipe, batch, key)
        total, _ = lax.scan(add, gradient.start(phase, params, batch_stats), parts)
        return _update(recipe, phase, state, gradient.mean(recipe, total))

    return step


def _update(
    recipe: Recipe, phase: Phase, state: TrainState, found: Gradient
) -> tuple[TrainState, Metrics]:
    """Returns the state after the update by the gradient of the whole batch, and the metrics."""
    trained, frozen = phase.split(state.params)
    opt_state = list(state.opt_state)
    updates, opt_state[phase.number] = phase.optimizer.update(
        found.of_params, opt_state[phase.number], trained
    )
    params = merge(optax.apply_updates(trained, updates), frozen)
    average = state.average
    if is_on(recipe.ema_decay):
        decay = jnp.minimum(recipe.ema_decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(
            # In this form what is frozen stays the same to the last bit.
            lambda mean, value: mean + (1 - decay) * (value - mean),
            average,
            {"params": params, "batch_stats": found.batch_stats},
        )
    after = TrainState(state.step + 1, params, found.batch_stats, tuple(opt_state), average)
    return after, {**found.metrics, "finite": all_finite(found.of_params)}


def all_finite(tree: Any) -> jax.Array:
    """Returns whether every value of the tree is finite: ``bool []``.

    It tests the sum of each array, which takes XLA less time to compile, and to run, than a test of
    each value. A sum of finite values overflows only near 1e38.
    """
    return jnp.isfinite(jnp.stack([leaf.sum() for leaf in jax.tree.leaves(tree)])).all()
