"""Evaluates a run's best checkpoint, or the folds of a cross-validation together.

  python eval.py --workdir=runs/quickstart
  python eval.py --workdir=runs/quickstart --split=val
  python eval.py --workdir=runs/quickstart --tta=dihedral
  python eval.py --workdir=runs/quickstart --data_dir=/path/to/other/images

Writes predictions.csv, metrics.json and report.html.
"""

from __future__ import annotations

from absl import flags

from se_resnet.images.resize import TTA
from se_resnet.runtime import launch
from se_resnet.runtime.cli import PATH, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _SPLIT = flags.DEFINE_enum(
        "split",
        None,
        ("test", "val", "train", "all"),
        "Which images; default: test, or all with --data_dir.",
    )
    _DATA_DIR = flags.DEFINE(PATH, "data_dir", None, "Other images than the run's own.")
    _TTA = flags.DEFINE_enum(
        "tta", "none", TTA, "Average over 8 turned and mirrored views, over tiles, or both."
    )
    _ATTENTION = flags.DEFINE_string(
        "attention", "none", "The run's own attention module, FILE:CLASS, which is imported."
    )
    _OUT = flags.DEFINE(PATH, "out", None, "Where to write; default: W/eval/SPLIT.")
    launch.define_flags()
    flags.adopt_module_key_flags(launch)
    parse_flags()

import dataclasses
import functools
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import Dataset, load_configured
from data.feed import device
from data.protocols import source_notebook
from data.protocols.roles import SEEN, SOURCE, number_of_folds
from data.protocols.split_file import read_roles
from data.records import Records
from se_resnet import metrics
from se_resnet.errors import UserError
from se_resnet.explain import attention_gates
from se_resnet.images.resize import TILE_RULES
from se_resnet.metrics import calibration, selective
from se_resnet.metrics.decision import Decision, decide
from se_resnet.metrics.predictions import (
    PREDICTIONS,
    Predictions,
    concatenate,
    logit_of,
    probability_of,
)
from se_resnet.predict.image_files import PREDICTION
from se_resnet.predict.tta import mean_logits, resize_rules
from se_resnet.report import gallery
from se_resnet.report.report import write_report
from se_resnet.runs.run_files import (
    METRICS,
    METRICS_FORM,
    SPLIT,
    read,
    read_config,
    read_data,
    read_split,
)
from se_resnet.runs.workdir import fold_folders, load_best
from se_resnet.runtime import processes
from se_resnet.runtime.files import writable_folder, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.mesh import data_mesh, divided, replicated
from se_resnet.runtime.paths import local_path
from se_resnet.tracking.metric_log import read_log
from se_resnet.training.config import ALL_FOLDS, ON_DEVICE

_REPORT = "report.html"
_FILES = (PREDICTIONS, METRICS, _REPORT)


def evaluate_run(
    workdir: str | Path,
    split: str | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
    tta: str = "none",
    attention: str = "none",
) -> dict[str, Any]:
    """Evaluates the best checkpoint of a run, or of every fold of a cross-validation.

    The folds' test images are evaluated together, each as the one network predicted it that did
    not train on it; threshold and temperature are chosen on the validation images of all folds.

    Args:
        workdir: folder of the run.
        split: which images: ``test``, ``val`` or ``train`` as the run's ``split.csv`` has them, or
            ``all``. None means ``test``, and ``all`` when ``data_dir`` is given. A cross-validation
            has ``test`` only.
        data_dir: other images than the run's own: a BreaKHis tree or archive.
        out: where to write; None for ``W/eval/<split>``, or ``W/eval/<folder's name>-<split>`` for
            another ``data_dir``, with ``-<tta>`` appended where views are averaged.
        tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.
        attention: the run's own attention module, see :func:`se_resnet.runs.workdir.load_best`.

    Returns:
        The metrics, as in ``metrics.json``.

    Raises:
        UserError: the run has no checkpoint, the images cannot be found, or the split is empty.
    """
    workdir = Path(local_path(workdir, "--workdir ="))
    config = read_config(workdir)
    split = split or ("all" if data_dir else "test")
    out = Path(local_path(out, "--out =")) if out else _folder(workdir, split, tta, data_dir)
    writable_folder(out, "give another folder by --out")
    if (out / PREDICTION).exists():
        raise UserError(
            f"{out} holds what se_resnet.predict wrote, also in {PREDICTIONS}: give another folder "
            "by --out."
        )
    if config["split"]["fold"] != ALL_FOLDS:
        publish = _evaluate_one(workdir, config, split, data_dir, out, tta, attention)
    elif data_dir or split != "test":
        raise UserError(
            f"--workdir={workdir} holds a cross-validation, which is evaluated on its test images "
            f"only: for others give the run of one fold, for example --workdir={workdir / 'fold0'}."
        )
    else:
        publish = _evaluate_folds(workdir, config, out, tta, attention)
    return processes.primary_first(
        lambda: publish() if processes.is_primary() else read(out / METRICS)
    )


