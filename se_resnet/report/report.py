"""Writes an evaluation as a self-contained HTML file without scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.metrics.decision import Decision
from se_resnet.metrics.estimates import FEWEST, METHODS, TOO_FEW
from se_resnet.metrics.evaluation import MOST_PARTS
from se_resnet.metrics.full import at_used_threshold, used_thresholds
from se_resnet.metrics.labels import TUMOUR_TYPES
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import plots
from se_resnet.report.errors import LISTED, list_errors
from se_resnet.report.page import render_page
from se_resnet.report.patient_strips import patient_groups
from se_resnet.report.provenance import describe_weights, table_of_provenance
from se_resnet.report.reporting.wording import listing
from se_resnet.runs.image_source import BREAKHIS, ImageSource
from se_resnet.runs.run_files import NEAR_DUPLICATES
from se_resnet.runtime.templates import write_text

# Fractions, shown in per cent. Other metrics are shown as numbers.
_PERCENT = {
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "specificity",
    "recognition_rate",
    "patient_recognition_rate",
    "agreement",
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
    "shared_images": "Images in more than one role of the split",
    "straddling_accessions": "Test patients with images in training or validation",
    "straddling_test_images": "Test images of these patients",
    "near_duplicate_test_images": "Test images nearly the same as one in training or validation",
    "near_duplicate_test_images_of_another_accession": "Of these, like an image of another patient",
    "synthetic_test_images": "Synthetic images in the test set",
    "excluded_copies": "Duplicate images, excluded",
    "evaluated_images_seen": "Evaluated images that were used in training or validation",
    "evaluated_accessions_seen": "Evaluated patients that were used in training or validation",
    "evaluated_images_of_seen_accessions": "Evaluated images of these patients",
}
# For the images of one magnification or one site.
_PART_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "recall",
    "specificity",
    "roc_auc",
    "patient_recognition_rate",
)


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
    reporting: str = "",
    part_links: Sequence[str] = (),
    parent: tuple[str, str] | None = None,
    source: ImageSource = BREAKHIS,
) -> None:
    """Writes the report of one evaluation.

    Args:
        path: the HTML file; the write is atomic.
        title: heading of the page. All texts are plain text and are escaped.
        predictions: predictions of the evaluated images.
        metrics: result of :func:`se_resnet.metrics.evaluate` for ``predictions``. The report also
            shows the entries ``decision``, ``at_chosen_threshold``, ``calibration``, ``clinical``,
            ``selective``, ``audit``, ``folds``, ``members`` and ``provenance`` of ``metrics.json``,
            if present. With a
            decision, the main parts of the page are those at its threshold.
        split_summary: rows with ``role``, ``class``, ``images``, ``slides`` and ``accessions``.
        training_log: lines of ``metrics.jsonl``; each has ``step`` and some of ``train/loss``,
            ``train/accuracy``, ``val/loss``, ``val/accuracy`` and ``val/roc_auc``. May be empty.
        config: configuration of the run; values without a JSON form are shown by ``str``.
        command: the command that reproduces the run.
        warnings: limits on the validity of the results; shown first.
        notes: remarks on the evaluation; shown below the headline.
        data_notes: remarks on the images; shown with the split.
        gallery: result of :func:`se_resnet.report.gallery.make`; None omits the section.
        gates: result of :func:`se_resnet.explain.attention_gates.describe`; None omits the section.
        reporting: relative address of the page with the tables for a journal; empty for no link.
        part_links: relative addresses of the reports of the folds or members; empty for no link.
        parent: relative address and label of the report that this report is a part of, or None.
        source: data set of the evaluated images.
    """
    provenance = metrics.get("provenance")
    metrics = at_used_threshold(metrics)
    thresholds = used_thresholds(metrics, predictions.fold)
    calibration, selective = metrics.get("calibration"), metrics.get("selective")
    html = render_page(
        "report.html.j2",
        {
            "format_value": _format_value,
            "format_interval": _format_interval,
            "format_p": _format_p,
            "format_ratio": _format_ratio,
        },
        title=title,
        metrics=metrics,
        several_thresholds=bool(np.ptp(thresholds)),
        together="malignant_votes" in predictions.extra,
        metric_labels=_METRICS,
        rests_on=metrics["image"]["accuracy"],
        methods=METHODS.values(),
        fewest=FEWEST,
        too_few=TOO_FEW,
        decisions=_decisions(metrics),
        subtype_names=TUMOUR_TYPES if source.is_breakhis else {},
        part_metrics=_PART_METRICS,
        parts=_parts(metrics),
        most_parts=MOST_PARTS,
        unknown=_count_unknown(predictions),
        source=source,
        class_labels=source.explain_classes(),
        # A table without a column of slides has the patient in its place.
        slides_known=bool((predictions.slide != predictions.accession).any()),
        split_columns=split_columns(split_summary, source),
        audit_labels=_AUDIT,
        audit_added=NEAR_DUPLICATES,
        errors=list_errors(predictions, thresholds),
        listed=LISTED,
        part_links=part_links,
        parent=parent,
        patient_groups=patient_groups(predictions, metrics["patient"]["patients"], thresholds),
        split_summary=split_summary,
        config=json.dumps(config, indent=2, default=str),
        command=command,
        banner=provenance["banner"] if provenance else "",
        provenance=table_of_provenance(provenance) if provenance else [],
        differing=provenance["differs_from_default"] if provenance else None,
        warnings=warnings,
        notes=notes,
        data_notes=data_notes,
        gallery=gallery,
        with_files=any(
            picture.get("full") for group in gallery or () for picture in group["pictures"]
        ),
        gates=gates,
        reporting=reporting,
        roc=plots.roc(predictions, metrics),
        precision_recall=plots.precision_recall(predictions, metrics),
        distribution=plots.distribution(predictions, metrics["threshold"]),
        decision_curve=plots.decision_curve(metrics) if "clinical" in metrics else None,
        training=plots.training(training_log, *_chosen(provenance)),
        chosen=_describe_chosen(provenance),
        reliability=plots.reliability(calibration["reliability"]) if calibration else None,
        risk_coverage=plots.risk_coverage(selective["curve"]) if selective else None,
        gate_plot=plots.gates(gates["blocks"]) if gates and gates["blocks"] else None,
    )
    write_text(path, html)


def _chosen(provenance: Mapping[str, Any] | None) -> tuple[int | None, float | None]:
    """Returns step and epoch of the evaluated weights of a single network, or None."""
    networks = provenance["networks"] if provenance else []
    if len(networks) != 1:
        return None, None
    return networks[0]["evaluated_step"], networks[0]["evaluated_epoch"]


def _describe_chosen(provenance: Mapping[str, Any] | None) -> str:
    """Returns the evaluated weights of a single network as text, or an empty string."""
    step, _ = _chosen(provenance)
    return describe_weights(provenance["networks"][0]) if provenance and step is not None else ""


def _parts(metrics: dict[str, Any]) -> str:
    """Returns the columns whose values are evaluated separately, for example ``site``."""
    return listing(
        name
        for name in ("magnification", "subtype", "site")
        if metrics.get(f"by_{name}") or name in metrics.get("too_many_parts", {})
    )


def _count_unknown(predictions: Predictions) -> dict[str, int]:
    """Returns the number of images without a value, by column."""
    return {
        "magnification": int((predictions.magnification == 0).sum()),
        "subtype": int((predictions.subtype == "").sum()),
        "site": int((predictions.extra.get("site", np.array(["-"])) == "").sum()),
    }


def split_columns(split_summary: list[dict[str, Any]], source: ImageSource) -> dict[str, str]:
    """Returns the titles of the columns of counts; without slides where these are not known."""
    titles = {"images": "Images", "slides": "Slides", "accessions": "Patients"}
    differ = any(row["slides"] != row["accessions"] for row in split_summary)
    if not (source.is_breakhis or differ):
        del titles["slides"]
    return titles


def _decisions(metrics: dict[str, Any]) -> list[str]:
    """Returns a sentence for the decision, or for that of each fold."""
    sentences = [Decision(**part).describe() for part in metrics.get("decisions", [])]
    if len(sentences) < 2:
        return sentences
    return [f"Fold {fold}. {sentence}" for fold, sentence in enumerate(sentences)]


def _format_ratio(value: float | None) -> str:
    """Formats a rate or ratio; None is an infinite or undefined number."""
    return "none" if value is None else f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def _format_p(p: float) -> str:
    """Formats a p-value with 3 decimals, or as the bound below which it lies."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.4f}"


def _format_value(value: float, name: str) -> str:
    """Formats a value of the metric ``name``: fractions in per cent, others with 3 decimals."""
    text = f"{100 * value:.1f} %" if name in _PERCENT else f"{value:.3f}"
    return text.replace("-", "−")


def _format_interval(estimate: dict[str, Any], name: str) -> str:
    """Formats the bounds of an estimate of the metric ``name``, without a unit."""
    bounds = (_format_value(estimate[bound], name) for bound in ("low", "high"))
    return "–".join(bound.removesuffix(" %") for bound in bounds)
