"""The progress of a training on the screen: compilation, estimates, a bar, a line per epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from tqdm import tqdm

from se_resnet.runtime import memory
from se_resnet.runtime.log import log
from se_resnet.runtime.progress_bar import progress_bar
from se_resnet.runtime.times import duration
from se_resnet.tracking.epoch_table import Epoch
from se_resnet.training.progress import Steps

# Steps after compilation that are timed before the estimate of the training is printed.
_TIMED_STEPS = 3


class Display:
    """Prints the progress of one training.

    The time of compilation counts neither for the bar's estimate of the remaining time nor for the
    rate of an epoch.

    Args:
        start: step from which the training begins or resumes.
        steps: length of the training.
        batch_size: images in a step.
        clock: returns seconds.
        describe_memory: returns the largest memory so far as text.
    """

    def __init__(
        self,
        start: int,
        steps: Steps,
        batch_size: int,
        clock: Callable[[], float] = time.monotonic,
        describe_memory: Callable[[], str] = memory.describe_peak,
    ):
        self._steps, self._batch_size, self._clock = steps, batch_size, clock
        self._step = self._first_step = start  # steps done, and at the begin of this epoch
        self._steps_left_out = 0  # of this epoch, because their calls compiled
        self._bar: tqdm | None = None
        self._describe_memory = describe_memory
        self._timed_from: tuple[int, float] | None = None  # step and time, until the estimate
        self._epoch_began = clock()
        self._has_validated_before = False

    def compiled_at_first(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the compiled function ``step``, whose first call is announced and not counted.

        The argument ``steps`` of the returned function is the number of training steps of a call.
        """
        is_compiled = False

        def call(*args: Any, steps: int = 1) -> Any:
            nonlocal is_compiled
            if is_compiled:
                return step(*args)
            self._write("compile", "the training step (about a minute the first time)")
            began = self._clock()
            result = jax.block_until_ready(step(*args))
            seconds = self._clock() - began
            self._leave_out(seconds)
            is_compiled = True
            self._steps_left_out += steps
            self._write("train", f"the training step is compiled ({duration(seconds)})")
            if self._bar is None:
                self._open_bar()
            self._timed_from = self._step + steps, self._clock()
            return result

        return call

    def add_steps(self, losses: Sequence[float]) -> None:
        """Counts the steps whose losses have become known together."""
        self._step += len(losses)
        if self._bar is not None and losses:
            self._bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            self._bar.update(len(losses) * self._batch_size)
        if self._timed_from and self._step >= self._timed_from[0] + _TIMED_STEPS:
            self._write("estimate", self._estimate(*self._timed_from))
            self._timed_from = None

    def validated(self, validate: Callable[[], Epoch | None]) -> None:
        """Validates at the end of an epoch, and prints the line of the epoch.

        The first validation compiles its program, so that the bar's estimate leaves it out.

        Args:
            validate: validates; returns the row of the epoch, or None on other processes than
                process 0, which print nothing.
        """
        self._timed_from = None  # the line of the epoch has an estimate of its own
        began = self._clock()
        trained = began - self._epoch_began
        epoch = validate()
        seconds = self._clock() - began
        if not self._has_validated_before:
            self._leave_out(seconds)
        if epoch is not None:
            self._write("epoch", self._describe(epoch, trained, seconds))
        self._has_validated_before = True
        self._first_step, self._epoch_began = self._step, self._clock()
        self._steps_left_out = 0

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()

    def _estimate(self, step: int, began: float) -> str:
        """Returns the time of the remaining steps, by those since ``step``, and the memory."""
        seconds = (self._clock() - began) / (self._step - step)
        left = self._steps.total - self._step
        return (
            f"about {duration(left * seconds)} for {left:,} more steps of {seconds:.2g} s, "
            f"without validation and evaluation; {self._describe_memory()}"
        )

    def _describe(self, epoch: Epoch, trained: float, validated: float) -> str:
        """Returns the metrics and the times of an epoch as a line."""
        steps = self._step - self._first_step
        rate = (steps - self._steps_left_out) * self._batch_size / max(trained, 1e-9)
        part = "" if steps == self._steps.per_epoch else f" for the last {steps} steps"
        metrics = {name: _number(value) for name, value in epoch.metrics.items()}
        left = (self._steps.epochs - epoch.number) * self._seconds_of_epoch(trained, validated)
        line = (
            f"{epoch.number} of {self._steps.epochs}: training loss {metrics['train/loss']}; "
            f"validation loss {metrics['val/loss']}, AUC {metrics['val/roc_auc']}, accuracy "
            f"{metrics['val/accuracy']}; {duration(trained)}{part}, {rate:.3g} images/s, "
            f"validation {duration(validated)}"
        )
        line += f", about {duration(left)} left" if left else ""
        return line + (" * best so far" if epoch.is_best else "")

    def _seconds_of_epoch(self, trained: float, validated: float) -> float:
        """Returns the time of a whole epoch; without the validation if this one compiled."""
        steps = max(self._step - self._first_step - self._steps_left_out, 1)
        seconds = trained / steps * self._steps.per_epoch
        return seconds + (validated if self._has_validated_before else 0.0)

    def _open_bar(self) -> None:
        self._bar = progress_bar(
            total=self._steps.total * self._batch_size,
            initial=self._step * self._batch_size,
            unit="image",
            desc="training",
            smoothing=0,  # the rate since the start, which holds validations in their proportion
        )

    def _leave_out(self, seconds: float) -> None:
        self._epoch_began += seconds
        if self._bar is not None and not self._bar.disable:
            self._bar.start_t += seconds

    def _write(self, topic: str, text: str) -> None:
        with tqdm.external_write_mode():
            log(topic, text)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
