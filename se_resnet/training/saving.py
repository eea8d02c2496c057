"""Saves the state of a training, and the weights to evaluate, without taking much of its time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runtime import processes

LARGEST_SHARE = 0.1  # of the time, for saving at the end of epochs


class Saver:
    """Decides when to save, and keeps the chosen weights until then.

    The end of an epoch is saved if saving takes at most a tenth of the time since the last save. A
    small training set on a GPU has epochs that are shorter than a save. The chosen weights are
    always saved before the state that knows them: a process that is killed anywhere resumes to the
    same end.

    Args:
        checkpoints: of the run.
        minutes: longest time between two saves, for pauses within an epoch.
    """

    def __init__(self, checkpoints: Checkpoints, minutes: float):
        self._checkpoints = checkpoints
        self._longest = 60 * minutes
        self._chosen: tuple[int, Any, Mapping] | None = None
        self._last = time.monotonic()
        self._took = 0.0  # unknown before the first save

    def choose(self, step: int, variables: Any, facts: Mapping) -> None:
        """Keeps weights to evaluate, instead of earlier ones, until the next save.

        Args:
            step: number of finished steps.
            variables: ``{'params', 'batch_stats'}`` on all devices; copied to the host, because the
                next step takes over their memory.
            facts: see :meth:`se_resnet.runs.checkpoint.Checkpoints.save_best`.
        """
        copy = jax.tree.map(np.array, processes.to_local_device(variables))
        self._chosen = step, copy, facts

    def is_due(self, end_of_epoch: bool) -> bool:
        """Returns whether to save now; other processes may decide otherwise."""
        since = time.monotonic() - self._last
        return since >= self._longest or (end_of_epoch and LARGEST_SHARE * since >= self._took)

    def save(self, step: int, state: Any, facts: Mapping) -> None:
        """Saves the chosen weights that are not saved yet, then the state after ``step`` steps.

        Raises:
            UserError: the disk is full; the checkpoints that were there are kept.
        """
        start = time.monotonic()
        if self._chosen is not None:
            self._checkpoints.save_best(*self._chosen)
            self._chosen = None
        self._checkpoints.save_latest(step, state, facts)
        self._last = time.monotonic()
        self._took = self._last - start
