"""What trackers are shown of an evaluation: its main figures and two pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from se_resnet import metrics
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
        log: of the run.
        results: ``metrics.json`` of the evaluation.
        folder: of the evaluation.
    """
    log.conclude(scalars(results), lambda: pictures(folder.predictions(), results))


def scalars(results: dict[str, Any]) -> dict[str, float | None]:
    """The headline of ``metrics.json`` by name, ``test/image_roc_auc`` and so on."""
    return {f"test/{name}": it["value"] for name, it in metrics.headline(results).items()}


def pictures(predictions: Predictions, results: dict[str, Any]) -> dict[str, bytes]:
    """PNG files by name: ``test/roc``, where there is such a curve, and ``test/confusion``."""
    made = {
        "test/roc": plots.roc(predictions, results, png),
        "test/confusion": _confusion(results["at_chosen_threshold"]["image"]["confusion"]),
    }
    return {name: picture for name, picture in made.items() if picture is not None}


def _confusion(counts: dict[str, int]) -> bytes:
    """Images by class and call, at the threshold chosen on validation."""

    def draw(axes: Axes) -> None:
        for row, cells in enumerate(("tn fp", "fn tp")):
            for column, cell in enumerate(cells.split()):
                right = row == column
                colour = BLUE if right else VERMILLION
                axes.fill_between([column, column + 1], row, row + 1, color=colour, alpha=0.15)
                told = f"{counts[cell]:,}\n{'right' if right else 'wrong'}"
                axes.text(column + 0.5, row + 0.5, told, ha="center", va="center", color=INK)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0.5, 1.5], CLASS_NAMES)
            axis.set_tick_params(length=0)
        axes.set(xlabel="called", ylabel="is", xlim=(0, 2), ylim=(2, 0), aspect="equal")
        axes.grid(False)

    return png("confusion", "Images by class and call", draw, (3.6, 3.4))
