"""Where the figures of a run can be sent besides its own files, each behind the same four calls.

``config.trackers`` names them, joined by commas. TensorBoard needs nothing more; the others need
the extra of their name. Servers, projects and keys are set as each package's manual says, by its
own environment variables. With none of these MLflow keeps its files in the workdir, and W&B asks
for a key, or for ``WANDB_MODE=offline``.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib.util
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import cv2
import numpy as np

from se_resnet.errors import UserError, one_line
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import report_full_disk, writable_folder

_PROJECT = "se-resnet"
# What TensorBoard's table of hyper-parameters shows beside them.
_OUTCOMES = ("val/roc_auc", "val/accuracy", "val/loss", "test/image_roc_auc")


class Tracker(Protocol):
    """One place that figures go to.

    Attributes:
        run_id: by which the same run is found again; empty where its folder is enough.
    """

    run_id: str

    def scalars(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Adds figures of one step; None where there is none."""

    def figure(self, step: int, name: str, png: bytes) -> None:
        """Adds a picture."""

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        """Tells what the run was configured with, once; names have dots."""

    def close(self) -> None:
        """Ends the run; what was told is written, or in the hands of the tracker's own process."""


@dataclasses.dataclass(frozen=True)
class Start:
    """From where a tracker goes on.

    Attributes:
        run: the folder of the run.
        step: steps that are done; 0 where the tracker does not know the run yet.
        run_id: of the run that it goes on with, or empty.
        told: the last step at which it was told each figure. Training goes on exactly, so what is
            computed again is the same, and a tracker that cannot forget leaves it out.
    """

    run: RunFolder
    step: int = 0
    run_id: str = ""
    told: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def news(self, step: int, figures: Mapping[str, float | None]) -> dict[str, float]:
        """The figures that were not told before."""
        return {
            name: value
            for name, value in figures.items()
            if value is not None and step > self.told.get(name, -1)
        }


class _TensorBoard:
    """Event files in ``W/tensorboard``, whose reader drops points of work that is done again."""

    run_id = ""

    def __init__(self, start: Start):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event = Event
        self._folder = start.run.tensorboard_path
        writable_folder(self._folder, "move what is there")
        # Not SummaryWriter: it writes in a thread, and if that fails, as on a full disk, the run
        # waits for it forever.
        with report_full_disk(self._folder):
            # Two starts in one second would share a name.
            suffix = f".{start.step}.{uuid.uuid4().hex[:8]}"
            self._writer = EventsWriter(str(self._folder / "events"), suffix)
        # A reader drops what earlier sessions wrote from this step on.
        self._write([Event(session_log=SessionLog(status=SessionLog.START))], start.step + 1)

    def scalars(self, step: int, figures: Mapping[str, float | None]) -> None:
        from tensorboardX.summary import scalar

        known = ((name, value) for name, value in figures.items() if value is not None)
        self._write([self._event(summary=scalar(*figure)) for figure in known], step)

    def figure(self, step: int, name: str, png: bytes) -> None:
        from tensorboardX.summary import image

        picture = image(name, _pixels(png), dataformats="HWC")
        self._write([self._event(summary=picture)], step)

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        from tensorboardX.summary import hparams

        known = (bool, int, float, str)
        shown = {
            name: value if isinstance(value, known) else str(value)
            for name, value in values.items()
        }
        summaries = hparams(shown, dict.fromkeys(_OUTCOMES, 0.0))
        self._write([self._event(summary=summary) for summary in summaries], 0)

    def close(self) -> None:
        self._writer.close()

    def _write(self, events: Iterable[Any], step: int) -> None:
        with report_full_disk(self._folder):
            for event in events:
                event.wall_time, event.step = time.time(), step
                self._writer.write_event(event)
            self._writer.flush()


