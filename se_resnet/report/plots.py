"""The figures of a report, each one panel of SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from se_resnet.metrics.curves import pr_band, roc_band
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions
from se_resnet.report.style import BLUE, GREEN, GREY, INK, VERMILLION, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (5.2, 4.6)
# Above the axes, where it covers nothing.
_LEGEND: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "columnspacing": 1.2}
# Benign is filled and malignant hatched, so that both are seen where they overlap.
_CLASSES: list[tuple[str, str, Any, str]] = [
    (CLASS_NAMES[0], BLUE, (BLUE, 0.25), ""),
    (CLASS_NAMES[1], VERMILLION, "none", "///"),
]


def roc(predictions: Predictions, metrics: dict[str, Any], render: Callable[..., Any] = svg) -> Any:
    """ROC curves of images and of patients, each with its band; None where there is none.

    ``render`` is one of the functions of :mod:`se_resnet.report.style` and says what is returned.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="chance")
        _draw_curves(axes, curves, "false_positive_rate", "true_positive_rate")
        axes.set(
            xlabel="1 − specificity (benign called malignant)",
            ylabel="sensitivity (malignant found)",
        )
        axes.legend(**_LEGEND, ncols=3, fontsize=9)

    curves = _curves(predictions, metrics, roc_band, "roc_auc", "AUC")
    return render("roc", "ROC curves of images and of patients", draw, _SIZE) if curves else None


def precision_recall(predictions: Predictions, metrics: dict[str, Any]) -> Markup | None:
    """Precision-recall curves of images and of patients; None where there is none."""

    def draw(axes: Axes) -> None:
        share = float(predictions.label.mean())
        axes.axhline(share, color=GREY, linewidth=1, label="chance")
        _draw_curves(axes, curves, "recall", "precision")
        axes.set(xlabel="recall (malignant found)", ylabel="precision (rightly called malignant)")
        axes.legend(**_LEGEND, ncols=3, fontsize=9)

    curves = _curves(predictions, metrics, pr_band, "average_precision", "AP")
    return svg("pr", "Precision-recall curves", draw, _SIZE) if curves else None


def _curves(
    predictions: Predictions,
    metrics: dict[str, Any],
    band: Callable[[Predictions, int, int], dict[str, Any]],
    figure: str,
    short: str,
) -> list[tuple[dict[str, Any], str, str, str]]:
    """The curves that can be drawn: points and band, label, colour and line style."""
    levels = [
        ("images", metrics["image"], predictions, BLUE, "-"),
        (
            "patients",
            metrics["patient"]["mean_probability"],
            _as_patients(metrics["patient"]["patients"]),
            INK,
            "--",
        ),
    ]
    return [
        (
            band(units, metrics["resamples"], metrics["seed"]),
            f"{name} ({short} {figures[figure]['value']:.3f})",
            colour,
            style,
        )
        for name, figures, units, colour, style in levels
        if figures[figure]["value"] is not None
    ]


def _as_patients(patients: list[dict[str, Any]]) -> Predictions:
    """One row per patient with the mean probability, where images are expected."""
    accession = np.array([row["accession"] for row in patients])
    return Predictions(
        file=accession,
        slide=accession,
        accession=accession,
        magnification=np.zeros(len(patients), int),
        subtype=accession,
        label=np.array([row["label"] for row in patients]),
        probability=np.array([row["mean_probability"] for row in patients]),
    )


def _draw_curves(axes: Axes, curves: list, x: str, y: str) -> None:
    for points, label, colour, style in curves:
        axes.plot(points[x], points[y], color=colour, linestyle=style, label=label)
        if points["low"] is None:
            continue
        # One band filled and one outlined, so that both are seen where they overlap.
        if style == "-":
            axes.fill_between(
                points[x], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0
            )
        else:
            for bound in ("low", "high"):
                axes.plot(points[x], points[bound], color=colour, linestyle=":", linewidth=0.9)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def distribution(predictions: Predictions, threshold: float) -> Markup:
    """Histograms of the predicted probabilities, by true class."""

    def draw(axes: Axes) -> None:
        bins = np.linspace(0, 1, 21).tolist()
        for value, (name, colour, fill, hatch) in enumerate(_CLASSES):
            chosen = predictions.probability[predictions.label == value]
            if not len(chosen):
                continue
            axes.hist(
                chosen,
                bins,
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
        axes.legend(**_LEGEND, ncols=3)

    return svg("distribution", "Predicted probabilities by true class", draw, _SIZE)


def reliability(curve: dict[str, Any]) -> Markup:
    """How often images of a predicted probability are malignant.

    Args:
        curve: what :func:`se_resnet.metrics.calibration.reliability_curve` returned.
    """

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
        axes.legend(**_LEGEND, ncols=3)

    return svg("reliability", "Reliability diagram", draw, _SIZE)


def risk_coverage(curve: dict[str, Any]) -> Markup:
    """The error rate when only the most confident images are called.

    Args:
        curve: ``curve`` of what :func:`se_resnet.metrics.selective.risk_coverage` returned.
    """

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
        axes.legend(**_LEGEND, ncols=3)

    return svg("risk-coverage", "Risk-coverage curve", draw, _SIZE)


def training(log: list[dict[str, Any]]) -> list[Markup]:
    """Loss and scores by step, as far as the lines of ``metrics.jsonl`` hold any."""
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
        series = [(_series(log, key), *style) for key, *style in lines]
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

        figures.append(svg(f"training-{panel}", f"Training curves: {panel}", draw, (5.2, 3.8)))
    return figures


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [
        (line["step"], line[key])
        for line in log
        if line.get("step") is not None and line.get(key) is not None and math.isfinite(line[key])
    ]
    return [step for step, _ in points], [value for _, value in points]


def gates(rows: list[dict[str, Any]]) -> Markup:
    """Where gate values lie, by block from the input on and by class.

    Args:
        rows: what :func:`se_resnet.explain.gate_summary` returned for every block.
    """
    names = list(dict.fromkeys(row["block"] for row in rows))

    def draw(axes: Axes) -> None:
        for shift, (name, colour, fill, hatch) in zip((-0.2, 0.2), _CLASSES, strict=True):
            chosen = [row for row in rows if row["class"] == name]
            y = [names.index(row["block"]) + shift for row in chosen]
            low, q25, q50, q75, high = (
                np.array([row[f"q{q}"] for row in chosen]) for q in ("05", "25", "50", "75", "95")
            )
            axes.hlines(y, low, high, color=colour, linewidth=1.2)
            axes.barh(
                y,
                q75 - q25,
                left=q25,
                height=0.3,
                facecolor=fill,
                edgecolor=colour,
                hatch=2 * hatch,
                label=name,
            )
            axes.plot(q50, y, "|", color=INK, markersize=7, markeredgewidth=2)
        axes.axvline(1, color=GREY, linewidth=1.2, linestyle=":")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="gate (what a channel is multiplied by)", ylim=(len(names) - 0.4, -0.6))
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.locator_params(axis="x", nbins=6)
        axes.legend(**_LEGEND, ncols=2)

    height = 1.3 + 0.34 * len(names)
    return svg("gates", "Gate values by block and class", draw, (5.2, height))
