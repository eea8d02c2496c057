"""Writes the folder ``reporting/``: flow, characteristics, checklists and methods of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_resnet.metrics.predictions import Predictions
from se_resnet.report.page import render_page
from se_resnet.report.reporting import characteristics, checklist, flow, methods, model_text
from se_resnet.report.reporting.flow_chart import draw_flow
from se_resnet.report.reporting.study import Study
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.tables import write_table
from se_resnet.runtime.templates import write_text

REPORTING = "reporting"  # name of the folder in that of an evaluation
PAGE = "reporting.html"
FILES = (
    "flow.csv",
    "flow.svg",
    "characteristics.csv",
    *(f"{guideline.name}.csv" for guideline in checklist.GUIDELINES),
    *(f"{guideline.name}.html" for guideline in checklist.GUIDELINES),
    "methods.txt",
    PAGE,  # written last
)


def write_reporting(
    folder: Path,
    run: RunFolder,
    metrics: dict[str, Any],
    predictions: Predictions,
    *,
    evaluation: str = "eval/test",
    notes: Sequence[str] = (),
    report: str = "../report.html",
) -> None:
    """Writes the files of ``FILES`` for an evaluated run or cross-validation.

    The evaluation's own files need not exist yet, so that the folder can be written together with
    them, see :func:`se_resnet.runtime.folders.whole_folder`.

    Args:
        folder: folder to write to, created if missing.
        run: folder of the run.
        metrics: content of ``metrics.json`` of the evaluation.
        predictions: content of ``predictions.csv`` of the evaluation.
        evaluation: path of the evaluation's folder from the run, to name its files in the tables.
        notes: remarks on the predictions, see :func:`se_resnet.report.remarks.view_notes`.
        report: relative address of the evaluation's report, for a link; empty for no link.

    Raises:
        UserError: a file of the run is missing or broken, or the disk is full.
    """
    study = Study.read(run, metrics, predictions, evaluation, notes)
    title = f"{run.path.resolve().name}, {evaluation}"
    diagram = draw_flow(study)
    filled = [(guideline, checklist.fill(guideline, study)) for guideline in checklist.GUIDELINES]
    table = characteristics.lay_out(study)

    folder.mkdir(parents=True, exist_ok=True)
    counts = [count.row() for count in flow.count_flow(study)]
    write_table(folder / "flow.csv", counts, flow.COLUMNS)
    write_text(folder / "flow.svg", diagram)
    rows = characteristics.count_characteristics(study)
    write_table(folder / "characteristics.csv", rows, characteristics.columns(study))
    filters = {"groupby_in_order": _group}
    for guideline, answers in filled:
        write_table(folder / f"{guideline.name}.csv", answers, checklist.COLUMNS)
        page = render_page(
            "checklist.html.j2",
            filters,
            guideline=guideline,
            rows=answers,
            title=title,
        )
        write_text(folder / f"{guideline.name}.html", page)
    write_text(folder / "methods.txt", methods.write_text(study))
    page = render_page(
        "reporting.html.j2",
        filters,
        title=title,
        report=report,
        diagram=diagram,
        cross_validation=study.is_cross_validation,
        table=table,
        source=study.source,
        planned=model_text.balancing(study),
        methods=methods.paragraphs(study),
        references=methods.references(study),
        authors_task=methods.authors_task(),
        checklists=filled,
    )
    write_text(folder / PAGE, page)


def _group(rows: Iterable[Mapping[str, str]], field: str) -> list[dict[str, Any]]:
    """Returns neighbouring rows with the same value of a field as ``name`` and ``rows``."""
    groups: list[dict[str, Any]] = []
    for row in rows:
        if not groups or groups[-1]["name"] != row[field]:
            groups.append({"name": row[field], "rows": []})
        groups[-1]["rows"].append(row)
    return groups
