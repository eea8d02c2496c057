"""Evaluates a run's chosen checkpoint, or the folds or repeats of a run together.

  python eval.py --workdir=runs/quickstart
  python eval.py --workdir=runs/quickstart --split=val
  python eval.py --workdir=runs/quickstart --tta=dihedral
  python eval.py --workdir=runs/quickstart --data_dir=/path/to/other/images
  python eval.py --workdir=runs/quickstart --data_dir=images.csv --positive=tumor

Writes predictions.csv, metrics.json and report.html.
"""

from __future__ import annotations

from absl import flags

from se_resnet.images.resize import TTA
from se_resnet.runtime import launch
from se_resnet.runtime.cli import PATH, define_attention_flag, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _SPLIT = flags.DEFINE_enum(
        "split",
        None,
        ("test", "val", "train", "all"),
        "Which images; default: test, or all with --data_dir.",
    )
    _DATA_DIR = flags.DEFINE(
        PATH, "data_dir", None, "Other images than the run's own: BreaKHis, or a table."
    )
    _POSITIVE = flags.DEFINE_string(
        "positive", "", "Labels of the table --data_dir that mean malignant, between commas."
    )
    _NEGATIVE = flags.DEFINE_string("negative", "", "Labels of that table that mean benign.")
    _PATIENT = flags.DEFINE_string("patient", "", "Column of that table with the patients.")
    _TTA = flags.DEFINE_enum(
        "tta", "none", TTA, "Average over 8 turned and mirrored views, over tiles, or both."
    )
    _ATTENTION = define_attention_flag()
    _PREVALENCE = flags.DEFINE_float(
        "prevalence",
        None,
        "Share of malignant patients where the model is to be used; default: as evaluated.",
    )
    _OUT = flags.DEFINE(PATH, "out", None, "Where to write; default: W/eval/SPLIT.")
    launch.define_flags()
    flags.adopt_module_key_flags(launch)
    parse_flags()

import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import run_data
from data.dataset import Dataset
from data.feed.choose import eval_batches
from data.protocols.roles import number_of_folds
from data.records import Records
from data.scales import chosen_at_scale, count_scales, count_scales_of_rows
from data.table.columns import USUAL, Reading
from se_resnet.errors import UserError
from se_resnet.explain import attention_gates
from se_resnet.images.scale import Scale, configured_scale
from se_resnet.metrics import clinical
from se_resnet.metrics.full import all_metrics
from se_resnet.metrics.predictions import (
    PREDICTIONS,
    Predictions,
    probability_of,
)
from se_resnet.predict.image_files import PREDICTION
from se_resnet.predict.tiles import check_views, tile_logits
from se_resnet.predict.tta import mean_logits, resize_rules
from se_resnet.report import gallery
from se_resnet.report.folds import pool_folds
from se_resnet.report.publish import Evaluation, publish
from se_resnet.report.remarks import (
    leak_warnings,
    magnification_notes,
    other_images_notes,
    view_notes,
)
from se_resnet.report.repeats import publish_repeats
from se_resnet.report.scale_remarks import scale_notes, scale_warnings, training_scale_notes
from se_resnet.runs.evaluations import EvaluationFolder
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import ALL_FOLDS, TRAIN, VAL, trained_magnifications
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime import processes
from se_resnet.runtime.files import writable_folder
from se_resnet.runtime.mesh import data_mesh
from se_resnet.runtime.paths import local_path
from se_resnet.tracking.metric_log import read_log


