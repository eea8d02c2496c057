"""The figures of a run while it trains: ``metrics.jsonl`` and the trackers that were asked for.

``metrics.jsonl`` holds one JSON object a line, each with its step. ``trackers.json`` keeps, for
each tracker, by which id it finds the run again and what it was told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import (
    atomic_write,
    parse_json,
    read_json,
    read_small_file,
    reason,
    report_full_disk,
    write_json,
)
from se_resnet.runtime.processes import is_primary
from se_resnet.runtime.schema import Between, misfit
from se_resnet.tracking.trackers import Start, Tracker, open_tracker

_STEP = Between(0, 2**63 - 1)
_LINE_FORM = {"step": _STEP, str: (float, None)}
_STATE_FORM = {str: {"run_id": str, "told": {str: _STEP}, "concluded": bool}}


def read_log(path: Path) -> list[dict]:
    """The lines of a log, oldest first; a last line cut short by a kill is left out.

    Raises:
        UserError: another line is damaged, or there is no reading the file.
    """
    try:
        lines = read_small_file(path).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): it must be the log that the run wrote; "
            "restore it, or move it away to begin a new one."
        ) from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = parse_json(line)
            if problem := misfit(entry, _LINE_FORM):
                raise ValueError(problem)
            entries.append(entry)
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"line {number} of {path} is damaged ({reason(error)}): restore or remove that "
                    "line."
                ) from error
    return entries


class _JsonLines:
    """The tracker that every run has: ``metrics.jsonl``, for programs and for the report.

    Pictures and hyper-parameters are not its business: they stand in the report and in
    ``config.json``.

    Args:
        path: of the file, which is written anew.
        kept: lines to begin with.
        epoch_steps: steps in one epoch.
    """

    run_id = ""

    def __init__(self, path: Path, kept: Iterable[Mapping], epoch_steps: int):
        with atomic_write(path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._path = path
        self._file = path.open("a")
        self._epoch_steps = epoch_steps

    def scalars(self, step: int, figures: Mapping[str, float | None]) -> None:
        epoch = round(step / self._epoch_steps, 4)
        line = json.dumps({"step": step, "epoch": epoch, **figures}, allow_nan=False)
        with report_full_disk(self._path):
            self._file.write(line + "\n")
            self._file.flush()

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def figure(self, step: int, name: str, png: bytes) -> None:
        pass

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class MetricLog:
    """Sends what a run has to tell to its own file and to the trackers; a context manager.

    A run that goes on is the same run in every tracker, and no figure stands there twice. A tracker
    that is asked for later is first told what the file holds. Of several processes the first tells.

    Args:
        run: the folder.
        step: the step that the run resumes from; later lines, of work that is repeated, are
        removed.
        epoch_steps: steps in one epoch.
        trackers: names, see :func:`se_resnet.tracking.trackers.parse`.
        hyper_parameters: for the trackers, by name; what JSON can say.

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
        self._tells = is_primary()
        self._trackers: dict[str, Tracker] = {}
        if not self._tells:
            return
        path = run.log_path
        lines = read_log(path)
        kept = [entry for entry in lines if entry["step"] <= step]
        self._step = step
        self._state_path = run.trackers_path
        self._state = _read_state(self._state_path)
        for name in trackers:
            known = self._state.get(name)
            if known:
                # Of an earlier start as well that was killed before it had caught up.
                for entry in lines:
                    for figure in entry:
                        last = known["told"].get(figure, 0)
                        known["told"][figure] = max(last, entry["step"])
                start = Start(run, step, known["run_id"], known["told"])
            else:
                start = Start(run)
            tracker = open_tracker(name, start)
            self._trackers[name] = tracker
            if not known:
                tracker.hyper_parameters(hyper_parameters or {})
                for entry in kept:
                    figures = {k: v for k, v in entry.items() if k not in ("step", "epoch")}
                    tracker.scalars(entry["step"], figures)
                self._state[name] = {"run_id": tracker.run_id, "told": {}, "concluded": False}
        # Before the lines go that tell what the trackers know.
        write_json(self._state_path, self._state)
        self._json_lines = _JsonLines(path, kept, epoch_steps)

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Tells the figures of one step; None where there is none.

        Raises:
            UserError: the disk is full.
        """
        if not self._tells:
            return
        self._step = step
        for tracker in (self._json_lines, *self._trackers.values()):
            tracker.scalars(step, scalars)

    def sync(self) -> None:
        """Returns when all lines of the file are on the disk."""
        if self._tells:
            self._json_lines.sync()

    def conclude(
        self,
        scalars: Mapping[str, float | None],
        draw: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Tells the trackers how the evaluation ended; those that know it are left alone.

        Args:
            scalars: figures of the evaluation, which has its own files beside ``metrics.jsonl``.
            draw: makes the pictures, PNG by name; called where a tracker asks for them.
        """
        if not self._tells:
            return
        waiting = [name for name in self._trackers if not self._state[name]["concluded"]]
        figures = draw() if waiting else {}
        for name in waiting:
            self._trackers[name].scalars(self._step, scalars)
            for figure, png in figures.items():
                self._trackers[name].figure(self._step, figure, png)
            self._state[name]["concluded"] = True
        write_json(self._state_path, self._state)

    def close(self) -> None:
        """Ends the run everywhere."""
        if self._tells:
            for tracker in (self._json_lines, *self._trackers.values()):
                tracker.close()


def _read_state(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return read_json(path, _STATE_FORM)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}): delete it, and the trackers begin a new run."
        ) from error
