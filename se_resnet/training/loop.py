"""The training loop: steps, log, validation, checkpoints, until the last step or a signal."""

from __future__ import annotations

import dataclasses
import functools
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from se_resnet.metrics.decision import decide
from se_resnet.metrics.predictions import Predictions, probability_of
from se_resnet.models.classifier import Classifier
from se_resnet.runs import provenance
from se_resnet.runs.run_files import LAST
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import flatten
from se_resnet.runtime import memory, processes
from se_resnet.runtime.log import log
from se_resnet.runtime.signals import Interrupted, deferred
from se_resnet.tracking import trackers
from se_resnet.tracking.epoch_table import Epoch, validation_score
from se_resnet.tracking.metric_log import MetricLog
from se_resnet.tracking.profiling import Profiler
from se_resnet.training.config import without_paths
from se_resnet.training.display import Display
from se_resnet.training.divergence import is_finite, make_check
from se_resnet.training.optim import Phase, phase_at
from se_resnet.training.progress import Progress, Steps
from se_resnet.training.recipe import Recipe
from se_resnet.training.saving import Saver
from se_resnet.training.step import Metrics, TrainState, make_train_step, make_train_steps
from se_resnet.training.step_metrics import StepMetrics
from se_resnet.training.validation import validation_metrics


class Feed(Protocol):
    """Batches of a run, from the host or from the devices' memory; see :mod:`data.feed.choose`."""

    @property
    def validation_predictions(self) -> Callable[[np.ndarray], Predictions]:
        """Probabilities, ``float64 [n]``, to the table of the validation images."""

    @property
    def resident(self) -> Any:
        """Images and plan in the devices' memory, or None."""

    @property
    def make_batch(self) -> Callable[..., Any] | None:
        """``(resident, rows) -> batch``, pure; None where blocks are batches."""

    @property
    def blocks(self) -> Callable[[int, int], Iterator[tuple[Any, int]]]:
        """``(start, stop)`` to pairs of a block and its number of steps: a batch, or many rows."""

    @property
    def validation_batches(self) -> Callable[[], Iterator[dict[str, Any]]]:
        """Returns every validation image once, in order."""

    @property
    def files_of_step(self) -> Callable[[int], Sequence[str]]:
        """Step, counted from 1, to the files of its batch."""


@dataclasses.dataclass(frozen=True)
class Training:
    """The fixed parts of a training.

    Attributes:
        classifier: network and preprocessing.
        recipe: of each step.
        phases: in their order.
        steps: how many.
        config: the configuration.
        run: the folder.
    """

    classifier: Classifier
    recipe: Recipe
    phases: Sequence[Phase]
    steps: Steps
    config: ConfigDict
    run: RunFolder


