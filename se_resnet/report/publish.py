"""Writes the files of an evaluation and prints its headline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from se_resnet.metrics.decision import Decision
from se_resnet.metrics.evaluation import HEADLINE, headline
from se_resnet.metrics.full import at_used_threshold
from se_resnet.metrics.predictions import PREDICTIONS, Predictions
from se_resnet.report.gallery import FILES as GALLERY_FILES
from se_resnet.report.gallery import GALLERY
from se_resnet.report.links import link_back, parent_of, part_addresses
from se_resnet.report.remarks import weights_notes
from se_resnet.report.report import write_report
from se_resnet.report.reporting.folder import FILES as REPORTING_FILES
from se_resnet.report.reporting.folder import PAGE, REPORTING, write_reporting
from se_resnet.runs.evaluations import FILES, REPORT, EvaluationFolder
from se_resnet.runs.image_source import BREAKHIS, ImageSource
from se_resnet.runs.run_files import METRICS
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import atomic_write, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.log import log

# All files that an evaluation may have written, relative to its folder.
ALL_FILES = (*FILES, *(f"{REPORTING}/{name}" for name in REPORTING_FILES), *GALLERY_FILES)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation; see :func:`se_resnet.report.report.write_report`.

    Attributes:
        title: title of the report.
        predictions: predictions of all images.
        metrics: content of ``metrics.json``.
        warnings: limits on the validity of the metrics.
        config: configuration of the run.
        split_summary: images, slides and patients by role and class.
        training_log: lines of ``metrics.jsonl``.
        notes: remarks on the predictions.
        data_notes: remarks on the images.
        data_remarks: further remarks on the images, for the screen only.
        gallery: images with explanations, or None.
        gates: distribution of the attention gates, or None.
        run: the run, whose files fill the tables for a journal; None leaves them out.
        source: data set of the images.
        images: number of images of that data set, if it is not the run's; else 0.
        parts: evaluations of the folds or members, whose reports are linked with this report.
    """

    title: str
    predictions: Predictions
    metrics: dict[str, Any]
    warnings: list[str]
    config: dict[str, Any]
    split_summary: list[dict[str, Any]]
    training_log: list[dict[str, Any]]
    notes: list[str]
    data_notes: list[str]
    gallery: list[dict[str, Any]] | None = None
    gates: dict[str, list[dict[str, Any]]] | None = None
    data_remarks: Sequence[str] = ()
    run: RunFolder | None = None
    source: ImageSource = BREAKHIS
    images: int = 0
    parts: Sequence[EvaluationFolder] = ()


def publish(folder: EvaluationFolder, evaluation: Evaluation, command: str) -> None:
    """Writes ``predictions.csv``, ``metrics.json`` and ``report.html``, and prints the headline.

    ``reporting/`` is written beside them, see :mod:`se_resnet.report.reporting`, and the pictures
    of the gallery at full size. All files replace those of an earlier evaluation at once. The
    reports of the parts get a link to this report.

    Args:
        folder: folder to write to.
        evaluation: the result.
        command: command for the report, which reproduces the evaluation.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    log("report", "writing metrics, plots and the report")
    left_out = {"data_remarks", "run", "images", "parts"}
    names = {field.name for field in dataclasses.fields(Evaluation)} - left_out
    arguments = {name: getattr(evaluation, name) for name in names}
    remedy = "give another folder by --out"
    files = (REPORTING, GALLERY, *FILES)
    with whole_folder(folder.path, files, remedy, lambda: ALL_FILES) as new:
        evaluation.predictions.write_csv(new / PREDICTIONS)
        write_json(new / METRICS, evaluation.metrics)
        if run := evaluation.run:
            write_reporting(
                new / REPORTING,
                run,
                evaluation.metrics,
                evaluation.predictions,
                evaluation=_name(folder.path, run.path),
                notes=evaluation.notes,
            )
            weights = run.networks()[0].weights_facts()
            arguments["notes"] = [*evaluation.notes, *weights_notes(weights)]
        pictures = [picture for group in evaluation.gallery or () for picture in group["pictures"]]
        for picture in pictures:
            if name := picture["full"]:
                with atomic_write(new / name, "wb") as file:
                    file.write(picture["content"])
        write_report(
            new / REPORT,
            command=command,
            reporting=f"{REPORTING}/{PAGE}" if run else "",
            part_links=part_addresses(evaluation.parts, folder.path),
            parent=parent_of(folder.path),
            **arguments,
        )
    link_back(evaluation.parts, folder.path)
    print("\n".join(_summary(evaluation)))
    written = [*reversed(FILES), *([f"{REPORTING}/"] if run else [])]
    if any(picture["full"] for picture in pictures):
        written.append(f"{GALLERY}/")
    print(f"  written to {folder.path}: {', '.join(written)}")
    for remark in evaluation.data_remarks:
        print(f"  {remark}")


def _name(folder: Path, run: Path) -> str:
    """Returns the path of the evaluation from the run, or its name where it lies elsewhere."""
    inside = folder.is_relative_to(run)
    return folder.relative_to(run).as_posix() if inside else folder.name


def _summary(evaluation: Evaluation) -> list[str]:
    """Returns the lines on the screen: counts, headline metrics, warnings."""
    metrics = at_used_threshold(evaluation.metrics)
    counts = metrics["counts"]
    accessions = counts["accessions"]
    lines = [
        f"\n{evaluation.title}: {counts['images']['all']} images of {accessions['all']} patients "
        f"({accessions['benign']} benign, {accessions['malignant']} malignant)"
    ]
    if banner := evaluation.metrics.get("provenance", {}).get("banner"):
        lines.append(f"  {banner}")
    if "at_plain_threshold" in metrics:
        lines.append(f"  at the threshold of the run, {metrics['threshold']:.3f}:")
    for name, estimate in headline(metrics).items():
        of_means = "mean_probability" in HEADLINE[name]
        label = metric_title(name) + (", mean probability" if of_means else "")
        lines.append(f"  {label:<46} {_with_interval(estimate)}")
    for parts in ("folds", "members"):
        for name, across in metrics.get(parts, {}).items():
            if across["sd"] is not None:
                label = f"{metric_title(name)}, mean of {parts}"
                if metrics["threshold"] != 0.5 and "roc_auc" not in name:
                    label += " at 0.5"
                lines.append(f"  {label:<46} {across['mean']:.3f}  (SD {across['sd']:.3f})")
    for part in metrics.get("decisions", [])[:1]:
        lines.append(f"  {Decision(**part).describe()}")
    return [*lines, *(f"  WARNING: {warning}" for warning in evaluation.warnings)]


def metric_title(name: str) -> str:
    """Returns the name of a headline metric as text."""
    return name.replace("_", " ").replace("roc auc", "ROC AUC")


def _with_interval(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return f"undefined: {estimate['reason']}"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}  (no interval: {estimate['reason']})"
    remark = f"; {estimate['remark']}" if "remark" in estimate else ""
    return (
        f"{estimate['value']:.3f}  (95 % interval {estimate['low']:.3f} to "
        f"{estimate['high']:.3f}{remark})"
    )
