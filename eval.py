"""Evaluates a run's chosen checkpoint, or its ensemble, folds or repeats together.

  python eval.py --workdir=runs/quickstart
  python eval.py --workdir=runs/quickstart --split=val
  python eval.py --workdir=runs/quickstart --tta=dihedral
  python eval.py --workdir=runs/quickstart --data_dir=/path/to/other/images
  python eval.py --workdir=runs/quickstart --data_dir=images.csv --positive=tumor

Writes predictions.csv, metrics.json and report.html.
"""

from __future__ import annotations

import se_resnet  # noqa: F401  first: lets Ctrl-C end the imports quietly

# isort: split
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
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from configs import breakhis
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
from se_resnet.metrics.full import across_folds, all_metrics
from se_resnet.metrics.predictions import (
    PREDICTIONS,
    Predictions,
    probability_of,
)
from se_resnet.predict.image_files import PREDICTION
from se_resnet.predict.tiles import check_views, tile_logits
from se_resnet.predict.tta import mean_logits, resize_rules
from se_resnet.report import gallery, provenance
from se_resnet.report.folds import pool_folds
from se_resnet.report.publish import Evaluation, publish
from se_resnet.report.remarks import (
    ensemble_notes,
    leak_warnings,
    magnification_notes,
    other_images_notes,
    view_notes,
)
from se_resnet.report.repeats import publish_repeats
from se_resnet.report.scale_remarks import scale_notes, scale_warnings, training_scale_notes
from se_resnet.runs.ensembles import decide_together, joined_data_facts
from se_resnet.runs.evaluations import EvaluationFolder
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import (
    ALL_FOLDS,
    TEST,
    TRAIN,
    VAL,
    last_evaluation,
    trained_magnifications,
)
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime import processes
from se_resnet.runtime.files import writable_folder
from se_resnet.runtime.log import log
from se_resnet.runtime.mesh import data_mesh
from se_resnet.runtime.paths import local_path
from se_resnet.tracking.metric_log import read_log
from se_resnet.training.config import plain


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
    """Evaluates the chosen checkpoint of a run, its ensemble, or every fold and repeat.

    The test images of all folds are evaluated together, each with the prediction of the network
    that was not trained on it. ROC AUC counts pairs of images within folds. Threshold and
    temperature of a fold are chosen by the validation images of all folds, without those of
    patients that the fold tests (:func:`se_resnet.metrics.decision.decide_left_out`).

    The members of an ensemble predict test images by their mean logit, and each its own validation
    images. Other images are predicted by the mean logit of all networks of an ensemble, a
    cross-validation or repeats.

    Args:
        workdir: folder of the run.
        split: which images: ``test``, ``val`` or ``train`` as in the run's ``split.csv``, or
            ``all``. None means ``test``, or ``val`` for a run without test images, and ``all`` when
            ``data_dir`` is given. A cross-validation and several repeats have ``test`` only, an
            ensemble has ``test`` and ``val``.
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
    with run.logged():
        return _evaluate_run(run, config, split, data_dir, out, tta, attention, prevalence, reading)


def _evaluate_run(
    run: RunFolder,
    config: dict,
    split: str | None,
    data_dir: str | None,
    out: str | Path | None,
    tta: str,
    attention: str,
    prevalence: float | None,
    reading: Reading,
) -> dict[str, Any]:
    """Evaluates a run as :func:`evaluate_run` does, given its configuration."""
    began = time.monotonic()
    split = split or ("all" if data_dir else last_evaluation(config))
    folder = run.evaluation(split, tta, data_dir)
    if out:
        folder = EvaluationFolder(Path(local_path(out, "--out =")))
    writable_folder(folder.path, "give another folder by --out")
    if (folder.path / PREDICTION).exists():
        raise UserError(
            f"{folder.path} holds a prediction of se_resnet.predict, also in {PREDICTIONS}: give "
            "another folder by --out."
        )
    members, target = config["ensemble"]["members"], config["decision"]["target"]
    if config["repeats"] > 1 and not data_dir:
        repeats = run.repeats(config["repeats"])
        _require_role(run, "repeats", split, (TEST,), repeats)
        if prevalence is not None:
            raise UserError(
                "--prevalence changes predictive values, which repeats do not summarise: give the "
                f"run of one repeat, for example --workdir={repeats[0].path}."
            )
        _evaluate_parts(run, repeats, (TEST,), tta, attention)
        _decide(run, target, attention)
        return _published_repeats(run, config, folder, tta, began)
    if config["split"]["fold"] == ALL_FOLDS and not data_dir:
        division = config["split"]
        count = number_of_folds(division["protocol"], division["folds"], division["name"])
        folds = run.folds(count)
        _require_role(run, "a cross-validation", split, (TEST,), folds)
        _evaluate_parts(run, folds, (VAL, TEST), tta, attention)
        _decide(run, target, attention)
        return _published(
            run,
            config,
            folder,
            lambda: _pool_folds(run, folds, config, tta, prevalence),
            began,
        )
    if members > 1 and not data_dir:
        parts = run.members(members)
        _require_role(run, "an ensemble", split, (TEST, VAL), parts)
        _evaluate_parts(run, parts, (split,), tta, attention)
        _decide(run, target, attention)
        if split == VAL:
            return _published(
                run,
                config,
                folder,
                lambda: _pool_folds(run, parts, config, tta, prevalence, VAL),
                began,
            )
    predicted = _predict(run, config, split, data_dir, tta, attention, reading)

    def evaluate() -> Evaluation:
        other = bool(data_dir)
        evaluation = _describe(run, config, split, tta, predicted, prevalence, other)
        if not data_dir:
            return dataclasses.replace(evaluation, run=run)
        # The tables for a journal describe the run's own images.
        return _of_other_images(evaluation, run, data_dir)

    return _published(run, config, folder, evaluate, began, data_dir)


def _published(
    run: RunFolder,
    config: dict,
    folder: EvaluationFolder,
    evaluate: Callable[[], Evaluation],
    began: float,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Lets process 0 evaluate and write; returns the metrics in all processes."""

    def work() -> dict[str, Any]:
        if not processes.is_primary():
            return folder.metrics()
        evaluation = evaluate()
        images = evaluation.images or provenance.count_images(run)
        facts = _provenance(run, config, began, images, evaluation.source, data_dir)
        evaluation.metrics["provenance"] = facts
        publish(folder, evaluation, facts["command"])
        return evaluation.metrics

    return processes.primary_first(work)


