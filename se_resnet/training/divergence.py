"""Ends a run when a loss or a gradient is not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from se_resnet.errors import UserError
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runtime import processes

_SHOWN_FILES = 5


def is_finite(tree: Any) -> bool:
    """Returns whether every value of the tree is finite; its arrays are on all devices.

    It tests the sum of each array, on the host: a program for the hundreds of arrays of a training
    state would take seconds to compile. A sum of finite values overflows only near 1e38.
    """
    with np.errstate(all="ignore"):
        leaves = jax.tree.leaves(processes.to_local_device(tree))
        sums = [np.asarray(leaf).sum() for leaf in leaves]
    return bool(np.isfinite(sums).all())


def make_check(
    checkpoints: Checkpoints, files_of_step: Callable[[int], Sequence[str]]
) -> Callable[[str, int, bool], None]:
    """Returns ``check(name, step, finite)`` for values of a step, counted from 1.

    Args:
        checkpoints: checkpoints of the run.
        files_of_step: returns the files in the batch of a step, counted from 1.

    Returns:
        A function that raises a UserError unless ``finite``.
    """

    def check(name: str, step: int, finite: bool) -> None:
        if finite:
            return
        files = files_of_step(step)
        rest = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
        last = checkpoints.steps("latest")
        kept = (
            f"the last good checkpoint is {checkpoints.folder / 'latest' / str(last[-1])}"
            if last
            else "no checkpoint was saved before"
        )
        raise UserError(
            f"{name} of step {step} is not finite (files in the batch: "
            f"{', '.join(files[:_SHOWN_FILES])}{rest}); {kept}: lower config.optim.learning_rate "
            "and train in a new --workdir."
        )

    return check
