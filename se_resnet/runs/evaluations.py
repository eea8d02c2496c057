"""The folder of one evaluation: predictions, metrics and report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from se_resnet.metrics.predictions import PREDICTIONS, Predictions
from se_resnet.runs.run_files import METRICS, METRICS_FORM, REPEATS_FORM, read, read_optional

REPORT = "report.html"
FILES = (PREDICTIONS, METRICS, REPORT)  # the report is written last


@dataclasses.dataclass(frozen=True)
class EvaluationFolder:
    """The folder ``W/eval/NAME`` of a run, or any other that ``eval.py --out`` names.

    =====================  ========================================================
    ``predictions.csv``    one row per image, :class:`~se_resnet.metrics.predictions.Predictions`;
                           none for several repeats together
    ``metrics.json``       :data:`~se_resnet.runs.run_files.METRICS_FORM`, of several repeats
                           together :data:`~se_resnet.runs.run_files.REPEATS_FORM`
    ``report.html``        the same for readers
    =====================  ========================================================
    """

    path: Path

    @property
    def is_finished(self) -> bool:
        """True once the whole evaluation is written."""
        return (self.path / REPORT).exists()

    def metrics(self) -> dict[str, Any]:
        """Returns ``metrics.json``.

        Raises:
            UserError: the file is missing or broken.
        """
        return read(self.path / METRICS, METRICS_FORM)

    def repeats(self) -> dict[str, Any]:
        """Returns ``metrics.json`` of an evaluation of several repeats together.

        Raises:
            UserError: the file is missing or broken.
        """
        return read(self.path / METRICS, REPEATS_FORM)

    def metrics_if_any(self) -> dict[str, Any] | None:
        """Returns ``metrics.json``, or None before the evaluation.

        Raises:
            UserError: the file is broken.
        """
        return read_optional(self.path / METRICS, METRICS_FORM)

    def predictions(self) -> Predictions:
        """Returns ``predictions.csv``.

        Raises:
            UserError: the file is missing or broken.
        """
        return Predictions.read_csv(self.path / PREDICTIONS)
