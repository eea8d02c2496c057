"""The figures of a run while it trains: ``metrics.jsonl`` and TensorBoard.

``metrics.jsonl`` holds one JSON object a line, each with its step.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from se_resnet.distributed import is_primary
from se_resnet.errors import UserError
from se_resnet.files import atomic_write, full_disk_told


def read_log(path: Path) -> list[dict]:
    """The lines of a log, oldest first; a last line cut short by a kill is left out.

    Raises:
        UserError: another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            entry["step"]
            entries.append(entry)
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise UserError(
                    f"line {number} of {path} is damaged: restore or remove that line."
                ) from error
    return entries


class MetricLog:
    """Appends to the log of a run; of several processes only the first does.

    Args:
        workdir: folder of the run.
        step: the step that the run goes on from; later lines, from work that is done again, go.
        epoch_steps: steps in one epoch.

    Raises:
        UserError: the log is damaged, or the disk is full.
    """

    def __init__(self, workdir: Path, step: int, epoch_steps: int):
        self._writes = is_primary()
        if not self._writes:
            return
        self._path = workdir / "metrics.jsonl"
        kept = [entry for entry in read_log(self._path) if entry["step"] <= step]
        with atomic_write(self._path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._file = self._path.open("a")
        self._epoch_steps = epoch_steps
        # Not tensorboardX's SummaryWriter: it writes in a thread, and if that fails, as on a full
        # disk, the run waits for it forever.
        folder = workdir / "tensorboard"
        folder.mkdir(exist_ok=True)
        with full_disk_told(folder):
            # Two starts in one second would share a name without the step.
            self._tensorboard = EventsWriter(str(folder / "events"), f".{step}")
            # A reader drops what earlier sessions wrote from this step on.
            self._add_event(Event(session_log=SessionLog(status=SessionLog.START)), step + 1)

    def write(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Adds one line; None where there is no figure.

        Raises:
            UserError: the disk is full.
        """
        if not self._writes:
            return
        epoch = round(step / self._epoch_steps, 4)
        line = json.dumps({"step": step, "epoch": epoch, **scalars}, allow_nan=False)
        with full_disk_told(self._path):
            self._file.write(line + "\n")
            self._file.flush()
            for name, value in scalars.items():
                if value is not None:
                    self._add_event(Event(summary=scalar(name, value)), step)
            self._tensorboard.flush()

    def sync(self) -> None:
        """Returns when all lines are on the disk."""
        if self._writes:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files."""
        if self._writes:
            self._file.close()
            self._tensorboard.close()

    def _add_event(self, event: Event, step: int) -> None:
        event.wall_time, event.step = time.time(), step
        self._tensorboard.write_event(event)
