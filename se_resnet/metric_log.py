"""The figures of a run while it trains: ``metrics.jsonl`` and TensorBoard.

``metrics.jsonl`` holds one JSON object a line, each with its step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from se_resnet.distributed import is_primary
from se_resnet.errors import UserError
from se_resnet.files import atomic_write


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
    """

    def __init__(self, workdir: Path, step: int, epoch_steps: int):
        self._writes = is_primary()
        if not self._writes:
            return
        path = workdir / "metrics.jsonl"
        kept = [entry for entry in read_log(path) if entry["step"] <= step]
        with atomic_write(path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._file = path.open("a")
        self._epoch_steps = epoch_steps
        self._tensorboard = SummaryWriter(
            str(workdir / "tensorboard"),
            purge_step=step + 1,
            filename_suffix=f".{step}",  # two starts in one second would share a name
        )

    def write(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Adds one line, on disk when this returns to the loop; None where there is no figure."""
        if not self._writes:
            return
        epoch = round(step / self._epoch_steps, 4)
        line = json.dumps({"step": step, "epoch": epoch, **scalars}, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()
        for name, value in scalars.items():
            if value is not None:
                self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        if self._writes:
            self._file.close()
            self._tensorboard.close()
