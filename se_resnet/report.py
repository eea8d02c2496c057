"""One evaluation as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from se_resnet.files import atomic_write
from se_resnet.metrics import Predictions, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart under every common colour blindness; line styles and hatching
# say the same in grey.
BLUE, VERMILLION, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#6B7280", "#1F2933"

# Counts as a share of something, shown in per cent; the other metrics are shown as they are.
_PERCENT = {
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "specificity",
    "recognition_rate",
    "patient_recognition_rate",
}
_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Recall (sensitivity)",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
}
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E5E7EB",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    # Text stays text: it can be searched, copied and enlarged.
    "svg.fonttype": "none",
    # The same evaluation gives the same file.
    "svg.hashsalt": "se-resnet",
}


def write_report(
    path: str | Path,
    *,
    title: str,
    predictions: Predictions,
    metrics: dict[str, Any],
    split_summary: list[dict[str, Any]],
    training_log: list[dict[str, Any]],
    config: dict[str, Any],
    command: str,
    warnings: list[str],
    notes: list[str],
) -> None:
    """Writes the report of one evaluation.

    Args:
        path: the HTML file to write; it is replaced at once or not at all.
        title: heading of the page, plain text as every text here: it is escaped.
        predictions: the images evaluated.
        metrics: what :func:`se_resnet.metrics.evaluate` returned for ``predictions``; with
            ``decision``, ``at_chosen_threshold``, ``calibration`` and ``selective``, as
            ``metrics.json`` has them, the report shows those too.
        split_summary: rows with ``role``, ``class``, ``images``, ``slides`` and ``accessions``.
        training_log: lines of ``metrics.jsonl``; each holds ``step`` and some of ``train/loss``,
            ``train/accuracy``, ``val/loss``, ``val/accuracy`` and ``val/roc_auc``. May be empty.
        config: configuration of the run; what JSON cannot say is shown as ``str`` says it.
        command: the command that reproduces the run.
        warnings: what a reader must know before believing a figure; shown first.
        notes: what a reader may want to know.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("se_resnet"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": _shown, "interval": _interval}
    patients = metrics["patient"]["patients"]
    html = environment.get_template("report.html.j2").render(
        title=title,
        metrics=metrics,
        metric_labels=_METRICS,
        patients=sorted(patients, key=lambda row: (row["patient_score"], row["accession"])),
        split_summary=split_summary,
        config=json.dumps(config, indent=2, default=str),
        command=command,
        warnings=warnings,
        notes=notes,
        roc=_roc_figure(predictions, metrics),
        distribution=_distribution_figure(predictions, metrics["threshold"]),
        training=_training_figures(training_log),
        reliability=_reliability_figure(metrics),
        risk_coverage=_risk_coverage_figure(metrics),
    )
    with atomic_write(path, "wb") as file:
        # A file name that is not valid UTF-8 arrives as surrogates, which UTF-8 cannot encode.
        file.write(html.encode("utf-8", "backslashreplace"))


def _shown(value: float, name: str) -> str:
    """The value of the metric ``name``: per cent for shares, three decimals for the rest."""
    return f"{100 * value:.1f} %" if name in _PERCENT else f"{value:.3f}"


def _interval(figure: dict[str, Any], name: str) -> str:
    """The bounds of a figure of the metric ``name``, as its value is shown but with no unit."""
    return "–".join(_shown(figure[bound], name).removesuffix(" %") for bound in ("low", "high"))


def _roc_figure(predictions: Predictions, metrics: dict[str, Any]) -> Markup | None:
    patients = metrics["patient"]["patients"]
    curves = [
        (
            "images",
            metrics["image"]["roc_auc"]["value"],
            predictions.label,
            predictions.probability,
            BLUE,
            "-",
        ),
        (
            "patients",
            metrics["patient"]["mean_probability"]["roc_auc"]["value"],
            np.array([row["label"] for row in patients]),
            np.array([row["mean_probability"] for row in patients]),
            INK,
            "--",
        ),
    ]
    drawable = [curve for curve in curves if curve[1] is not None]
    if not drawable:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=":", label="chance")
        for name, area, label, probability, colour, style in drawable:
            false_positive, true_positive, _ = roc_curve(label, probability)
            axes.plot(
                false_positive,
                true_positive,
                color=colour,
                linestyle=style,
                label=f"{name} (AUC {area:.3f})",
            )
        axes.set(
            xlabel="1 − specificity (benign called malignant)",
            ylabel="sensitivity (malignant found)",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
        )
        axes.legend(loc="lower right")

    return _svg("roc", "ROC curves of images and of patients", draw, (5.2, 4.6))


