"""Evaluates a run's best checkpoint on any of its splits, or on any folder of BreaKHis images."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from data import loading, pipeline, protocols
from data.records import Records
from se_resnet import calibration, metrics, selective, training
from se_resnet.cli import run_command
from se_resnet.errors import UserError
from se_resnet.files import writable_folder, write_json
from se_resnet.metric_log import read_log
from se_resnet.metrics import Predictions
from se_resnet.report import write_report
from se_resnet.workdir import load_best, read

USAGE = """Evaluates a run's best checkpoint.

  python eval.py --workdir=runs/quickstart
  python eval.py --workdir=runs/quickstart --split=val
  python eval.py --workdir=runs/quickstart --data_dir=/path/to/other/images

Writes predictions.csv, metrics.json and report.html."""

SPLITS = ("test", "val", "train", "all")


def evaluate_run(
    workdir: str | Path,
    split: str | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluates the best checkpoint of a run.

    Args:
        workdir: folder of the run.
        split: which images: ``test``, ``val`` or ``train`` as the run's ``split.csv`` has them, or
            ``all``. None means ``test``, and ``all`` when ``data_dir`` is given.
        data_dir: other images than the run's own: a BreaKHis tree or archive.
        out: where to write; None for ``W/eval/<split>``, or ``W/eval/<folder's name>-<split>`` for
            another ``data_dir``.

    Returns:
        The metrics, as in ``metrics.json``.

    Raises:
        UserError: the run has no checkpoint, the images cannot be found, or the split is empty.
    """
    workdir = Path(workdir)
    split = split or ("all" if data_dir else "test")
    config = read(workdir / "config.json", ("data", "split", "eval_batch_size"))
    run = read(workdir / "data.json", ("audit", "split", "seen_digests"))
    out = Path(out) if out else workdir / "eval" / _default_name(data_dir, split)
    writable_folder(out, "give another folder by --out")
    best = load_best(workdir)
    mesh = training.data_mesh()

    data = config["data"]
    dataset = loading.load(
        data_dir or data["dir"],
        size=best.classifier.size,
        resize=best.classifier.resize,
        magnifications=tuple(data["magnifications"]),
        on_bad_image=data["on_bad_image"],
        cache_dir=data["cache_dir"],
    )
    records = dataset.records
    roles = protocols.read_roles(workdir / "split.csv", records)
    chosen = records.take(_first_copies(records) if split == "all" else roles == split)
    if not len(chosen):
        raise UserError(
            f"none of these images is in the run's split {split!r}: use --split=all to evaluate "
            "images that the run did not know."
        )
    batches = pipeline.eval_batches(
        dataset.images,
        chosen.row,
        batch_size=config["eval_batch_size"],
        sharding=training.batch_sharding(mesh, config["eval_batch_size"]),
    )
    logits = best.predict(best.variables, batches)
    predictions = _predictions(chosen, metrics.probability_of(logits))
    resamples = config["bootstrap_resamples"]
    results = metrics.evaluate(predictions, resamples=resamples)
    chosen_call = metrics.evaluate(predictions, best.decision.threshold, resamples)
    results["decision"] = dataclasses.asdict(best.decision)
    results["at_chosen_threshold"] = {part: chosen_call[part] for part in ("image", "patient")}
    results["calibration"] = calibration.describe(
        predictions, best.decision.temperature, resamples=resamples
    )
    results["calibration"]["reliability"] = calibration.reliability_curve(
        predictions, resamples=resamples
    )
    results["selective"] = selective.risk_coverage(predictions, resamples)
    results["audit"] = {
        "protocol": config["split"]["protocol"],
        **run["audit"],
        **_seen(chosen, workdir, set(run["seen_digests"])),
    }

    predictions.write_csv(out / "predictions.csv")
    write_json(out / "metrics.json", results)
    warnings = _warnings(results["audit"], split)
    write_report(
        out / "report.html",
        title=f"{workdir.name}: {split} images",
        predictions=predictions,
        metrics=results,
        split_summary=run["split"],
        training_log=read_log(workdir / "metrics.jsonl"),
        config=config,
        command=shlex.join(["python", *sys.argv]),
        warnings=warnings,
        notes=[line for line in dataset.description.splitlines() if line],
    )
    _print_summary(results, split, warnings, out)
    return results


