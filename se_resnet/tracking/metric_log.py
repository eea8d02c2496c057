"""The metrics of a run during training: the file ``metrics.jsonl`` and the configured trackers.

``metrics.csv`` holds a row per epoch, derived from the lines of ``metrics.jsonl``.

Each line of ``metrics.jsonl`` is a JSON object with a step. ``trackers.json`` stores for each
tracker the identifier of the run and the last logged step of each metric.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError
from se_resnet.runs.run_files import STEP
from se_resnet.runs.run_files import read_log as read_log
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import (
    atomic_write,
    read_json,
    reason,
    report_full_disk,
    write_json,
)
from se_resnet.runtime.processes import is_primary
from se_resnet.tracking.epoch_table import Epoch, EpochTable
from se_resnet.tracking.trackers import Start, Tracker, open_tracker

_STATE_FORM = {str: {"run_id": str, "told": {str: STEP}, "concluded": bool}}


class _JsonLines:
    """The file ``metrics.jsonl`` behind the interface of a tracker.

    It ignores images and hyper-parameters, which are in the report and in ``config.json``.

    Args:
        path: the file, which is replaced.
        kept: the first lines.
        epoch_steps: number of steps per epoch.
    """

    run_id = ""

    def __init__(self, path: Path, kept: Iterable[Mapping], epoch_steps: int):
        with atomic_write(path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._path = path
        self._file = path.open("a")
        self._epoch_steps = epoch_steps

    def scalars(self, step: int, metrics: Mapping[str, float | None]) -> None:
        epoch = round(step / self._epoch_steps, 4)
        line = json.dumps({"step": step, "epoch": epoch, **metrics}, allow_nan=False)
        with report_full_disk(self._path):
            self._file.write(line + "\n")
            self._file.flush()

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def image(self, step: int, name: str, png: bytes) -> None:
        pass

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class MetricLog:
    """Writes the metrics of a run to the file and to the trackers; a context manager.

    A run that resumes continues in every tracker without repeated values. A tracker that is added
    later first receives the lines of the file. Only process 0 writes.

    Args:
        run: folder of the run.
        step: the step from which the run resumes. Later lines are removed, because these steps are
            repeated.
        epoch_steps: number of steps per epoch.
        trackers: names of trackers, see :func:`se_resnet.tracking.trackers.parse`.
        hyper_parameters: values by name for the trackers; JSON types only.

    Raises:
        UserError: the file is damaged, a tracker cannot be used, or the disk is full.
    """

    def __init__(
        self,
        run: RunFolder,
        step: int,
        epoch_steps: int,
        trackers: Iterable[str] = (),
        hyper_parameters: Mapping[str, Any] | None = None,
    ):
        self._writes = is_primary()
        self._trackers: dict[str, Tracker] = {}
        if not self._writes:
            return
        path = run.log_path
        lines = read_log(path)
        kept = [entry for entry in lines if entry["step"] <= step]
        self._step = step
        self._state_path = run.trackers_path
        self._state = _read_state(self._state_path)
        for name in trackers:
            state = self._state.get(name)
            if state:
                # Keeps the last steps of an earlier start that was killed before it caught up.
                last_steps = state["told"]
                for entry in lines:
                    for metric in entry:
                        last_steps[metric] = max(last_steps.get(metric, 0), entry["step"])
                start = Start(run, step, state["run_id"], last_steps)
            else:
                start = Start(run)
            tracker = open_tracker(name, start)
            self._trackers[name] = tracker
            if not state:
                tracker.hyper_parameters(hyper_parameters or {})
                for entry in kept:
                    metrics = {k: v for k, v in entry.items() if k not in ("step", "epoch")}
                    tracker.scalars(entry["step"], metrics)
                self._state[name] = {"run_id": tracker.run_id, "told": {}, "concluded": False}
        # The state is derived from the lines, so it is written before any line is removed.
        write_json(self._state_path, self._state)
        self._json_lines = _JsonLines(path, kept, epoch_steps)
        self._epochs = EpochTable(run.epochs_path, kept, epoch_steps)

    @property
    def last_epoch(self) -> Epoch | None:
        """The last finished epoch; None before its end, and on other processes than process 0."""
        return self._epochs.last if self._writes else None

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Writes the metrics of one step; None means undefined.

        Raises:
            UserError: the disk is full.
        """
        if not self._writes:
            return
        self._step = step
        for tracker in (self._json_lines, *self._trackers.values()):
            tracker.scalars(step, scalars)
        self._epochs.add(step, scalars)

    def sync(self) -> None:
        """Flushes all lines of the file to the disk."""
        if self._writes:
            self._json_lines.sync()

    def write_evaluation(
        self,
        scalars: Mapping[str, float | None],
        make_plots: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Sends the results of the evaluation once to each tracker.

        Args:
            scalars: metrics of the evaluation. They are not written to ``metrics.jsonl``.
            make_plots: returns plots as PNG files by name; called only if a tracker needs them.
        """
        if not self._writes:
            return
        waiting = [name for name in self._trackers if not self._state[name]["concluded"]]
        plots = make_plots() if waiting else {}
        for name in waiting:
            self._trackers[name].scalars(self._step, scalars)
            for plot, png in plots.items():
                self._trackers[name].image(self._step, plot, png)
            self._state[name]["concluded"] = True
        write_json(self._state_path, self._state)

    def close(self) -> None:
        """Closes the file and ends the run in every tracker."""
        if self._writes:
            for tracker in (self._json_lines, *self._trackers.values()):
                tracker.close()


def _read_state(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return read_json(path, _STATE_FORM)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): delete the file to begin a new run in "
            "the trackers."
        ) from error
