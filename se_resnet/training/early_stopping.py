"""Ends a training when a validation metric no longer improves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# True if a larger value is better.
METRICS = {"val/roc_auc": True, "val/accuracy": True, "val/loss": False}


@dataclasses.dataclass
class EarlyStopping:
    """Counts the epochs since the best value of a metric.

    Attributes:
        metric: a key of ``METRICS``; empty never stops.
        patience: number of epochs without a new best value before the end.
        best: the best value so far.
        waited: epochs since then.
    """

    metric: str
    patience: int
    best: float | None = None
    waited: int = 0

    @property
    def stopped(self) -> bool:
        """True when the training must end."""
        return bool(self.metric) and self.waited >= self.patience

    def update(self, scalars: Mapping[str, float | None]) -> None:
        """Reads the metrics of one epoch. An epoch with an undefined metric does not count."""
        value = scalars[self.metric] if self.metric else None
        if value is None:
            return
        if self.best is None or (value > self.best if METRICS[self.metric] else value < self.best):
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    def describe(self) -> str:
        """Returns a sentence for the log."""
        return f"{self.metric} has not improved on {self.best:.4g} for {self.waited} epochs"

    def progress(self) -> dict[str, float | int | None]:
        """Returns the state to restore on resume, as arguments of the constructor."""
        return {"best": self.best, "waited": self.waited}