def _distribution_figure(predictions: Predictions, threshold: float) -> Markup:
    def draw(axes: Axes) -> None:
        bins = np.linspace(0, 1, 21)
        # One filled and one hatched, so that both are seen where they overlap.
        for value, name, colour, fill, hatch in [
            (0, "benign", BLUE, (BLUE, 0.25), ""),
            (1, "malignant", VERMILLION, "none", "///"),
        ]:
            chosen = predictions.probability[predictions.label == value]
            if not len(chosen):
                continue
            axes.hist(
                chosen,
                bins.tolist(),
                weights=np.full(len(chosen), 100 / len(chosen)),
                histtype="stepfilled",
                facecolor=fill,
                edgecolor=colour,
                hatch=hatch,
                linewidth=1.5,
                label=f"{name} ({len(chosen):,})",
            )
        axes.axvline(threshold, color=INK, linestyle="--", label=f"threshold {threshold:g}")
        axes.set(
            xlabel="predicted probability of malignant",
            ylabel="images of the class (%)",
            xlim=(0, 1),
        )
        # Above the axes, where it covers no bar.
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2)

    return _svg("distribution", "Predicted probabilities by true class", draw, (5.2, 4.6))


def _reliability_figure(metrics: dict[str, Any]) -> Markup | None:
    if "calibration" not in metrics:
        return None
    curve = metrics["calibration"]["reliability"]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=":", label="as promised")
        axes.plot(curve["mean_probability"], curve["frequency"], "o", color=BLUE, label="images")
        for x, low, high in zip(
            curve["mean_probability"], curve["low"], curve["high"], strict=True
        ):
            if low is not None:
                axes.plot([x, x], [low, high], color=BLUE, linewidth=1.5)
        axes.set(
            xlabel="predicted probability of malignant",
            ylabel="share that is malignant",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            aspect="equal",
        )
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2)

    return _svg("reliability", "Reliability diagram", draw, (5.2, 4.6))


def _risk_coverage_figure(metrics: dict[str, Any]) -> Markup | None:
    if "selective" not in metrics:
        return None
    curve = metrics["selective"]["curve"]

    def draw(axes: Axes) -> None:
        axes.plot(curve["coverage"], curve["risk"], color=BLUE, label="error rate")
        if curve["low"] is not None:
            axes.fill_between(
                curve["coverage"],
                curve["low"],
                curve["high"],
                color=BLUE,
                alpha=0.15,
                linewidth=0,
                label="95 % interval",
            )
        axes.axvline(0.8, color=INK, linestyle="--", label="80 % of the images")
        axes.set(xlabel="share of the images called", ylabel="error rate", xlim=(0, 1))
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1.2)

    return _svg("risk-coverage", "Risk-coverage curve", draw, (5.2, 4.6))


def _training_figures(training_log: list[dict[str, Any]]) -> list[Markup]:
    panels = {
        "loss": [
            ("train/loss", "training", GREY, "--"),
            ("val/loss", "validation", BLUE, "-"),
        ],
        "score": [
            ("train/accuracy", "training accuracy", GREY, "--"),
            ("val/accuracy", "validation accuracy", BLUE, "-"),
            ("val/roc_auc", "validation ROC AUC", GREEN, "-."),
        ],
    }
    figures = []
    for panel, lines in panels.items():
        series = [(_series(training_log, key), *style) for key, *style in lines]
        series = [one for one in series if one[0][0]]
        if not series:
            continue

        def draw(axes: Axes, panel: str = panel, series: list = series) -> None:
            for (steps, values), name, colour, style in series:
                # One value alone draws no line, so the points of a short series are marked.
                marker = "o" if len(steps) <= 30 else ""
                axes.plot(
                    steps, values, style, color=colour, marker=marker, markersize=4, label=name
                )
            axes.set(xlabel="step", ylabel=panel)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1))

        figures.append(_svg(f"training-{panel}", f"Training curves: {panel}", draw, (5.2, 3.8)))
    return figures


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [
        (line["step"], line[key])
        for line in log
        if line.get("step") is not None and line.get(key) is not None and math.isfinite(line[key])
    ]
    return [step for step, _ in points], [value for _, value in points]


def _svg(
    name: str, description: str, draw: Callable[[Axes], None], size: tuple[float, float]
) -> Markup:
    """One panel as an SVG element that scales with the page; ``size`` in inches."""
    # matplotlib takes a second to import, which whoever writes no report should not wait for.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    # Every figure has its figure_1 and axes_1, but an identifier must be unique in the page.
    body = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", body)
    width, height = 72 * size[0], 72 * size[1]
    label = Markup.escape(description)
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
        f' aria-label="{label}"><title>{label}</title>{body}'
    )