def evaluate_run(
    workdir: str | Path,
    split: str | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
    tta: str = "none",
    attention: str = "none",
    prevalence: float | None = None,
    reading: Reading = USUAL,
) -> dict[str, Any]:
    """Evaluates the chosen checkpoint of a run, or of every fold and repeat.

    The test images of all folds are evaluated together, each with the prediction of the network
    that was not trained on it. ROC AUC counts pairs of images within folds. Threshold and
    temperature of a fold are chosen by the validation images of all folds, without those of
    patients that the fold tests (:func:`se_resnet.metrics.decision.decide_left_out`).

    Args:
        workdir: folder of the run.
        split: which images: ``test``, ``val`` or ``train`` as in the run's ``split.csv``, or
            ``all``. None means ``test``, and ``all`` when ``data_dir`` is given. A cross-validation
            and several repeats have ``test`` only.
        data_dir: other images than those of the run: a BreaKHis tree or archive, or a table.
        out: where to write; None for ``W/eval/<split>``, or ``W/eval/<folder's name>-<split>`` for
            another ``data_dir``, with ``-<tta>`` appended where views are averaged.
        tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.
        attention: the run's attention module, see :func:`se_resnet.runs.workdir.load_best`.
        prevalence: see :func:`se_resnet.metrics.clinical.describe`.
        reading: labels and patients of the table ``data_dir``.

    Returns:
        The metrics, as in ``metrics.json``: for repeats as
        :func:`se_resnet.report.repeats.publish_repeats` returns them.

    Raises:
        UserError: the run has no checkpoint, the images cannot be found, or the split is empty.
    """
    clinical.check_prevalence(prevalence)
    if reading.is_given and not data_dir:
        raise UserError(
            "--positive, --negative and --patient say how the table of --data_dir is read: give "
            "--data_dir too, or remove them."
        )
    run = RunFolder(local_path(workdir, "--workdir ="))
    config = run.config()
    split = split or ("all" if data_dir else "test")
    folder = run.evaluation(split, tta, data_dir)
    if out:
        folder = EvaluationFolder(Path(local_path(out, "--out =")))
    writable_folder(folder.path, "give another folder by --out")
    if (folder.path / PREDICTION).exists():
        raise UserError(
            f"{folder.path} holds a prediction of se_resnet.predict, also in {PREDICTIONS}: give "
            "another folder by --out."
        )
    if config["repeats"] > 1:
        repeats = run.repeats(config["repeats"])
        if data_dir or split != "test":
            raise UserError(
                f"--workdir={run.path} holds {len(repeats)} repeats, which are evaluated on their "
                "test images only: for others give the run of one repeat, for example "
                f"--workdir={repeats[0].path}."
            )
        if prevalence is not None:
            raise UserError(
                "--prevalence changes predictive values, which repeats do not summarise: give the "
                f"run of one repeat, for example --workdir={repeats[0].path}."
            )
        _evaluate_parts(run, repeats, ("test",), tta, attention)
        return _published_repeats(run, config, folder, tta)
    if config["split"]["fold"] == ALL_FOLDS:
        if data_dir or split != "test":
            raise UserError(
                f"--workdir={run.path} holds a cross-validation, which is evaluated on its test "
                "images only: for others give the run of one fold, for example "
                f"--workdir={run.folds(1)[0].path}."
            )
        division = config["split"]
        count = number_of_folds(division["protocol"], division["folds"], division["name"])
        folds = run.folds(count)
        _evaluate_parts(run, folds, ("val", "test"), tta, attention)
        return _published(folder, lambda: _pool_folds(run, folds, config, tta, prevalence))
    predicted = _predict(run, config, split, data_dir, tta, attention, reading)

    def evaluate() -> Evaluation:
        other = bool(data_dir)
        evaluation = _describe(run, config, split, tta, predicted, prevalence, other)
        if not data_dir:
            source = ImageSource.from_facts(run.data_facts())
            return dataclasses.replace(evaluation, run=run, source=source)
        # The tables for a journal describe the run's own images.
        return _of_other_images(evaluation, run, data_dir)

    return _published(folder, evaluate)


def _published(folder: EvaluationFolder, evaluate: Callable[[], Evaluation]) -> dict[str, Any]:
    """Lets process 0 evaluate and write; returns the metrics in all processes."""

    def work() -> dict[str, Any]:
        if not processes.is_primary():
            return folder.metrics()
        evaluation = evaluate()
        publish(folder, evaluation, shlex.join(["python", *sys.argv]))
        return evaluation.metrics

    return processes.primary_first(work)


def _published_repeats(
    run: RunFolder, config: dict, folder: EvaluationFolder, tta: str
) -> dict[str, Any]:
    """Lets process 0 evaluate the repeats together; returns the metrics in all processes."""

    def work() -> dict[str, Any]:
        if not processes.is_primary():
            return folder.repeats()
        return publish_repeats(run, config, tta, folder, shlex.join(["python", *sys.argv]))

    return processes.primary_first(work)