def run(training: Training, state: TrainState, progress: Progress, feed: Feed) -> MetricLog:
    """Trains from ``progress.step`` to the last step, or until validation stops improving.

    Args:
        training: the fixed parts.
        state: on the devices; the steps take its memory.
        progress: of the same step as ``state``; updated.
        feed: batches.

    Returns:
        The log, still open.

    Raises:
        UserError: a number is not finite, or the disk is full.
        Interrupted: SIGINT or SIGTERM arrived; the state of the last step was saved.
    """
    config, steps, start = training.config, training.steps, progress.step
    checkpoints = training.run.checkpoints
    check = make_check(checkpoints, feed.files_of_step)
    metric_log = MetricLog(
        training.run,
        start,
        steps.per_epoch,
        trackers.parse(config.trackers),
        flatten(without_paths(config)),
    )
    profiler = Profiler(config.profile_steps, training.run.tensorboard_path, start, steps.total)
    metrics = StepMetrics(start, progress.unlogged, check)
    display = Display(start, steps, config.batch_size)
    advance = [
        display.compiled_at_first(compiled(training, feed, phase)) for phase in training.phases
    ]
    saver = Saver(checkpoints, config.checkpoint_minutes)
    validate = functools.partial(
        _validate, training, training.classifier.make_predict(), feed, saver
    )
    stop = start if progress.early_stopping.stopped else steps.total
    interrupted, alone = False, jax.process_count() == 1
    with deferred() as signals:
        for block, count in feed.blocks(start, stop):
            # Do not change the order. Metrics are checked before they are logged, and logged before
            # the state is checked and saved: a process that is killed anywhere resumes to the same
            # end.
            profiler.reach(progress.step, state)
            phase = phase_at(training.phases, progress.step)
            state, block_metrics = advance[phase.number](state, block, steps=count)
            metrics.add(block_metrics, count)
            progress.step += count
            end_of_epoch = progress.step % steps.per_epoch == 0
            pause = progress.step % config.log_every_steps == 0 or end_of_epoch
            # Several processes agree on a signal where they wait for each other anyway.
            interrupted = (alone or pause) and processes.any_process(signals.signum is not None)
            # The devices work on one block meanwhile.
            display.add_steps([*metrics.read(leave=0 if pause or interrupted else 1)])
            if not (pause or interrupted):
                continue
            if pause:
                rate = {"train/learning_rate": phase.learning_rate(progress.step - 1)}
                metric_log.write(progress.step, metrics.take() | rate)
            if end_of_epoch:
                display.validated(functools.partial(validate, state, progress, metric_log, check))
                memory.return_freed()
            ends = interrupted or progress.is_finished(steps)
            if not (ends or processes.any_process(saver.is_due(end_of_epoch))):
                continue
            check("the training state", progress.step, is_finite(state))
            metric_log.sync()
            progress.unlogged = metrics.rows()
            saver.save(progress.step, state, progress.facts())
            provenance.reach(training.run, progress.step)
            if progress.early_stopping.stopped or interrupted:
                break
    profiler.close()
    display.close()
    if interrupted or signals.signum is not None:
        metric_log.close()
        signum = signals.signum or signal.SIGTERM
        raise Interrupted(signum, f"saved after step {progress.step} of {steps.total}")
    if progress.early_stopping.stopped:
        log("stop", progress.early_stopping.describe())
    return metric_log


def compiled(
    training: Training, feed: Feed, phase: Phase
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns ``(state, block) -> (state, metrics)`` of a phase."""
    if feed.make_batch is None:
        return make_train_step(training.classifier, training.recipe, phase)
    steps = make_train_steps(training.classifier, training.recipe, phase, feed.make_batch)
    return lambda state, block: steps(feed.resident, state, *block)


def _validate(
    training: Training,
    predict: Callable[..., np.ndarray],
    feed: Feed,
    saver: Saver,
    state: TrainState,
    progress: Progress,
    metric_log: MetricLog,
    check: Callable[[str, int, bool], None],
) -> Epoch | None:
    """Evaluates the validation images, keeps the chosen weights and updates ``progress``.

    The weights of an epoch are chosen if their score is the best so far, or under
    ``config.checkpoint.choose = 'last'`` if the training ends with this epoch. The row of the epoch
    is returned, on process 0 only.
    """
    step, steps = progress.step, training.steps
    (logits,) = predict([state.variables], feed.validation_batches())
    check("a validation logit", step, bool(np.isfinite(logits).all()))
    predictions = feed.validation_predictions(probability_of(logits))
    scalars = validation_metrics(predictions.label, logits)
    metric_log.write(step, scalars)
    if phase_at(training.phases, step - 1) is training.phases[-1]:
        progress.early_stopping.update(scalars)
    score = validation_score(scalars)
    is_best = not progress.best_score or score > progress.best_score
    if is_best:
        progress.best_score = score
    chooses_last = training.config.checkpoint.choose == LAST
    is_chosen = progress.is_finished(steps) if chooses_last else is_best
    if is_chosen:
        decision = decide(predictions, training.config.decision.target)
        facts = {**training.classifier.as_dict(), "decision": dataclasses.asdict(decision)}
        saver.choose(step, state.variables, facts)
    return metric_log.last_epoch
