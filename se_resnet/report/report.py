"""One evaluation as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from se_resnet.metrics.labels import TUMOUR_TYPES
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import plots
from se_resnet.report.patient_strips import patient_groups
from se_resnet.runtime.files import atomic_write
from se_resnet.runtime.templates import render

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
_AUDIT = {
    "shared_images": "Images that stand in more than one role of the split",
    "straddling_accessions": "Patients of the test set that were also trained or validated on",
    "straddling_test_images": "Test images of those patients",
    "synthetic_test_images": "Synthetic images in the test set",
    "excluded_copies": "Second copies of an image, left out",
    "evaluated_images_seen": "Evaluated here: images trained or validated on",
    "evaluated_accessions_seen": "Evaluated here: patients trained or validated on",
    "evaluated_images_of_seen_accessions": "Evaluated here: images of those patients",
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
    data_notes: list[str],
    gallery: list[dict[str, Any]] | None = None,
    gates: dict[str, list[dict[str, Any]]] | None = None,
) -> None:
    """Writes the report of one evaluation.

    Args:
        path: the HTML file to write; it is replaced at once or not at all.
        title: heading of the page, plain text as every text here: it is escaped.
        predictions: the images evaluated.
        metrics: what :func:`se_resnet.metrics.evaluate` returned for ``predictions``; with
            ``decision``, ``at_chosen_threshold``, ``calibration``, ``selective``, ``audit`` and
            ``folds``, as ``metrics.json`` has them, the report shows those too.
        split_summary: rows with ``role``, ``class``, ``images``, ``slides`` and ``accessions``.
        training_log: lines of ``metrics.jsonl``; each holds ``step`` and some of ``train/loss``,
            ``train/accuracy``, ``val/loss``, ``val/accuracy`` and ``val/roc_auc``. May be empty.
        config: configuration of the run; what JSON cannot say is shown as ``str`` says it.
        command: the command that reproduces the run.
        warnings: what a reader must know before believing a figure; shown first.
        notes: how the figures came about; shown below the headline.
        data_notes: what a reader may want to know of the images; shown with the split.
        gallery: what :func:`se_resnet.report.gallery.make` returned; None leaves the section out.
        gates: what :func:`se_resnet.explain.attention_gates.describe` returned; None leaves the
            section out.
    """
    calibration, selective = metrics.get("calibration"), metrics.get("selective")
    html = render(
        "se_resnet.report",
        "report.html.j2",
        {"shown": _shown, "interval": _interval},
        title=title,
        metrics=metrics,
        metric_labels=_METRICS,
        subtype_names=TUMOUR_TYPES,
        audit_labels=_AUDIT,
        patient_groups=patient_groups(
            predictions, metrics["patient"]["patients"], metrics["threshold"]
        ),
        split_summary=split_summary,
        config=json.dumps(config, indent=2, default=str),
        command=command,
        warnings=warnings,
        notes=notes,
        data_notes=data_notes,
        gallery=gallery,
        gates=gates,
        roc=plots.roc(predictions, metrics),
        precision_recall=plots.precision_recall(predictions, metrics),
        distribution=plots.distribution(predictions, metrics["threshold"]),
        training=plots.training(training_log),
        reliability=plots.reliability(calibration["reliability"]) if calibration else None,
        risk_coverage=plots.risk_coverage(selective["curve"]) if selective else None,
        gate_figure=plots.gates(gates["blocks"]) if gates and gates["blocks"] else None,
    )
    with atomic_write(path, "wb") as file:
        # A file name that is not valid UTF-8 arrives as surrogates, which UTF-8 cannot encode.
        file.write(html.encode("utf-8", "backslashreplace"))


def _shown(value: float, name: str) -> str:
    """The value of the metric ``name``: per cent for shares, three decimals for the rest."""
    shown = f"{100 * value:.1f} %" if name in _PERCENT else f"{value:.3f}"
    return shown.replace("-", "−")


def _interval(figure: dict[str, Any], name: str) -> str:
    """The bounds of a figure of the metric ``name``, as its value is shown but with no unit."""
    return "–".join(_shown(figure[bound], name).removesuffix(" %") for bound in ("low", "high"))
