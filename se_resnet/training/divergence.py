"""Ends a run whose numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from se_resnet.errors import UserError
from se_resnet.runs.checkpoint import Checkpoints

_NAMED = 5


def make_check(
    checkpoints: Checkpoints, files_of_step: Callable[[int], Sequence[str]]
) -> Callable[[str, int, bool], None]:
    """Builds ``check(name, step, finite)``, for values of the step, counted from 1.

    Args:
        checkpoints: of the run.
        files_of_step: what the batch of a step, counted from 1, was made of.

    Returns:
        A function that raises a UserError if not ``finite``.
    """

    def check(name: str, step: int, finite: bool) -> None:
        if finite:
            return
        files = files_of_step(step)
        rest = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        last = checkpoints.steps("latest")
        kept = (
            f"the last good checkpoint is {checkpoints.folder / 'latest' / str(last[-1])}"
            if last
            else "no checkpoint was saved before"
        )
        raise UserError(
            f"{name} of step {step} is not finite, whose batch was made of "
            f"{', '.join(files[:_NAMED])}{rest}; {kept}: lower config.optim.learning_rate and "
            "train in a new --workdir."
        )

    return check
