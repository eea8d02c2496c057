"""Metrics and plots of an evaluation for the trackers: the headline, ROC and confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from se_resnet import metrics
from se_resnet.metrics.full import at_used_threshold
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import plots
from se_resnet.report.style import BLUE, INK, VERMILLION, png
from se_resnet.runs.evaluations import EvaluationFolder
from se_resnet.tracking.metric_log import MetricLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def send(log: MetricLog, results: dict[str, Any], folder: EvaluationFolder) -> None:
    """Sends the results of an evaluation to the trackers of its run.

    Args:
        log: log of the run.
        results: ``metrics.json`` of the evaluation.
        folder: folder of the evaluation.
    """
    log.write_evaluation(scalars(results), lambda: plot_files(folder.predictions(), results))


def scalars(results: dict[str, Any]) -> dict[str, float | None]:
    """Returns the headline by name, for example ``test/image_roc_auc``, at the run's threshold."""
    used = metrics.headline(at_used_threshold(results))
    return {f"test/{name}": estimate["value"] for name, estimate in used.items()}


def plot_files(predictions: Predictions, results: dict[str, Any]) -> dict[str, bytes]:
    """Returns PNG files by name: ``test/roc``, if the curve is defined, and ``test/confusion``."""
    files = {
        "test/roc": plots.roc(predictions, results, png),
        "test/confusion": _confusion(results["at_chosen_threshold"]["image"]["confusion"]),
    }
    return {name: file for name, file in files.items() if file is not None}


def _confusion(counts: dict[str, int]) -> bytes:
    """Plots the confusion matrix of the images at the threshold chosen on validation."""

    def draw(axes: Axes) -> None:
        for row, cells in enumerate(("tn fp", "fn tp")):
            for column, cell in enumerate(cells.split()):
                right = row == column
                colour = BLUE if right else VERMILLION
                axes.fill_between([column, column + 1], row, row + 1, color=colour, alpha=0.15)
                text = f"{counts[cell]:,}\n{'right' if right else 'wrong'}"
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=INK)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0.5, 1.5], CLASS_NAMES)
            axis.set_tick_params(length=0)
        axes.set(
            xlabel="predicted class", ylabel="true class", xlim=(0, 2), ylim=(2, 0), aspect="equal"
        )
        axes.grid(False)

    return png("confusion", "Images by true and predicted class", draw, (3.6, 3.4))
