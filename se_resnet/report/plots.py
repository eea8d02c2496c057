"""The plots of a report, each an SVG element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from se_resnet.metrics.curves import pr_band, roc_band
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.levels import patients_as_units
from se_resnet.metrics.predictions import Predictions
from se_resnet.report.style import BLUE, GREEN, GREY, INK, VERMILLION, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (5.2, 4.6)
# The legend stands above the axes, where it covers no data.
_LEGEND: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "columnspacing": 1.2}
# A ring around a point of the chosen weights.
_MARK: dict[str, Any] = {
    "color": VERMILLION,
    "markerfacecolor": "none",
    "markersize": 9,
    "markeredgewidth": 1.6,
}
# Benign is filled and malignant is hatched, so that both stay visible where they overlap.
_CLASSES: list[tuple[str, str, Any, str]] = [
    (CLASS_NAMES[0], BLUE, (BLUE, 0.25), ""),
    (CLASS_NAMES[1], VERMILLION, "none", "///"),
]


def roc(predictions: Predictions, metrics: dict[str, Any], render: Callable[..., Any] = svg) -> Any:
    """Plots the ROC curves of images and of patients with their bands; None if undefined.

    ``render`` is a function of :mod:`se_resnet.report.style`, which determines the result.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="chance")
        _draw_curves(axes, curves, "false_positive_rate", "true_positive_rate")
        axes.set(
            xlabel="1 − specificity (false positive rate)",
            ylabel="sensitivity (true positive rate)",
        )
        axes.legend(**_LEGEND, ncols=3, fontsize=9)

    curves = _curves(predictions, metrics, roc_band, "roc_auc", "AUC")
    return render("roc", "ROC curves of images and of patients", draw, _SIZE) if curves else None


def precision_recall(predictions: Predictions, metrics: dict[str, Any]) -> Markup | None:
    """Plots the precision-recall curves of images and of patients; None if undefined."""

    def draw(axes: Axes) -> None:
        prevalence = float(predictions.label.mean())
        axes.axhline(prevalence, color=GREY, linewidth=1, label="chance")
        _draw_curves(axes, curves, "recall", "precision")
        axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)")
        axes.legend(**_LEGEND, ncols=3, fontsize=9)

    curves = _curves(predictions, metrics, pr_band, "average_precision", "AP")
    return svg("pr", "Precision-recall curves", draw, _SIZE) if curves else None


def _curves(
    predictions: Predictions,
    metrics: dict[str, Any],
    band: Callable[..., dict[str, Any]],
    area: str,
    short: str,
) -> list[tuple[dict[str, Any], str, str, str]]:
    """Returns the defined curves: points and band, label, colour and line style.

    ``area`` is the metric under the curve, ``short`` its name in the legend.
    """
    levels = [
        ("images", metrics["image"], predictions, BLUE, "-"),
        (
            "patients",
            metrics["patient"]["mean_probability"],
            patients_as_units(predictions),
            INK,
            "--",
        ),
    ]
    return [
        (
            band(units, exact=name == "patients"),
            f"{name} ({short} {level_metrics[area]['value']:.3f})",
            colour,
            style,
        )
        for name, level_metrics, units, colour, style in levels
        if level_metrics[area]["value"] is not None
    ]


def _draw_curves(axes: Axes, curves: list, x: str, y: str) -> None:
    for points, label, colour, style in curves:
        axes.plot(points[x], points[y], color=colour, linestyle=style, label=label)
        if points["low"] is None:
            continue
        # One band is filled and one is outlined: both stay visible where they overlap.
        if style == "-":
            axes.fill_between(
                points[x], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0
            )
        else:
            for bound in ("low", "high"):
                axes.plot(points[x], points[bound], color=colour, linestyle=":", linewidth=0.9)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def distribution(predictions: Predictions, threshold: float) -> Markup:
    """Plots histograms of the predicted probabilities by true class."""

    def draw(axes: Axes) -> None:
        bins = np.linspace(0, 1, 21).tolist()
        for value, (name, colour, fill, hatch) in enumerate(_CLASSES):
            of_class = predictions.probability[predictions.label == value]
            if not len(of_class):
                continue
            axes.hist(
                of_class,
                bins,
                weights=np.full(len(of_class), 100 / len(of_class)),
                histtype="stepfilled",
                facecolor=fill,
                edgecolor=colour,
                hatch=hatch,
                linewidth=1.5,
                label=f"{name} ({len(of_class):,})",
            )
        axes.axvline(threshold, color=INK, linestyle="--", label=f"threshold {threshold:.3g}")
        axes.set(
            xlabel="predicted probability of malignant",
            ylabel="images of the class (%)",
            xlim=(0, 1),
        )
        axes.legend(**_LEGEND, ncols=3)

    return svg("distribution", "Predicted probabilities by true class", draw, _SIZE)


