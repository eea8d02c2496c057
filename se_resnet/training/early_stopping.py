"""Ends a training whose validation no longer improves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# Whether more is better.
METRICS = {"val/roc_auc": True, "val/accuracy": True, "val/loss": False}


@dataclasses.dataclass
class EarlyStopping:
    """Counts the epochs since a figure was best.

    Attributes:
        metric: a key of ``METRICS``, or empty: never stop.
        patience: stop after so many epochs without a new best.
        best: the best figure so far.
        waited: epochs since then.
    """

    metric: str
    patience: int
    best: float | None = None
    waited: int = 0

    @property
    def stopped(self) -> bool:
        """Whether the training is over."""
        return bool(self.metric) and self.waited >= self.patience

    def update(self, scalars: Mapping[str, float | None]) -> None:
        """Takes the figures of one epoch, which does not count where the metric is undefined."""
        value = scalars[self.metric] if self.metric else None
        if value is None:
            return
        if self.best is None or (value > self.best if METRICS[self.metric] else value < self.best):
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    def describe(self) -> str:
        """A sentence for the log."""
        return f"{self.metric} has not improved on {self.best:.4g} for {self.waited} epochs"

    def progress(self) -> dict[str, float | int | None]:
        """What a run that goes on must hand to the constructor besides the configuration."""
        return {"best": self.best, "waited": self.waited}
