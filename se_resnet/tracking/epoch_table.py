"""The table of epochs ``metrics.csv``, derived from the lines of ``metrics.jsonl``."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from se_resnet.runtime.files import atomic_write

# The columns that hold a metric, with its name in metrics.jsonl.
_METRICS = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "val_loss": "val/loss",
    "val_accuracy": "val/accuracy",
    "val_roc_auc": "val/roc_auc",
}
COLUMNS = ("epoch", "step", *_METRICS, "best")


@dataclasses.dataclass(frozen=True)
class Epoch:
    """A row of the table.

    Attributes:
        number: of the epoch, from 1.
        step: steps done at its end.
        metrics: by their names in ``metrics.jsonl``. Training loss and accuracy are means over the
            steps of the epoch, the learning rate is that of the last step; None is undefined.
        is_best: true if the validation AUC is above that of every earlier epoch, or equal to the
            highest with a lower validation loss.
    """

    number: int
    step: int
    metrics: Mapping[str, float | None]
    is_best: bool


class EpochTable:
    """Collects the lines of ``metrics.jsonl`` and writes a row at the end of every epoch.

    The same lines always give the same table, also if a run was interrupted and resumed.

    Args:
        path: the file ``metrics.csv``, which is replaced.
        lines: the lines that the log holds already.
        epoch_steps: number of steps per epoch.

    Raises:
        UserError: the disk is full.
    """

    def __init__(self, path: Path, lines: Iterable[Mapping[str, Any]], epoch_steps: int):
        self._path, self._epoch_steps = path, epoch_steps
        self._epochs: list[Epoch] = []
        self._logged = 0  # the step of the last line with training metrics
        self._clear()
        for line in lines:
            self._add(line["step"], line)
        self._write()

    @property
    def last(self) -> Epoch | None:
        """The last row; None before the end of the first epoch."""
        return self._epochs[-1] if self._epochs else None

    def add(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Adds a line of the log. Writes the table if the line ends an epoch.

        Raises:
            UserError: the disk is full.
        """
        if self._add(step, metrics):
            self._write()

    def _clear(self) -> None:
        self._steps = 0  # of this epoch
        self._sums = {"train/loss": 0.0, "train/accuracy": 0.0}
        self._rate: float | None = None

    def _add(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Adds a line; returns true if it ends an epoch."""
        if "train/loss" in metrics:  # means over the steps since the line before
            steps = step - self._logged
            self._steps, self._logged = self._steps + steps, step
            for name in self._sums:
                self._sums[name] += steps * (metrics.get(name) or 0.0)
            self._rate = metrics.get("train/learning_rate")
        if "val/loss" not in metrics:
            return False
        row = {name: metrics.get(name) for name in _METRICS.values()}
        row |= {
            name: total / self._steps if self._steps else None for name, total in self._sums.items()
        }
        row["train/learning_rate"] = self._rate
        best = max((validation_score(epoch.metrics) for epoch in self._epochs), default=None)
        is_best = best is None or validation_score(row) > best
        self._epochs.append(Epoch(round(step / self._epoch_steps), step, row, is_best))
        self._clear()
        return True

    def _write(self) -> None:
        with atomic_write(self._path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for epoch in self._epochs:
                values = [epoch.metrics[name] for name in _METRICS.values()]
                cells = ["" if value is None else repr(float(value)) for value in values]
                writer.writerow(
                    [epoch.number, epoch.step, *cells, "yes" if epoch.is_best else "no"]
                )


def validation_score(metrics: Mapping[str, float | None]) -> list[float]:
    """Returns validation AUC and negative validation loss, by whose order an epoch is the best.

    An AUC that is undefined counts as 0.
    """
    return [metrics["val/roc_auc"] or 0.0, -(metrics["val/loss"] or 0.0)]
