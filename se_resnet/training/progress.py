"""The length of a training, and the state that resuming needs besides the network's."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from se_resnet.training.early_stopping import EarlyStopping


@dataclasses.dataclass(frozen=True)
class Steps:
    """The number of steps of a training.

    Attributes:
        per_epoch: steps in one epoch.
        epochs: number of epochs.
    """

    per_epoch: int
    epochs: int

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.per_epoch * self.epochs


@dataclasses.dataclass
class Progress:
    """State of a training besides :class:`se_resnet.training.step.TrainState`.

    Attributes:
        step: steps done.
        best_score: AUC and negative loss of the best validation so far; empty before the first.
        early_stopping: best metric and epochs since.
        unlogged: loss and accuracy of each step since the last line of the log.
    """

    step: int
    best_score: list[float]
    early_stopping: EarlyStopping
    unlogged: list[list[float]]

    @classmethod
    def begin(cls, config: ConfigDict) -> Progress:
        """Returns the progress before the first step."""
        return cls(0, [], EarlyStopping(**config.early_stopping), [])

    @classmethod
    def from_facts(cls, config: ConfigDict, step: int, facts: dict[str, Any]) -> Progress:
        """Returns the progress that :meth:`facts` saved beside the state of ``step``."""
        early_stopping = EarlyStopping(**config.early_stopping, **facts["early_stopping"])
        return cls(step, facts["best_score"], early_stopping, facts["unlogged"])

    def is_finished(self, steps: Steps) -> bool:
        """Returns whether the training has ended: with its last step, or by early stopping."""
        return self.step == steps.total or self.early_stopping.stopped

    def facts(self) -> dict[str, Any]:
        """Returns the values to save beside the state, of the form ``run_files.PROGRESS_FORM``."""
        return {
            "best_score": self.best_score,
            "early_stopping": self.early_stopping.progress(),
            "unlogged": self.unlogged,
        }