def _default_name(data_dir: str | None, split: str) -> str:
    return f"{Path(data_dir).resolve().name or 'root'}-{split}" if data_dir else split


def _predictions(records: Records, probability: np.ndarray) -> Predictions:
    names = ("file", "slide", "accession", "magnification", "subtype", "label")
    return Predictions(**{name: getattr(records, name) for name in names}, probability=probability)


def _first_copies(records: Records) -> np.ndarray:
    """``int [M]``: one image of each content, so that a copy does not count twice."""
    return np.sort(np.unique(records.digest, return_index=True)[1])


def _seen(chosen: Records, workdir: Path, digests: set[str]) -> dict[str, int]:
    """How many of the evaluated images, by content, and of their patients the run has seen."""
    lines = protocols.read_split(workdir / "split.csv")
    accessions = {line["accession"] for line in lines if line["role"] in protocols.SEEN}
    return {
        "evaluated_images_seen": sum(digest in digests for digest in chosen.digest.tolist()),
        "evaluated_images_of_seen_accessions": sum(
            accession in accessions for accession in chosen.accession.tolist()
        ),
    }


def _warnings(audit: dict[str, Any], split: str) -> list[str]:
    if split == "val":
        return [
            "Checkpoint, threshold and temperature were chosen on these images: the figures "
            "flatter them."
        ]
    warnings = []
    if count := audit["evaluated_images_seen"]:
        warnings.append(f"{count} of the evaluated images were trained on or validated on.")
    if count := audit["evaluated_images_of_seen_accessions"]:
        warnings.append(
            f"{count} of the evaluated images come from patients that were trained on or validated "
            "on: these figures say little about unseen patients."
        )
    return warnings


def _print_summary(results: dict, split: str, warnings: list[str], out: Path) -> None:
    counts = results["counts"]
    print(
        f"\n{split}: {counts['images']['all']} images of {counts['accessions']['all']} patients "
        f"({counts['accessions']['benign']} benign, {counts['accessions']['malignant']} malignant)"
    )
    image, patient = results["image"], results["patient"]
    for name, figure in (
        ("image accuracy", image["accuracy"]),
        ("image balanced accuracy", image["balanced_accuracy"]),
        ("image ROC AUC", image["roc_auc"]),
        ("patient recognition rate", patient["recognition_rate"]),
        ("patient accuracy, mean probability", patient["mean_probability"]["accuracy"]),
        ("patient ROC AUC, mean probability", patient["mean_probability"]["roc_auc"]),
    ):
        print(f"  {name:<36}{_format(figure)}")
    for warning in warnings:
        print(f"  WARNING: {warning}")
    print(f"  written to {out}: report.html, metrics.json, predictions.csv")


def _format(figure: dict) -> str:
    if figure["value"] is None:
        return f"undefined: {figure['reason']}"
    if figure["low"] is None:
        return f"{figure['value']:.3f}  (no interval: {figure['reason']})"
    return f"{figure['value']:.3f}  (95 % interval {figure['low']:.3f} to {figure['high']:.3f})"


def main() -> None:
    """The command."""
    evaluate_run(_WORKDIR.value, _SPLIT.value, _DATA_DIR.value, _OUT.value)


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
    _SPLIT = flags.DEFINE_enum(
        "split", None, SPLITS, "Which images; default: test, or all with --data_dir."
    )
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Other images than the run's own.")
    _OUT = flags.DEFINE_string("out", None, "Where to write; default: W/eval/SPLIT.")
    run_command(main, USAGE)