@dataclasses.dataclass(frozen=True)
class _Predicted:
    """The images of an evaluation and the network's predictions for them.

    Attributes:
        network: the chosen checkpoint of the run.
        dataset: images of the whole image, or of its middle tile.
        records: of the evaluated images, N rows of ``dataset``.
        probability: ``float64 [N]``, of malignant.
        tiles: number of tiles of each image at the network's scale; empty without a scale.
    """

    network: Run
    dataset: Dataset
    records: Records
    probability: np.ndarray
    tiles: Sequence[int] = ()


def _predict(
    run: RunFolder,
    config: dict,
    split: str,
    data_dir: str | None,
    tta: str,
    attention: str,
    reading: Reading,
) -> _Predicted:
    """Runs the network on all processes."""
    network = load_best(run.path, attention)
    scale = network.classifier.scale
    check_views(tta, scale)
    placement, batch_size = config["data"].get("placement", "host"), config["eval_batch_size"]
    rules = resize_rules(tta, network.classifier.resize)
    logits, datasets = [], []
    for rule in rules:
        size = network.classifier.size
        load = functools.partial(run_data.load_again, config, run, data_dir, size, rule, reading)
        dataset = processes.primary_first(load)
        records = run_data.choose(dataset.records, run, split)
        if scale and dataset.most_tiles > 1:
            return _predict_tiles(network, scale, dataset, records, batch_size, tta)
        batches = eval_batches(placement, dataset.images, records.row, batch_size, data_mesh())
        logits.append(mean_logits(network.predict, network.variables, batches, tta))
        datasets.append((dataset, records))
    middle = datasets[len(rules) // 2]
    tiles = [1] * len(middle[1]) if scale else []
    return _Predicted(network, *middle, probability_of(np.mean(logits, axis=0)), tiles)


def _predict_tiles(
    network: Run, scale: Scale, dataset: Dataset, records: Records, batch_size: int, tta: str
) -> _Predicted:
    """Averages the logits of all tiles of each image; process 0 computes them.

    The images are decoded again, one at a time, because the cache holds only middle tiles.
    """
    if dataset.encoded is None:
        raise UserError(
            f"the images have up to {dataset.most_tiles} tiles at the network's scale, and an "
            "image cache holds only the middle tile of each: give the images that the cache was "
            "made from by --data_dir."
        )
    images = dataset.encoded()

    def compute() -> dict[str, list]:
        local = dataclasses.replace(network, variables=processes.to_local_device(network.variables))
        order: list[int] = []
        tiled = chosen_at_scale(images, records, scale, order)
        by_image = tile_logits(local, tiled, tta, batch_size=batch_size)
        by_row = dict(zip(order, by_image, strict=True))
        rows = [by_row[row] for row in range(len(records))]
        return {
            "logits": [float(logits.mean()) for logits in rows],
            "tiles": [len(logits) for logits in rows],
        }

    found = processes.from_primary(compute)
    probability = probability_of(np.array(found["logits"]))
    return _Predicted(network, dataset, records, probability, found["tiles"])


def _describe(
    run: RunFolder,
    config: dict,
    split: str,
    tta: str,
    predicted: _Predicted,
    prevalence: float | None,
    other: bool,
) -> Evaluation:
    """Computes metrics, gallery and gates on process 0."""
    data_facts = run.data_facts()
    network, dataset, records = predicted.network, predicted.dataset, predicted.records
    predictions = _with_tiles(records.predictions(predicted.probability), predicted.tiles)
    metrics = all_metrics(predictions, [network.decision], config["permutations"], prevalence)
    metrics["audit"] = {
        "protocol": config["split"]["protocol"],
        **data_facts["audit"],
        **run_data.count_seen(records, run, data_facts["seen_digests"]),
    }
    notes, warnings = _scale_remarks(run, config, predicted, other)
    leaks = leak_warnings(metrics["audit"], split, config, metrics["decision"], other=other)
    variables = processes.to_local_device(network.variables)
    shown = (network.classifier, variables, dataset.images, records.row)
    seed = config["seed"]
    copies = len(dataset.records) - len(records) if split == "all" else 0
    return Evaluation(
        title=f"{run.path.name}: {split} images",
        predictions=predictions,
        metrics=metrics,
        warnings=[*leaks, *warnings],
        config=config,
        split_summary=data_facts["split"],
        training_log=read_log(run.log_path),
        notes=[
            *view_notes(tta, network.classifier.resize),
            *notes,
            *_magnification_notes([run], config, predictions, metrics),
        ],
        data_notes=[line.strip() for line in dataset.description.splitlines()],
        data_remarks=[
            *dataset.notes,
            *([f"left out: {copies} copies of images"] if copies else []),
        ],
        source=dataset.source,
        gallery=gallery.make(*shown, predictions, threshold=metrics["threshold"], seed=seed),
        gates=attention_gates.describe(*shown, predictions.label, seed=seed),
    )


def _of_other_images(evaluation: Evaluation, run: RunFolder, data_dir: str) -> Evaluation:
    """Adds to the title and the notes that the images are not those of the run."""
    notes = other_images_notes(evaluation.predictions, Path(data_dir).name)
    return dataclasses.replace(
        evaluation,
        title=f"{run.path.name}: other images ({Path(data_dir).name})",
        notes=[*notes, *evaluation.notes],
    )


def _scale_remarks(
    run: RunFolder, config: dict, predicted: _Predicted, other: bool
) -> tuple[list[str], list[str]]:
    """Returns notes and warnings on the scales of network, training and evaluated images."""
    scale, evaluated = predicted.network.classifier.scale, count_scales(predicted.records)
    if not other:
        return scale_notes(scale, evaluated, predicted.tiles), []
    trained = count_scales_of_rows(row for row in run.split() if row["role"] == TRAIN)
    magnifications = trained_magnifications(config, run.data_facts())
    notes = scale_notes(scale, evaluated, predicted.tiles) if scale else []
    notes += training_scale_notes(magnifications, trained, evaluated)
    return notes, scale_warnings(scale, trained, evaluated)


def _with_tiles(predictions: Predictions, tiles: Sequence[int]) -> Predictions:
    """Adds the column ``tiles`` to the predictions of a network with a scale."""
    if not tiles:
        return predictions
    column = np.array([str(count) for count in tiles])
    return dataclasses.replace(predictions, extra={**predictions.extra, "tiles": column})


def _evaluate_parts(
    run: RunFolder, parts: Sequence[RunFolder], splits: Sequence[str], tta: str, attention: str
) -> None:
    """Evaluates the images of these splits in every fold or repeat that lacks the evaluation."""
    if missing := [part for part in parts if not part.evaluation().is_finished]:
        raise UserError(
            f"{missing[0].path} is not finished: run train.py on --workdir={run.path} again, which "
            "resumes there."
        )
    for split in splits:
        for part in parts:
            if not part.evaluation(split, tta).is_finished:
                evaluate_run(part.path, split, tta=tta, attention=attention)


def _pool_folds(
    run: RunFolder, folds: Sequence[RunFolder], config: dict, tta: str, prevalence: float | None
) -> Evaluation:
    """Evaluates the folds together, and adds remarks on scale and magnifications."""
    evaluation = pool_folds(run, folds, config, tta, prevalence)
    predictions = evaluation.predictions
    tiles = [int(count) for count in predictions.extra.get("tiles", ()) if count.isdecimal()]
    scale = configured_scale(config["data"])
    notes = [
        *view_notes(tta, config["data"]["resize"]),
        *scale_notes(scale, count_scales(predictions), tiles),
        *evaluation.notes,
        *_magnification_notes(folds, config, predictions, evaluation.metrics),
    ]
    return dataclasses.replace(evaluation, notes=notes)


def _magnification_notes(
    runs: Sequence[RunFolder], config: dict, predictions: Predictions, metrics: dict[str, Any]
) -> list[str]:
    """Returns notes on magnifications that are new to the networks of these runs."""
    trained, validated = (
        set().union(*(run.magnifications(role) for run in runs)) for role in (TRAIN, VAL)
    )
    evaluated = np.unique(predictions.magnification).tolist()
    return magnification_notes(evaluated, trained, validated, config, metrics["decision"])


def main() -> None:
    """The command."""
    evaluate_run(
        _WORKDIR.value,
        _SPLIT.value,
        _DATA_DIR.value,
        _OUT.value,
        _TTA.value,
        _ATTENTION.value,
        _PREVALENCE.value,
        Reading(_POSITIVE.value, _NEGATIVE.value, _PATIENT.value),
    )


if __name__ == "__main__":
    run_command(main)