def _provenance(
    run: RunFolder,
    config: dict,
    began: float,
    images: int,
    source: ImageSource,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Returns the entry ``provenance`` of ``metrics.json``."""
    default = plain(breakhis.get_config())
    return provenance.describe_evaluation(run, config, default, began, images, source, data_dir)


def _published_repeats(
    run: RunFolder, config: dict, folder: EvaluationFolder, tta: str, began: float
) -> dict[str, Any]:
    """Lets process 0 evaluate the repeats together; returns the metrics in all processes."""

    def work() -> dict[str, Any]:
        if not processes.is_primary():
            return folder.repeats()
        source = ImageSource.from_facts(run.networks()[0].data_facts())
        images = provenance.count_images(run)
        facts = _provenance(run, config, began, images, source)
        return publish_repeats(run, config, tta, folder, facts)

    return processes.primary_first(work)


@dataclasses.dataclass(frozen=True)
class _Predicted:
    """The images of an evaluation and the network's predictions for them.

    Attributes:
        network: the chosen checkpoint of the run.
        dataset: images of the whole image, or of its middle tile.
        records: of the evaluated images, N rows of ``dataset``.
        logits: ``float64 [K, N]``, of malignant by each network.
        rule: rule that resized the images of ``dataset``.
        tiles: number of tiles of each image at the network's scale; empty without a scale.
    """

    network: Run
    dataset: Dataset
    records: Records
    logits: np.ndarray
    rule: str
    tiles: Sequence[int] = ()

    @property
    def probability(self) -> np.ndarray:
        """``float64 [N]``, of malignant: that of the mean logit of all networks."""
        return probability_of(self.logits.mean(axis=0))


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
    network, first = load_best(run.path, attention), run.networks()[0]
    images = f"images of {data_dir}" if data_dir else f"{split} images"
    log("evaluate", f"{run.path}: predicting the {images}")
    scale = network.classifier.scale
    check_views(tta, scale)
    placement, batch_size = config["data"].get("placement", "host"), config["eval_batch_size"]
    rules = resize_rules(tta, network.classifier.resize)
    logits, datasets = [], []
    for rule in rules:
        size = network.classifier.size
        load = functools.partial(run_data.load_again, config, first, data_dir, size, rule, reading)
        dataset = processes.primary_first(load)
        records = run_data.choose(dataset.records, first, split)
        if scale and dataset.most_tiles > 1:
            return _predict_tiles(network, scale, dataset, records, batch_size, tta, rule)
        batches = eval_batches(placement, dataset.images, records.row, batch_size, data_mesh())
        logits.append(mean_logits(network.predict, network.members, batches, tta))
        datasets.append((dataset, records))
    middle = datasets[len(rules) // 2]
    tiles = [1] * len(middle[1]) if scale else []
    return _Predicted(network, *middle, np.mean(logits, axis=0), rules[len(rules) // 2], tiles)


def _predict_tiles(
    network: Run,
    scale: Scale,
    dataset: Dataset,
    records: Records,
    batch_size: int,
    tta: str,
    rule: str,
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
        members = processes.to_local_device(network.members)
        local = dataclasses.replace(network, members=members)
        order: list[int] = []
        tiled = chosen_at_scale(images, records, scale, order)
        by_image = tile_logits(local, tiled, tta, batch_size=batch_size)
        by_row = dict(zip(order, by_image, strict=True))
        rows = [by_row[row] for row in range(len(records))]
        return {
            "logits": [logits.mean(axis=1).tolist() for logits in rows],
            "tiles": [logits.shape[1] for logits in rows],
        }

    found = processes.from_primary(compute)
    logits = np.array(found["logits"]).T
    return _Predicted(network, dataset, records, logits, rule, found["tiles"])


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
    data_facts, networks = joined_data_facts(run), run.networks()
    network, dataset, records = predicted.network, predicted.dataset, predicted.records
    predictions = _with_columns(records.predictions(predicted.probability), predicted)
    log("explain", "where the network looked, for errors and for random correct predictions")
    with ThreadPoolExecutor(2, "explain") as pool:
        explained = _explain(pool, predicted, predictions, config)
        metrics = all_metrics(predictions, [network.decision], config["permutations"], prevalence)
    metrics["audit"] = {
        "protocol": config["split"]["protocol"],
        **data_facts["audit"],
        **run_data.count_seen(records, networks, data_facts["seen_digests"]),
    }
    parts = [member.evaluation(split, tta) for member in networks]
    if len(networks) == 1 or other:
        parts = []
    else:
        metrics["members"] = across_folds([part.metrics() for part in parts])
    notes, warnings = _scale_remarks(networks, config, data_facts, predicted, other)
    leaks = leak_warnings(metrics["audit"], split, config, metrics["decision"], other=other)
    copies = len(dataset.records) - len(records) if split == "all" else 0
    return Evaluation(
        title=f"{run.path.name}: {split} images",
        predictions=predictions,
        metrics=metrics,
        warnings=[*unfinished_warnings(run), *leaks, *warnings],
        config=config,
        split_summary=data_facts["split"],
        training_log=read_log(run.log_path),
        notes=[
            *ensemble_notes(predictions, [network.path.name for network in networks]),
            *view_notes(tta, network.classifier.resize),
            *notes,
            *_magnification_notes(networks, config, predictions, metrics),
        ],
        data_notes=[line.strip() for line in dataset.description.splitlines()],
        data_remarks=[
            *dataset.notes,
            *([f"left out: {copies} copies of images"] if copies else []),
        ],
        source=dataset.source if other else ImageSource.from_facts(data_facts),
        images=len(dataset.records) if other else 0,
        **{name: future.result() for name, future in explained.items()},
        parts=parts,
    )


def _explain(
    pool: ThreadPoolExecutor, predicted: _Predicted, predictions: Predictions, config: dict
) -> dict[str, Future]:
    """Starts to compute gallery and gates in threads."""
    network, dataset, rows = predicted.network, predicted.dataset, predicted.records.row
    members = processes.to_local_device(network.members)
    work: dict[str, Future] = {
        "gallery": pool.submit(
            gallery.make,
            network.predict,
            members,
            dataset.images,
            rows,
            predictions,
            batch_size=config["eval_batch_size"],
            threshold=network.decision.threshold,
            seed=config["seed"],
            # A run with a scale sees a tile, which the gallery shows as it is.
            originals=None if network.classifier.scale else dataset.originals,
            rule=predicted.rule,
        )
    }
    if len(members) == 1:
        work["gates"] = pool.submit(
            attention_gates.describe,
            network.predict,
            members[0],
            dataset.images,
            rows,
            predictions.label,
            batch_size=config["eval_batch_size"],
            seed=config["seed"],
        )
    return work


def _of_other_images(evaluation: Evaluation, run: RunFolder, data_dir: str) -> Evaluation:
    """Adds to the title and the notes that the images are not those of the run."""
    notes = other_images_notes(evaluation.predictions, Path(data_dir).name)
    return dataclasses.replace(
        evaluation,
        title=f"{run.path.name}: other images ({Path(data_dir).name})",
        notes=[*notes, *evaluation.notes],
    )


def _scale_remarks(
    networks: Sequence[RunFolder],
    config: dict,
    data_facts: dict[str, Any],
    predicted: _Predicted,
    other: bool,
) -> tuple[list[str], list[str]]:
    """Returns notes and warnings on the scales of network, training and evaluated images."""
    scale, evaluated = predicted.network.classifier.scale, count_scales(predicted.records)
    if not other:
        return scale_notes(scale, evaluated, predicted.tiles), []
    rows = (row for network in networks for row in network.split())
    trained = count_scales_of_rows({r["file"]: r for r in rows if r["role"] == TRAIN}.values())
    magnifications = trained_magnifications(config, data_facts)
    notes = scale_notes(scale, evaluated, predicted.tiles) if scale else []
    notes += training_scale_notes(magnifications, trained, evaluated)
    return notes, scale_warnings(scale, trained, evaluated)


def _with_columns(predictions: Predictions, predicted: _Predicted) -> Predictions:
    """Adds columns: ``tiles`` of a network with a scale, votes and disagreement of an ensemble."""
    extra = dict(predictions.extra)
    if predicted.tiles:
        extra["tiles"] = np.array([str(count) for count in predicted.tiles])
    if len(predicted.logits) > 1:
        by_member = probability_of(predicted.logits)
        votes = (by_member >= predicted.network.decision.threshold).sum(axis=0)
        extra["malignant_votes"] = votes.astype(str)
        extra["disagreement"] = np.array([f"{value:.6f}" for value in by_member.std(axis=0)])
    return dataclasses.replace(predictions, extra=extra)


def _require_role(
    run: RunFolder, content: str, split: str, roles: Sequence[str], parts: Sequence[RunFolder]
) -> None:
    """Refuses images that the parts of a run cannot be evaluated on together."""
    if split not in roles:
        raise UserError(
            f"--workdir={run.path} holds {content}, evaluated on its own images only as "
            f"--split={' or '.join(roles)}: for --split={split} give one part, for example "
            f"--workdir={parts[0].path}, and for other images --data_dir."
        )


def _decide(run: RunFolder, target: str, attention: str) -> None:
    """Chooses the decision of several networks by their validation images."""
    _evaluate_parts(run, run.networks(), (VAL,), "none", attention)
    processes.primary_first(
        lambda: decide_together(run, target) if processes.is_primary() else None
    )


def _evaluate_parts(
    run: RunFolder, parts: Sequence[RunFolder], splits: Sequence[str], tta: str, attention: str
) -> None:
    """Evaluates the images of these splits in every fold or repeat that lacks the evaluation."""
    last = last_evaluation(run.config())
    if missing := [part for part in parts if not part.evaluation(last).is_finished]:
        raise UserError(
            f"{missing[0].path} is not finished: run train.py on --workdir={run.path} again, which "
            "resumes there."
        )
    for split in splits:
        for part in parts:
            if not part.evaluation(split, tta).is_finished:
                evaluate_run(part.path, split, tta=tta, attention=attention)


def _pool_folds(
    run: RunFolder,
    folds: Sequence[RunFolder],
    config: dict,
    tta: str,
    prevalence: float | None,
    role: str = TEST,
) -> Evaluation:
    """Evaluates the folds together, and adds remarks on scale and magnifications."""
    evaluation = pool_folds(run, folds, config, tta, prevalence, role)
    predictions = evaluation.predictions
    tiles = [int(count) for count in predictions.extra.get("tiles", ()) if count.isdecimal()]
    scale = configured_scale(config["data"])
    notes = [
        *view_notes(tta, config["data"]["resize"]),
        *scale_notes(scale, count_scales(predictions), tiles),
        *evaluation.notes,
        *_magnification_notes(run.networks(), config, predictions, evaluation.metrics),
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