class _WeightsAndBiases:
    """A run of Weights & Biases, on the server or, with ``WANDB_MODE=offline``, in ``W/wandb``."""

    def __init__(self, start: Start):
        import wandb

        self._start = start
        self.run_id = start.run_id or uuid.uuid4().hex[:8]
        self._image = wandb.Image
        try:
            self._run = wandb.init(
                dir=str(start.run.path),
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=os.environ.get("WANDB_NAME", start.run.path.resolve().name),
                id=self.run_id,
                resume="allow",
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise UserError(
                f"W&B cannot be reached ({one_line(error)}): run `wandb login`, set "
                "WANDB_MODE=offline to keep the run here, or leave wandb out of config.trackers."
            ) from error

    def scalars(self, step: int, figures: Mapping[str, float | None]) -> None:
        if news := self._start.news(step, figures):
            self._log(step, news)

    def figure(self, step: int, name: str, png: bytes) -> None:
        self._log(step, {name: self._image(_pixels(png))})

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()

    def _log(self, step: int, row: dict[str, Any]) -> None:
        # Of a step that lies behind the server's own count nothing would be kept.
        self._run.log(row, step=max(step, self._run.step))


class _MLflow:
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` says or in the data base ``W/mlflow/runs.db``.

    Its experiment is ``MLFLOW_EXPERIMENT_NAME``, or ``se-resnet``.
    """

    def __init__(self, start: Start):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._start = start
        folder = start.run.mlflow_path.absolute()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'runs.db'}"
        artifacts = None
        if "MLFLOW_TRACKING_URI" not in os.environ:
            folder.mkdir(exist_ok=True)
            artifacts = (folder / "artifacts").as_uri()
        try:
            self._client = MlflowClient(tracking_uri=uri)
            if start.run_id:
                self.run_id = start.run_id
                self._client.update_run(self.run_id, status="RUNNING")
            else:
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
                known = self._client.get_experiment_by_name(name)
                experiment = (
                    known.experiment_id
                    if known
                    else self._client.create_experiment(name, artifact_location=artifacts)
                )
                run_name = start.run.path.resolve().name
                self.run_id = self._client.create_run(experiment, run_name=run_name).info.run_id
        except MlflowException as error:
            raise UserError(
                f"MLflow at {uri} cannot be used ({one_line(error)}): set MLFLOW_TRACKING_URI, or "
                "leave mlflow out of config.trackers."
            ) from error
        # So that a run which ends with an error is not shown as running for ever.
        atexit.register(self._client.set_terminated, self.run_id, "FAILED")

    def scalars(self, step: int, figures: Mapping[str, float | None]) -> None:
        for name, value in self._start.news(step, figures).items():
            self._client.log_metric(self.run_id, name, value, step=step)

    def figure(self, step: int, name: str, png: bytes) -> None:
        self._client.log_image(self.run_id, _pixels(png), artifact_file=f"figures/{name}.png")

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._client.log_param(self.run_id, name, value)

    def close(self) -> None:
        atexit.unregister(self._client.set_terminated)
        self._client.set_terminated(self.run_id)


# By name: what opens it, and the package that it needs besides the core ones.
_TRACKERS: dict[str, tuple[Callable[[Start], Tracker], str]] = {
    "tensorboard": (_TensorBoard, "tensorboardX"),
    "wandb": (_WeightsAndBiases, "wandb"),
    "mlflow": (_MLflow, "mlflow"),
}


def parse(names: str) -> tuple[str, ...]:
    """The names in ``config.trackers``, each of which can be opened.

    Raises:
        UserError: a name is unknown, stands twice, or its package is missing.
    """
    parsed = tuple(name.strip() for name in names.split(",")) if names.strip() else ()
    for name in parsed:
        if name not in _TRACKERS:
            raise UserError(
                f"config.trackers = {names!r} is unknown: choose from {', '.join(_TRACKERS)}, "
                "joined by commas, or '' for none."
            )
        if importlib.util.find_spec(_TRACKERS[name][1]) is None:
            raise UserError(
                f"config.trackers names {name}, which is not installed: run "
                f"`pip install -c constraints.txt -e '.[{name}]'`, or leave it out."
            )
    if len({*parsed}) < len(parsed):
        raise UserError(f"config.trackers = {names!r} names one twice: name each once.")
    return parsed


def open_tracker(name: str, start: Start) -> Tracker:
    """Opens one of the trackers that :func:`parse` lets through.

    Raises:
        UserError: its server cannot be used.
    """
    return _TRACKERS[name][0](start)


def _pixels(png: bytes) -> np.ndarray:
    """``uint8 [H, W, 3]`` RGB."""
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])
