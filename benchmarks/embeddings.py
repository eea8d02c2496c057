r"""Evaluates features made elsewhere, such as a foundation model's, by the protocols of train.py.

  python -m benchmarks.embeddings --features=X.npy --files=list.csv --workdir=runs/embeddings \
      --like=runs/network
  python -m benchmarks.embeddings --features=X.npy --files=list.csv --workdir=runs/embeddings \
      --config.data.dir=/path/to/BreaKHis_v1 --config.split.fold=all --config.repeats=5
  python -m se_resnet.metrics compare runs/network runs/embeddings

X.npy holds one row of numbers for each image, float16, float32 or float64 [N, D]. The column file
of list.csv names the image of each row: its file name in BreaKHis, or the file column of a table of
images. `python -m benchmarks.pooled_features` makes both files as an example.

--like takes images, division, repeats and target of the threshold from the config.json of a run of
train.py, so that both can be compared. Without it the fields config.data, config.split,
config.decision, config.repeats and config.permutations say the same; other fields have no effect.

The head is a logistic regression on the training images of a fold, the same as those of a network.
Its regularisation is chosen by cross-validation over the patients of these images. Validation
images choose threshold and temperature as for a network, by the left-out rule in a
cross-validation. No test image takes part in a choice. The folder of the results has the files of
a run of train.py: config.json, data.json, split.csv, eval/val and eval/test with predictions.csv,
metrics.json and report.html, fold0, fold1, ... and repeat0, repeat1, ... There is no network in it.
head.json of a fold has the choice of the regularisation.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from benchmarks.config_option import define_config
from se_resnet.runtime import config_flag
from se_resnet.runtime.cli import PATH, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _FEATURES = flags.DEFINE(PATH, "features", None, "The features, *.npy.", required=True)
    _FILES = flags.DEFINE(PATH, "files", None, "Table of the images of the rows.", required=True)
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the results.", required=True)
    _LIKE = flags.DEFINE(PATH, "like", None, "A run of train.py with the images and division.")
    _CONFIG = define_config()
    flags.adopt_module_key_flags(config_flag)
    parse_flags(config=_CONFIG)

import dataclasses
import re
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.feature_table import FeatureTable
from benchmarks.logistic_head import Head, fit_head
from configs import breakhis
from data import run_data
from data.config_check import check_data_config
from data.dataset import load_configured
from data.protocols.roles import SOURCE, number_of_folds
from se_resnet.errors import UserError
from se_resnet.metrics.decision import Decision, decide
from se_resnet.metrics.full import all_metrics
from se_resnet.report import provenance
from se_resnet.report.folds import pool_folds
from se_resnet.report.publish import Evaluation, publish
from se_resnet.report.remarks import leak_warnings
from se_resnet.report.repeats import publish_repeats
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.lock import locked
from se_resnet.runs.run_files import (
    ALL_FOLDS,
    LAST,
    NO_FOLD,
    SPLIT_SEED,
    TEST,
    TRAIN,
    VAL,
    complete,
)
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import flatten
from se_resnet.runtime.files import write_json
from se_resnet.runtime.log import log
from se_resnet.runtime.paths import local_path
from se_resnet.training.config import check_config, fold_configs, plain, repeat_configs

HEAD = "head.json"
# The parts of a configuration that have an effect.
_USED = ("seed", "repeats", "repeat_seeds", "permutations", "data", "split", "decision")
# Fields that every config.json has. There is no network, and nothing is trained in steps.
_UNUSED = {
    "epochs": 0,
    "batch_size": 0,
    "eval_batch_size": 1,
    "checkpoint": {"choose": LAST},
    "model": {"pretrained": "none"},
    "balance": {"method": "none"},
    "optim": {"learning_rate": 0.0},
}
# Fields that may differ from those of results in the same folder, which are written anew.
_FREE = (
    "data.dir",
    "data.cache_dir",
    "data.placement",
    "permutations",
    "split.allow_near_duplicates",
)


def evaluate_features(config: ConfigDict, table: FeatureTable, workdir: str | Path) -> None:
    """Trains and evaluates a logistic head on features, in every fold and repeat.

    Args:
        config: as made by ``configs/breakhis.py``, of which ``data``, ``split``, ``decision``,
            ``repeats`` and ``permutations`` have an effect.
        table: features of all images of ``config.data.dir``, of all magnifications.
        workdir: folder of the results, as of a run of ``train.py`` without a network. Results of
            the same features and configuration are replaced.

    Raises:
        UserError: a value is out of range, images and features do not fit together, or ``workdir``
            holds something else.
    """
    check_config(config)
    if config.split.protocol == SOURCE:
        raise UserError(
            f"config.split.protocol = {SOURCE!r} derives images of its own, which have no "
            "features: choose another protocol."
        )
    if config.split.fold == NO_FOLD:
        raise UserError(
            f"config.split.fold = {NO_FOLD!r} leaves no test image to evaluate: give the number of "
            f"a fold, or {ALL_FOLDS!r}."
        )
    if config.repeats > 1 and config.repeat_seeds != SPLIT_SEED:
        raise UserError(
            f"config.repeat_seeds = {config.repeat_seeds!r} repeats the training of a network, and "
            f"a logistic head has no random weights: set {SPLIT_SEED!r}, or config.repeats = 1."
        )
    config = config.copy_and_resolve_references()
    config.balance.method = "none"
    run = RunFolder(local_path(workdir, "--workdir ="))
    with locked(run):
        check_data_config(config)
        table = table.of(load_configured({**config.data, "magnifications": ()}))
        _claim(run, _facts(config, table))
        _evaluate(config, table, run)


def configuration_of(path: str | Path) -> ConfigDict:
    """Returns a configuration with images, division, repeats and target of a run of ``train.py``.

    Repeats that differ in their training seed only have one division, so that they are no repeats
    here.

    Raises:
        UserError: the folder holds no run, or only its training seeds count up.
    """
    found = RunFolder(path).config()
    if found["repeats"] > 1:
        if SPLIT_SEED not in found["repeat_seeds"] and found["repeat_seeds"] != "both":
            raise UserError(
                f"--like={path} holds {found['repeats']} trainings of one division: give a single "
                f"one, for example --like={RunFolder(path).repeats(1)[0].path}."
            )
        found["repeat_seeds"] = SPLIT_SEED
    config = breakhis.get_config()
    given = {name: value for name, value in flatten(found).items() if name.split(".")[0] in _USED}
    for name, value in given.items():
        *parents, field = name.split(".")
        part = config[parents[0]] if parents else config
        if field in part:
            part[field] = tuple(value) if isinstance(value, list) else value
    return config


def _facts(config: ConfigDict, table: FeatureTable) -> dict[str, Any]:
    """Returns the content of ``config.json``."""
    content = plain(config)
    used = {name: content[name] for name in _USED}
    return {**used, **_UNUSED, "features": table.facts()}


def _claim(run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Refuses a folder with a network, or with results of other features or settings."""
    if not run.config_path.exists():
        return
    found, given = flatten(run.config({})), flatten(complete(dict(facts)))
    for name in sorted({*found, *given} - {*_FREE}):
        if found.get(name) != given.get(name):
            field = name if name.startswith("features.") else f"config.{name[:60]}"
            raise UserError(
                f"--workdir={run.path} holds results with another value of {field}: choose another "
                "--workdir."
            )