def reliability(curve: dict[str, Any]) -> Markup:
    """Plots the fraction of malignant images against the predicted probability.

    Args:
        curve: result of :func:`se_resnet.metrics.calibration.reliability_curve`.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=":", label="ideal")
        axes.plot(curve["mean_probability"], curve["frequency"], "o", color=BLUE, label="images")
        for x, low, high in zip(
            curve["mean_probability"], curve["low"], curve["high"], strict=True
        ):
            if low is not None:
                axes.plot([x, x], [low, high], color=BLUE, linewidth=1.5)
        axes.set(
            xlabel="predicted probability of malignant",
            ylabel="fraction of malignant images",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            aspect="equal",
        )
        axes.legend(**_LEGEND, ncols=3)

    return svg("reliability", "Reliability diagram", draw, _SIZE)


def risk_coverage(curve: dict[str, Any]) -> Markup:
    """Plots the error rate of the most confident images against their fraction of all images.

    Args:
        curve: ``curve`` of :func:`se_resnet.metrics.selective.risk_coverage`.
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
        axes.set(xlabel="coverage (fraction of the images)", ylabel="error rate", xlim=(0, 1))
        axes.set_ylim(bottom=0)
        axes.legend(**_LEGEND, ncols=3)

    return svg("risk-coverage", "Risk-coverage curve", draw, _SIZE)


def decision_curve(metrics: dict[str, Any]) -> Markup | None:
    """Plots the net benefit per patient against the threshold; None without both classes.

    Args:
        metrics: content of ``metrics.json`` with the part ``clinical``.
    """
    clinical = metrics["clinical"]
    if "decision_curve" not in clinical:
        return None
    curve, prevalence = clinical["decision_curve"], clinical["prevalence"]

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=GREY, linewidth=1.2, linestyle=":", label="treat none")
        axes.plot(
            curve["threshold"], curve["treat_all"], color=INK, linestyle="--", label="treat all"
        )
        axes.plot(curve["threshold"], curve["net_benefit"], color=BLUE, label="model")
        axes.fill_between(
            curve["threshold"], curve["low"], curve["high"], color=BLUE, alpha=0.15, linewidth=0
        )
        axes.set(
            xlabel="threshold of the probability of malignant",
            ylabel="net benefit per patient",
            xlim=(0, 1),
            ylim=(-0.5 * prevalence, 1.05 * prevalence),
        )
        axes.legend(**_LEGEND, ncols=3)

    return svg("decision-curve", "Decision curve of patients", draw, _SIZE)


def training(
    log: list[dict[str, Any]], chosen: int | None = None, epoch: float | None = None
) -> list[Markup]:
    """Plots loss and scores by step; a panel without values in ``metrics.jsonl`` is left out.

    Args:
        log: lines of ``metrics.jsonl``.
        chosen: step of the evaluated weights, which gets a mark; None for no mark.
        epoch: number of epochs at that step, for the legend; None if it is not known.
    """
    mark = None if chosen is None else f"chosen weights: step {chosen:,}"
    if mark and epoch is not None:
        mark += f", epoch {epoch:g}"
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
    plots = []
    for panel, lines in panels.items():
        series = [(_series(log, key), *style) for key, *style in lines]
        series = [(points, *style) for points, *style in series if points[0]]
        if not series:
            continue

        def draw(axes: Axes, panel: str = panel, series: list = series) -> None:
            for (steps, values), name, colour, style in series:
                # A single value gives no line, so a short series has markers.
                marker = "o" if len(steps) <= 30 else ""
                axes.plot(
                    steps, values, style, color=colour, marker=marker, markersize=4, label=name
                )
                if chosen is not None and chosen in steps:
                    value = values[steps.index(chosen)]
                    axes.plot(chosen, value, "o", **_MARK)
            if chosen is not None:
                axes.axvline(chosen, color=VERMILLION, linewidth=1.2, linestyle=":", label=mark)
            axes.set(xlabel="step", ylabel=panel)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1))

        plots.append(svg(f"training-{panel}", f"Training curves: {panel}", draw, (5.2, 3.8)))
    return plots


def _series(log: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [
        (line["step"], line[key])
        for line in log
        if line.get("step") is not None and line.get(key) is not None and math.isfinite(line[key])
    ]
    return [step for step, _ in points], [value for _, value in points]


def gates(rows: list[dict[str, Any]]) -> Markup:
    """Plots quantiles of the gate values by block, from the input on, and by class.

    Args:
        rows: result of :func:`se_resnet.explain.gate_summary` by block.
    """
    names = list(dict.fromkeys(row["block"] for row in rows))

    def draw(axes: Axes) -> None:
        for shift, (name, colour, fill, hatch) in zip((-0.2, 0.2), _CLASSES, strict=True):
            of_class = [row for row in rows if row["class"] == name]
            if not of_class:
                continue
            y = [names.index(row["block"]) + shift for row in of_class]
            low, q25, q50, q75, high = (
                np.array([row[f"q{q}"] for row in of_class]) for q in ("05", "25", "50", "75", "95")
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
        axes.set(xlabel="gate value (factor of a channel)", ylim=(len(names) - 0.4, -0.6))
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.locator_params(axis="x", nbins=6)
        axes.legend(**_LEGEND, ncols=2)

    height = 1.3 + 0.34 * len(names)
    return svg("gates", "Gate values by block and class", draw, (5.2, height))
