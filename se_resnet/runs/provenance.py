"""The starts of a training in ``training.json``: date, duration, command, commit, end."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import sys
import time
from typing import TypedDict

from se_resnet.errors import UserError
from se_resnet.runs.run_files import TRAINING_FORM
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime import processes, software
from se_resnet.runtime.files import read_json, write_json
from se_resnet.runtime.times import now


class Start(TypedDict):
    """One start of a training.

    Attributes:
        began: local time with its offset from UTC.
        seconds: until the last saved step, or the end.
        from_step: step from which it trained.
        to_step: last saved step.
        command: as it was given.
        commit: see :func:`se_resnet.runtime.software.commit`.
        ended: ``finished``, ``interrupted`` or ``failed: REASON``; empty while it runs, and after
            a kill.
    """

    began: str
    seconds: float
    from_step: int
    to_step: int
    command: str
    commit: str
    ended: str


class Training(TypedDict):
    """The content of ``training.json``: the length of the training, and its starts, in order."""

    epoch_steps: int
    steps: int
    starts: list[Start]


FINISHED, INTERRUPTED, FAILED = "finished", "interrupted", "failed: "


def begin_training(run: RunFolder, step: int, epoch_steps: int, steps: int) -> None:
    """Adds a start to ``training.json``, on process 0.

    A file that cannot be read is replaced: it describes the run and does not change its numbers.

    Args:
        run: the folder.
        step: from which the training begins or resumes.
        epoch_steps: steps per epoch.
        steps: of all epochs.
    """
    if not processes.is_primary():
        return
    before = read_training(run) if step else None
    start = Start(
        began=now(),
        seconds=0.0,
        from_step=step,
        to_step=step,
        command=command_line(),
        commit=software.commit(),
        ended="",
    )
    starts = [*(before["starts"] if before else []), start]
    write_json(run.training_path, Training(epoch_steps=epoch_steps, steps=steps, starts=starts))


def reach(run: RunFolder, step: int | None = None, ended: str = "") -> None:
    """Records the last saved step, or the end, of the last start, on process 0.

    A file that cannot be written, as on a full disk, stays as it is: the error of the run's own
    files counts.

    Args:
        run: the folder.
        step: last saved step; None leaves it.
        ended: see :class:`Start`.
    """
    training = read_training(run) if processes.is_primary() else None
    if training is None or not training["starts"]:
        return
    start = training["starts"][-1]
    with contextlib.suppress(ValueError):
        passed = time.time() - datetime.datetime.fromisoformat(start["began"]).timestamp()
        start["seconds"] = round(max(passed, 0.0), 1)
    start["to_step"] = start["to_step"] if step is None else step
    start["ended"] = ended
    with contextlib.suppress(OSError, UserError):
        write_json(run.training_path, training)


def read_training(run: RunFolder) -> Training | None:
    """Returns ``training.json``; None for a run of an earlier version, and if it is broken."""
    try:
        return read_json(run.training_path, TRAINING_FORM)
    except (OSError, ValueError):
        return None


def command_line() -> str:
    """Returns the command of this process, with ``python`` for the interpreter."""
    return shlex.join(["python", *sys.argv])