def _evaluate(config: ConfigDict, table: FeatureTable, run: RunFolder) -> None:
    began = time.monotonic()
    write_json(run.config_path, _facts(config, table))
    if config.repeats > 1:
        repeats = run.repeats(config.repeats)
        for number, part in enumerate(repeats):
            log("repeat", f"{number}, the {number + 1}. of {len(repeats)}")
            _evaluate(repeat_configs(config)[number], table, part)
        source = ImageSource.from_facts(run.networks()[0].data_facts())
        facts = provenance.describe_evaluation(
            run,
            run.config(),
            _facts(breakhis.get_config(), table),
            began,
            provenance.count_images(run),
            source,
        )
        publish_repeats(run, run.config(), "none", run.evaluation(), facts)
    elif config.split.fold == ALL_FOLDS:
        split = config.split
        folds = run.folds(number_of_folds(split.protocol, split.folds, split.name))
        for number, part in enumerate(folds):
            log("fold", f"{number}, the {number + 1}. of {len(folds)}")
            _evaluate(fold_configs(config, len(folds))[number], table, part)
        pooled = pool_folds(run, folds, run.config(), "none", None)
        notes = [_describe(table), *pooled.notes]
        data_notes = ["Each fold has a head of its own, described in the report of the fold."]
        # The tables for a journal describe a network.
        pooled = dataclasses.replace(pooled, run=None, notes=notes, data_notes=data_notes)
        publish(run.evaluation(), pooled, _command())
    else:
        _evaluate_fold(config, table, run)