def is_evaluated(workdir: Path, split: str = "test", tta: str = "none") -> bool:
    """Whether a run was evaluated to the end on one of its own splits."""
    return (_folder(workdir, split, tta) / "report.html").exists()


def _evaluate_one(
    workdir: Path,
    config: dict,
    split: str,
    data_dir: str | None,
    out: Path,
    tta: str,
    attention: str,
) -> Callable[[], dict[str, Any]]:
    """Predicts the images; what is returned makes figures and report of that, in one process."""
    run = read_data(workdir)
    best = load_best(workdir, attention)
    logits = []
    rules = resize_rules(tta, best.classifier.resize)
    for rule in rules:
        place = (workdir, config, data_dir, best.classifier.size, rule)
        dataset = processes.primary_first(functools.partial(_load_images, *place))
        chosen = _choose(dataset.records, workdir, split)
        batches = _batches(dataset.images, chosen.row, config)
        logits.append(mean_logits(best.predict, best.variables, batches, tta))
        if rule == rules[len(rules) // 2]:  # the whole image, or its middle tile
            variables = processes.to_own_device(best.variables)
            shown = (best.classifier, variables, dataset.images, chosen.row)
    predictions = _predictions(chosen, probability_of(np.mean(logits, axis=0)))

    def publish() -> dict[str, Any]:
        results = _figures(predictions, best.decision, config["bootstrap_resamples"])
        results["audit"] = {
            "protocol": config["split"]["protocol"],
            **run["audit"],
            **_seen(chosen, workdir, set(run["seen_digests"])),
        }
        _publish(
            out,
            predictions,
            results,
            title=f"{workdir.name}: {split} images",
            warnings=_warnings(results["audit"], split),
            split_summary=run["split"],
            training_log=read_log(workdir / "metrics.jsonl"),
            config=config,
            notes=_describe_views(tta, best.classifier.resize),
            data_notes=[line.strip() for line in dataset.description.splitlines()],
            gallery=gallery.make(
                *shown, predictions, threshold=results["threshold"], seed=config["seed"]
            ),
            gates=attention_gates.describe(*shown, predictions.label, seed=config["seed"]),
        )
        copies = len(dataset.records) - len(chosen) if split == "all" else 0
        for note in (*dataset.notes, *([f"left out: {copies} copies of images"] if copies else [])):
            print(f"  {note}")
        return results

    return publish


def _batches(images: np.ndarray, rows: np.ndarray, config: dict) -> Iterator[dict[str, Any]]:
    """Batches of the images in ``rows``, from where the run keeps its pixels."""
    mesh = data_mesh()
    size, sharding = config["eval_batch_size"], divided(mesh)
    if config["data"].get("placement") == ON_DEVICE:
        placed = processes.put(images[rows], replicated(mesh))
        order = np.arange(len(rows))
        return device.eval_batches(placed, order, batch_size=size, sharding=sharding)
    from data.feed import host  # TensorFlow, which the other placement does not need

    return host.eval_batches(images, rows, batch_size=size, sharding=sharding)


def _load_images(
    workdir: Path, config: dict, data_dir: str | None, size: tuple[int, int], rule: str
) -> Dataset:
    if config["split"]["protocol"] == SOURCE and not data_dir:
        if rule != config["data"]["resize"]:
            raise UserError(
                "protocol 'source' keeps augmented images, of which no tiles can be cut: choose "
                "--tta=none or dihedral."
            )
        return source_notebook.reopen(workdir / SOURCE)
    changed = {"dir": data_dir or config["data"]["dir"], "size": size, "resize": rule}
    return load_configured({**config["data"], **changed})


def _evaluate_folds(
    workdir: Path, config: dict, out: Path, tta: str, attention: str
) -> Callable[[], dict[str, Any]]:
    """Evaluates the folds; what is returned pools what each predicts for its test images."""
    protocol, folds = config["split"]["protocol"], config["split"]["folds"]
    folders = fold_folders(workdir, number_of_folds(protocol, folds))
    if missing := [folder for folder in folders if not is_evaluated(folder)]:
        raise UserError(
            f"{missing[0]} is not finished: run train.py on --workdir={workdir} again, which goes "
            "on from there."
        )
    for split in ("val", "test"):
        for folder in folders:
            if not is_evaluated(folder, split, tta):
                evaluate_run(folder, split, tta=tta, attention=attention)
    return functools.partial(_pool, folders, workdir, config, out, tta)


def _pool(folders: list[Path], workdir: Path, config: dict, out: Path, tta: str) -> dict[str, Any]:
    """Evaluates together what the folds predict for the images that each did not train on."""
    protocol = config["split"]["protocol"]
    pooled = {
        split: [
            Predictions.read_csv(_folder(folder, split, tta) / PREDICTIONS) for folder in folders
        ]
        for split in ("val", "test")
    }
    validation, tested = (concatenate(pooled[split]) for split in ("val", "test"))
    logits = logit_of(np.clip(validation.probability, 1e-12, 1 - 1e-12))
    decision = decide(validation.label, logits, config["decision"]["target"])
    results = _figures(tested, decision, config["bootstrap_resamples"])
    each = [read(_folder(folder, "test", tta) / METRICS, METRICS_FORM) for folder in folders]
    results["folds"] = {
        name: _across([metrics.headline(fold)[name]["value"] for fold in each])
        for name in metrics.HEADLINE
    }
    seen = set[str]()
    for folder, part in zip(folders, pooled["test"], strict=True):
        seen |= _seen_accessions(folder) & set(part.accession.tolist())
    # Images count once for every fold that they leak in, patients once.
    results["audit"] = {
        "protocol": protocol,
        **{
            count: sum(fold["audit"][count] for fold in each)
            for count in each[0]["audit"]
            if count != "protocol"
        },
        "straddling_accessions": len(seen),
        "evaluated_accessions_seen": len(seen),
    }
    write_json(workdir / "decision.json", dataclasses.asdict(decision))
    _publish(
        out,
        tested,
        results,
        title=f"{workdir.name}: test images of {len(folders)} folds",
        warnings=_warnings(results["audit"], "test"),
        split_summary=[
            {**row, "role": f"fold {fold}: {row['role']}"}
            for fold, folder in enumerate(folders)
            for row in read_data(folder)["split"]
        ],
        training_log=[],
        config=config,
        notes=[
            *_describe_views(tta, config["data"]["resize"]),
            "Training curves, gates and pictures of each network are in the reports of the folds, "
            f"for example {_folder(Path(folders[0].name), 'test', tta) / 'report.html'}.",
        ],
        data_notes=[],
    )
    return results


def _across(values: list[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation of one figure over the folds where it is defined."""
    defined = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(defined) if defined else None,
        "sd": statistics.stdev(defined) if len(defined) > 1 else None,
        "values": values,
    }


def _figures(predictions: Predictions, decision: Decision, resamples: int) -> dict[str, Any]:
    """All figures of a set of predictions, at 0.5 and at the threshold chosen on validation."""
    results = metrics.evaluate(predictions, resamples=resamples)
    chosen_call = metrics.evaluate(predictions, decision.threshold, resamples)
    results["decision"] = dataclasses.asdict(decision)
    results["at_chosen_threshold"] = {part: chosen_call[part] for part in ("image", "patient")}
    results["calibration"] = calibration.describe(
        predictions, decision.temperature, resamples=resamples
    )
    results["calibration"]["reliability"] = calibration.reliability_curve(
        predictions, resamples=resamples
    )
    results["selective"] = selective.risk_coverage(predictions, resamples)
    return results


def _publish(
    out: Path,
    predictions: Predictions,
    results: dict[str, Any],
    *,
    title: str,
    warnings: list[str],
    **parts: Any,
) -> None:
    """Writes the files of an evaluation, all at once, and prints the main figures."""
    with whole_folder(out, _FILES, "give another folder by --out", lambda: _FILES) as new:
        predictions.write_csv(new / PREDICTIONS)
        write_json(new / METRICS, results)
        write_report(
            new / _REPORT,
            title=title,
            predictions=predictions,
            metrics=results,
            command=shlex.join(["python", *sys.argv]),
            warnings=warnings,
            **parts,
        )
    _print_summary(results, title, warnings, out)


def _choose(records: Records, workdir: Path, split: str) -> Records:
    """The images of a split of the run, each content once where all are asked for."""
    if split == "all":
        return records.take(records.first_copies())
    chosen = records.take(read_roles(workdir / SPLIT, records) == split)
    if not len(chosen):
        raise UserError(
            f"none of these images is in the run's split {split!r}: use --split=all to evaluate "
            "images that the run did not know."
        )
    return chosen


def _describe_views(tta: str, rule: str) -> list[str]:
    if tta == "none":
        return []
    notes = [f"Every logit is the mean over the views of --tta={tta}."]
    if tta != "dihedral" and rule not in TILE_RULES:
        notes.append(
            f"The network was trained on whole images (config.data.resize = {rule!r}); its tiles "
            "show another scale and aspect ratio than it has learned."
        )
    return notes


def _folder(workdir: Path, split: str, tta: str, data_dir: str | None = None) -> Path:
    """Where an evaluation is written, if not told otherwise."""
    name = f"{Path(data_dir).resolve().name or 'root'}-{split}" if data_dir else split
    return workdir / "eval" / (name if tta == "none" else f"{name}-{tta}")


def _predictions(records: Records, probability: np.ndarray) -> Predictions:
    names = ("file", "slide", "accession", "magnification", "subtype", "label")
    return Predictions(**{name: getattr(records, name) for name in names}, probability=probability)


def _seen(chosen: Records, workdir: Path, digests: set[str]) -> dict[str, int]:
    """How many of the evaluated images, by content, and of their patients the run has seen."""
    accessions = _seen_accessions(workdir)
    return {
        "evaluated_images_seen": sum(digest in digests for digest in chosen.digest.tolist()),
        "evaluated_images_of_seen_accessions": sum(
            accession in accessions for accession in chosen.accession.tolist()
        ),
        "evaluated_accessions_seen": len(accessions & set(chosen.accession.tolist())),
    }


def _seen_accessions(workdir: Path) -> set[str]:
    """The patients that a run has learned from or chosen its checkpoint on."""
    lines = read_split(workdir / SPLIT)
    return {line["accession"] for line in lines if line["role"] in SEEN}


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
            f"{count} of the evaluated images come from {audit['evaluated_accessions_seen']} "
            "patients that were trained on or validated on: these figures say little about unseen "
            "patients."
        )
    if count := audit["synthetic_test_images"]:
        warnings.append(f"{count} of the test images are synthetic: blends, not photographs.")
    return warnings


def _print_summary(results: dict, title: str, warnings: list[str], out: Path) -> None:
    counts = results["counts"]
    print(
        f"\n{title}: {counts['images']['all']} images of {counts['accessions']['all']} patients "
        f"({counts['accessions']['benign']} benign, {counts['accessions']['malignant']} malignant)"
    )
    for name, figure in metrics.headline(results).items():
        of_means = "mean_probability" in metrics.HEADLINE[name]
        spoken = _spoken(name) + (", mean probability" if of_means else "")
        print(f"  {spoken:<41}{_format(figure)}")
    for name, fold in results.get("folds", {}).items():
        if fold["sd"] is not None:
            spoken = f"{_spoken(name)}, mean of folds"
            print(f"  {spoken:<41}{fold['mean']:.3f}  (SD {fold['sd']:.3f})")
    for warning in warnings:
        print(f"  WARNING: {warning}")
    print(f"  written to {out}: report.html, metrics.json, predictions.csv")


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace("roc auc", "ROC AUC")


def _format(figure: dict) -> str:
    if figure["value"] is None:
        return f"undefined: {figure['reason']}"
    if figure["low"] is None:
        return f"{figure['value']:.3f}  (no interval: {figure['reason']})"
    return f"{figure['value']:.3f}  (95 % interval {figure['low']:.3f} to {figure['high']:.3f})"


def main() -> None:
    """The command."""
    evaluate_run(
        _WORKDIR.value,
        _SPLIT.value,
        _DATA_DIR.value,
        _OUT.value,
        _TTA.value,
        _ATTENTION.value,
    )


if __name__ == "__main__":
    run_command(main)
