"""The folder of one evaluation: predictions, metrics and report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from se_resnet.metrics.predictions import PREDICTIONS, Predictions
from se_resnet.runs.run_files import (
    METRICS,
    METRICS_FORM,
    PARTS,
    REPEATS_FORM,
    read,
    read_optional,
)

EVALUATIONS = "eval"  # the folder of a run that has a folder for each evaluation
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
    ``gallery/``           pictures of the report at full size, where the image files are there
    ``reporting/``         tables for a journal, :mod:`se_resnet.report.reporting`
    =====================  ========================================================
    """

    path: Path

    @property
    def is_finished(self) -> bool:
        """True once the whole evaluation is written."""
        return (self.path / REPORT).exists()

    def whole(self) -> tuple[str, EvaluationFolder] | None:
        """Returns the evaluation of all parts together that this evaluation is a part of.

        Returns:
            The kind of the part and the folder ``W/eval/NAME``, which need not exist, of an
            evaluation ``W/fold0/eval/NAME``, or of a repeat or a member. None for another.
        """
        path = self.path.absolute()
        part = path.parent.parent
        kind = part.name.rstrip("0123456789")
        if kind not in PARTS or kind == part.name or path.parent.name != EVALUATIONS:
            return None
        return kind, EvaluationFolder(part.parent / EVALUATIONS / path.name)

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
