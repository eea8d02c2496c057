"""Evaluates the repeats of a run together: a table of the repeats, with links to their reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from se_resnet.metrics.estimates import METHODS
from se_resnet.metrics.seeds import across_repeats
from se_resnet.report.links import link_back, part_addresses
from se_resnet.report.page import render_page
from se_resnet.report.provenance import table_of_provenance
from se_resnet.report.publish import ALL_FILES, metric_title
from se_resnet.report.remarks import leak_warnings, view_notes
from se_resnet.runs.evaluations import REPORT, EvaluationFolder
from se_resnet.runs.run_files import METRICS, REPEAT_SEEDS, TEST
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings
from se_resnet.runtime.files import write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.templates import write_text

THRESHOLD = 0.5
# The effect of another config.split.seed, by protocol. The other protocols have fixed test images.
_DIVISIONS = {
    "strict": "divides the patients anew",
    "random": "divides the images anew",
    "published": "changes the validation images, if the split has no validation set",
}
_FIXED = "changes the validation images only"


def publish_repeats(
    run: RunFolder,
    config: Mapping[str, Any],
    tta: str,
    folder: EvaluationFolder,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes ``metrics.json`` and ``report.html`` of all repeats together, and prints the headline.

    There is no ``predictions.csv``: each repeat keeps its own, and probabilities are not averaged
    over repeats, because the average would be the prediction of an ensemble.

    Args:
        run: folder of the repeats, all evaluated.
        config: content of its ``config.json``.
        tta: test-time augmentation of the evaluations.
        folder: folder to write to.
        provenance: the entry of ``metrics.json``, see :mod:`se_resnet.report.provenance`.

    Returns:
        The content of ``metrics.json``, of the form
        :data:`~se_resnet.runs.run_files.REPEATS_FORM`. ``repeats`` is the result of
        :func:`se_resnet.metrics.seeds.across_repeats`; ``seeds`` has the folder and the seeds of
        each repeat.

    Raises:
        UserError: an evaluation of a repeat is missing or broken, the folder cannot be written, or
            the disk is full.
    """
    repeats = run.repeats(config["repeats"])
    predictions = [repeat.tested(tta) for repeat in repeats]
    metrics = {
        "repeats": across_repeats(predictions, THRESHOLD),
        "seeds": [_seeds(repeat) for repeat in repeats],
        "repeat_seeds": config["repeat_seeds"],
        "protocol": config["split"]["protocol"],
        "fold": config["split"]["fold"],
        "threshold": THRESHOLD,
        "provenance": dict(provenance),
    }
    evaluations = [repeat.evaluation(TEST, tta) for repeat in repeats]
    title = f"{run.path.name}: {len(repeats)} repeats"
    warnings = [*unfinished_warnings(run), *_warnings(evaluations, config)]
    links = part_addresses(evaluations, folder.path)
    rows = [
        {
            "name": seeds["repeat"],
            "link": link,
            "seeds": [seeds["split.seed"], seeds["seed"]],
            "images": len(part),
            "patients": len(set(part.accession.tolist())),
        }
        for seeds, link, part in zip(metrics["seeds"], links, predictions, strict=True)
    ]
    with whole_folder(
        folder.path, (METRICS, REPORT), "give another folder by --out", lambda: ALL_FILES
    ) as new:
        write_json(new / METRICS, metrics)
        html = render_page(
            "repeats.html.j2",
            {"number": _number, "interval": _interval},
            title=title,
            command=provenance["command"],
            banner=provenance["banner"],
            provenance=table_of_provenance(provenance),
            differing=provenance["differs_from_default"],
            config=json.dumps(config, indent=2, default=str),
            warnings=warnings,
            notes=[
                *_seed_notes(config),
                *view_notes(tta, config["data"]["resize"]),
            ],
            metrics=metrics,
            method=METHODS["two-level"],
            titles={name: _capitalised(metric_title(name)) for name in metrics["repeats"]},
            rows=rows,
        )
        write_text(new / REPORT, html)
    link_back(evaluations, folder.path)
    alarms = [f"  WARNING: {warning}" for warning in warnings]
    banner = [f"  {provenance['banner']}"] if provenance["banner"] else []
    print("\n".join([f"\n{title}", *banner, *_summary(metrics["repeats"]), *alarms]))
    print(f"  written to {folder.path}: {REPORT}, {METRICS}")
    return metrics


def _seeds(repeat: RunFolder) -> dict[str, Any]:
    config = repeat.config()
    return {
        "repeat": repeat.path.name,
        "split.seed": config["split"]["seed"],
        "seed": config["seed"],
    }


def _seed_notes(config: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each seed that counts up: the effect of the seed."""
    effects = {
        "split.seed": _DIVISIONS.get(config["split"]["protocol"], _FIXED),
        "seed": "changes the weights of new layers, the order of the images, the augmentation and "
        "SMOTE",
    }
    return [
        f"From repeat to repeat config.{name} counts up by one, which {effects[name]}."
        for name in REPEAT_SEEDS.get(config["repeat_seeds"], ())
    ]


def _warnings(evaluations: Sequence[EvaluationFolder], config: Mapping[str, Any]) -> list[str]:
    """Returns the warnings of the repeats, each with the number of its repeat."""
    return [
        f"Repeat {number}: {warning}"
        for number, metrics in enumerate(evaluation.metrics() for evaluation in evaluations)
        for warning in leak_warnings(metrics["audit"], TEST, config, metrics["decision"])
    ]


def _summary(repeats: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a line on the screen for each metric."""
    return [
        f"  {metric_title(name):<27}mean {_number(row['mean'])}, SD {_number(row['sd'])}, "
        f"95 % interval {_interval(row)}"
        for name, row in repeats.items()
    ]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"none: {row['reason']}"
    remark = f"; {row['remark']}" if "remark" in row else ""
    return f"{_number(row['low'])} to {_number(row['high'])}{remark}"
