"""A trace of some training steps, to see where their time goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from se_resnet.errors import UserError


class Profiler:
    """Traces the steps asked for into ``plugins/profile`` of a folder of TensorBoard.

    ``tensorboard`` with the package ``xprof`` shows it, and so does ``xprof`` alone. A trace begins
    and ends where the host looks at a step, so that with several steps in one dispatch it is longer
    than asked for, never shorter. What the host does between steps is in it.

    Args:
        steps: the first and the last, counted from 1; empty: none.
        folder: of TensorBoard.
        start: steps that are done; of a run that goes on after the last step nothing is traced.
        total: steps of the whole run.

    Raises:
        UserError: the run has no such steps.
    """

    def __init__(self, steps: Sequence[int], folder: Path, start: int, total: int):
        if steps and steps[0] > total:
            raise UserError(
                f"config.profile_steps = {tuple(steps)} begins after the last step, which is "
                f"{total}: give earlier steps."
            )
        self._waiting = bool(steps) and start < steps[1]
        self._steps, self._folder = steps, folder
        self._step: Any = None  # the annotation of the step that is being traced

    def reach(self, done: int, state: Any) -> None:
        """Tells that ``done`` steps were started, and another one comes next.

        Args:
            done: number of steps.
            state: their result, for which the end of a trace waits.
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
            options.python_tracer_level = 0  # every call of Python would drown the steps
            jax.profiler.start_trace(self._folder, profiler_options=options)
        # What TensorBoard tells the time of a step by.
        self._step = jax.profiler.StepTraceAnnotation("train", step_num=done + 1)
        self._step.__enter__()

    def close(self) -> None:
        """Ends a trace that the training has ended before."""
        if self._step is not None:
            self._step.__exit__(None, None, None)
            jax.profiler.stop_trace()
            self._step = None
