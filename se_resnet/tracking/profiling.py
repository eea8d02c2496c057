"""Profiles some training steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from se_resnet.errors import UserError


class Profiler:
    """Writes a trace of the requested steps to ``plugins/profile`` of the TensorBoard folder.

    Both ``xprof`` and ``tensorboard`` with the package ``xprof`` show the trace. It begins and ends
    at a boundary between dispatches. With several steps per dispatch it can therefore be longer
    than requested, but never shorter. It includes the work of the host between steps.

    Args:
        steps: the first and the last step, counted from 1; empty for no trace.
        folder: folder of TensorBoard.
        start: number of completed steps. A run that resumes after the last traced step writes no
            trace.
        total: number of steps of the whole run.

    Raises:
        UserError: the steps begin after the end of the run.
    """

    def __init__(self, steps: Sequence[int], folder: Path, start: int, total: int):
        if steps and steps[0] > total:
            raise UserError(
                f"config.profile_steps = {tuple(steps)} begins after the last step, which is "
                f"{total}: choose earlier steps."
            )
        self._waiting = bool(steps) and start < steps[1]
        self._steps, self._folder = steps, folder
        self._step: Any = None  # annotation of the current step during a trace

    def reach(self, done: int, state: Any) -> None:
        """Starts or ends the trace between two steps.

        Args:
            done: number of steps that have been started.
            state: result of these steps; the end of a trace waits for it.
        """
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
            if done >= self._steps[1]:
                jax.block_until_ready(state)
                jax.profiler.stop_trace()
                return
        elif not self._waiting or done + 1 < self._steps[0]:
            return
        else:
            self._waiting = False
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # traces of Python calls would hide the steps
            jax.profiler.start_trace(self._folder, profiler_options=options)
        # TensorBoard derives the time of a step from this annotation.
        self._step = jax.profiler.StepTraceAnnotation("train", step_num=done + 1)
        self._step.__enter__()

    def close(self) -> None:
        """Ends a trace that is still open at the end of training."""
        if self._step is not None:
            self._step.__exit__(None, None, None)
            jax.profiler.stop_trace()
            self._step = None
