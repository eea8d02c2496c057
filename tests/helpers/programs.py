"""The compiled programs that equal networks share."""

from __future__ import annotations


def forget_programs() -> None:
    """Lets the next calls compile again, for example with other options of XLA."""
    from se_resnet.models import classifier
    from se_resnet.training import step
    from se_resnet.weights import initialise

    for shared in (
        classifier._programs,
        step._step_program,
        step._parts_program,
        step._steps_program,
        initialise._program,
    ):
        shared.cache_clear()
