"""Trackers of training metrics with a common interface: TensorBoard, Weights & Biases, MLflow.

``config.trackers`` names the trackers, separated by commas. W&B and MLflow need the extra of the
same name. Servers, projects and keys are set by the environment variables of each package. Without
them MLflow writes to the workdir, and W&B requires a key or ``WANDB_MODE=offline``.
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
# Metrics beside the hyper-parameters in TensorBoard's table.
_TABLE_METRICS = ("val/roc_auc", "val/accuracy", "val/loss", "test/image_roc_auc")


class Tracker(Protocol):
    """The interface of a tracker.

    Attributes:
        run_id: identifies the run when it resumes; empty if the folder of the run suffices.
    """

    run_id: str

    def scalars(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Logs metrics of one step; None means undefined."""

    def image(self, step: int, name: str, png: bytes) -> None:
        """Logs an image."""

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        """Logs the configuration, once per run; the names contain dots."""

    def close(self) -> None:
        """Ends the run after all values are written or passed to the tracker's process."""


@dataclasses.dataclass(frozen=True)
class Start:
    """The point at which a tracker starts or resumes.

    Attributes:
        run: folder of the run.
        step: number of completed steps; 0 for a run that is new to the tracker.
        run_id: identifier of the run to resume, or empty.
        last_steps: the last logged step of each metric. A resumed training repeats the same values,
            so a tracker that cannot delete values skips steps up to this one.
    """

    run: RunFolder
    step: int = 0
    run_id: str = ""
    last_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def unlogged(self, step: int, metrics: Mapping[str, float | None]) -> dict[str, float]:
        """Returns the defined metrics that were not logged at this step before."""
        return {
            name: value
            for name, value in metrics.items()
            if value is not None and step > self.last_steps.get(name, -1)
        }


class _TensorBoard:
    """Event files in ``W/tensorboard``. Their reader drops values of repeated steps."""

    run_id = ""

    def __init__(self, start: Start):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event = Event
        self._folder = start.run.tensorboard_path
        writable_folder(self._folder, "move what is there")
        # SummaryWriter writes in a thread. If the thread fails, as on a full disk, the run would
        # wait for it forever. EventsWriter has no thread.
        with report_full_disk(self._folder):
            # The suffix separates the files of two starts in the same second.
            suffix = f".{start.step}.{uuid.uuid4().hex[:8]}"
            self._writer = EventsWriter(str(self._folder / "events"), suffix)
        # From this step on, a reader drops the values of earlier sessions.
        self._write([Event(session_log=SessionLog(status=SessionLog.START))], start.step + 1)

    def scalars(self, step: int, metrics: Mapping[str, float | None]) -> None:
        from tensorboardX.summary import scalar

        summaries = (scalar(name, value) for name, value in metrics.items() if value is not None)
        self._write([self._event(summary=summary) for summary in summaries], step)

    def image(self, step: int, name: str, png: bytes) -> None:
        from tensorboardX.summary import image

        summary = image(name, _pixels(png), dataformats="HWC")
        self._write([self._event(summary=summary)], step)

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        from tensorboardX.summary import hparams

        supported = (bool, int, float, str)
        parameters = {
            name: value if isinstance(value, supported) else str(value)
            for name, value in values.items()
        }
        summaries = hparams(parameters, dict.fromkeys(_TABLE_METRICS, 0.0))
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
    """A run of Weights & Biases: on a server, or in ``W/wandb`` if ``WANDB_MODE=offline``."""

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
                "WANDB_MODE=offline to write to the workdir, or remove wandb from config.trackers."
            ) from error

    def scalars(self, step: int, metrics: Mapping[str, float | None]) -> None:
        if unlogged := self._start.unlogged(step, metrics):
            self._log(step, unlogged)

    def image(self, step: int, name: str, png: bytes) -> None:
        self._log(step, {name: self._image(_pixels(png))})

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()

    def _log(self, step: int, row: dict[str, Any]) -> None:
        # The server discards values of a step below its step counter.
        self._run.log(row, step=max(step, self._run.step))


class _MLflow:
    """A run of MLflow, at ``MLFLOW_TRACKING_URI`` or in the database ``W/mlflow/runs.db``.

    The experiment is ``MLFLOW_EXPERIMENT_NAME`` or, if that is not set, ``se-resnet``.
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
                "remove mlflow from config.trackers."
            ) from error
        # Without this, MLflow would show a failed run as running for ever.
        atexit.register(self._client.set_terminated, self.run_id, "FAILED")

    def scalars(self, step: int, metrics: Mapping[str, float | None]) -> None:
        for name, value in self._start.unlogged(step, metrics).items():
            self._client.log_metric(self.run_id, name, value, step=step)

    def image(self, step: int, name: str, png: bytes) -> None:
        self._client.log_image(self.run_id, _pixels(png), artifact_file=f"figures/{name}.png")

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._client.log_param(self.run_id, name, value)

    def close(self) -> None:
        atexit.unregister(self._client.set_terminated)
        self._client.set_terminated(self.run_id)


# By name: the class, and the package that it needs.
_TRACKERS: dict[str, tuple[Callable[[Start], Tracker], str]] = {
    "tensorboard": (_TensorBoard, "tensorboardX"),
    "wandb": (_WeightsAndBiases, "wandb"),
    "mlflow": (_MLflow, "mlflow"),
}


def parse(names: str) -> tuple[str, ...]:
    """Parses the names in ``config.trackers``; each tracker is available.

    Raises:
        UserError: a name is unknown or repeated, or a package is missing.
    """
    parsed = tuple(name.strip() for name in names.split(",")) if names.strip() else ()
    for name in parsed:
        if name not in _TRACKERS:
            raise UserError(
                f"config.trackers = {names!r} is unknown: choose from {', '.join(_TRACKERS)}, "
                "separated by commas, or '' for none."
            )
        if importlib.util.find_spec(_TRACKERS[name][1]) is None:
            raise UserError(
                f"config.trackers names {name}, which is not installed: run "
                f"`pip install -c constraints.txt -e '.[{name}]'`, or remove the name."
            )
    if len({*parsed}) < len(parsed):
        raise UserError(f"config.trackers = {names!r} names a tracker twice: name each once.")
    return parsed


def open_tracker(name: str, start: Start) -> Tracker:
    """Opens a tracker that :func:`parse` accepts.

    Raises:
        UserError: the server cannot be used.
    """
    return _TRACKERS[name][0](start)


def _pixels(png: bytes) -> np.ndarray:
    """Decodes a PNG file to RGB ``uint8 [H, W, 3]``."""
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])