def _evaluate_fold(config: ConfigDict, table: FeatureTable, run: RunFolder) -> None:
    """Trains the head of one division, and evaluates its validation and test images."""
    data = run_data.prepare(config, run, lambda images: images)
    run_data.save(run, data.dataset, data.roles, data.near, data.plan)
    records = data.dataset.records
    features = table.values_of(records)
    trained = data.roles == TRAIN
    head = fit_head(records.take(trained), features[trained], config.split.seed)
    log("head", head.describe())
    write_json(run.path / HEAD, head.facts())
    probability = head.probability(features)
    validation = data.validation.predictions(probability[data.roles == VAL])
    decision = decide(validation, config.decision.target)
    for role in (VAL, TEST):
        evaluation = _evaluation(run, data, role, probability, decision, head)
        notes = [_describe(table), *evaluation.notes]
        publish(run.evaluation(role), dataclasses.replace(evaluation, notes=notes), _command())


def _evaluation(
    run: RunFolder,
    data: run_data.RunData,
    role: str,
    probability: np.ndarray,
    decision: Decision,
    head: Head,
) -> Evaluation:
    facts, config = run.data_facts(), run.config()
    chosen = data.roles == role
    records = data.dataset.records.take(chosen)
    predictions = records.predictions(probability[chosen])
    metrics = all_metrics(predictions, [decision], config["permutations"])
    metrics["audit"] = {
        "protocol": config["split"]["protocol"],
        **facts["audit"],
        **run_data.count_seen(records, [run], facts["seen_digests"]),
    }
    return Evaluation(
        title=f"{run.path.name}: {role} images",
        predictions=predictions,
        metrics=metrics,
        warnings=leak_warnings(metrics["audit"], role, config, metrics["decision"]),
        config=config,
        split_summary=facts["split"],
        training_log=[],
        notes=[head.describe()],
        data_notes=[line.strip() for line in data.dataset.description.splitlines()],
        source=data.dataset.source,
    )


def _describe(table: FeatureTable) -> str:
    return (
        f"Predicted from {table.values.shape[1]:,} features of each image, in {table.path.name}, "
        "not by a network of this project."
    )


def _command() -> str:
    return shlex.join(["python", *sys.argv])


def main() -> None:
    """The command."""
    if _LIKE.value:
        if given := next((text for text in sys.argv[1:] if re.match(r"--?config\b", text)), ""):
            raise UserError(
                f"--like takes the configuration from {_LIKE.value}, and {given.split('=')[0]} "
                "sets it too: leave out one of them."
            )
        config = configuration_of(_LIKE.value)
    else:
        config = _CONFIG.value
    table = FeatureTable.read(Path(_FEATURES.value), Path(_FILES.value))
    evaluate_features(config, table, _WORKDIR.value)
    if _LIKE.value:
        print(
            "compare them by\n  python -m se_resnet.metrics compare "
            f"{shlex.quote(_LIKE.value)} {shlex.quote(_WORKDIR.value)}"
        )


if __name__ == "__main__":
    run_command(main)
