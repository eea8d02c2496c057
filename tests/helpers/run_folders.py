"""The folder of a finished run, written without training: every file, of a tiny network."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np

from configs import smoke
from data import run_data
from data.dataset import Dataset
from data.protocols import audit
from se_resnet.images.scale import Scale
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.full import all_metrics
from se_resnet.metrics.predictions import Predictions
from se_resnet.models.classifier import Classifier
from se_resnet.models.preprocessing import IMAGENET
from se_resnet.models.resnet import create_model
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.run_files import NEAR_DUPLICATES, ROLES, TEST
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime import software
from se_resnet.runtime.files import write_json
from se_resnet.weights import pretrained
from tests.helpers.datasets import make_images, make_records
from tests.helpers.networks import randomised

DECISION = Decision("accuracy", 0.4, 1.2, 0.1, "")


def make_run_folder(folder: Path, scale: Scale | None = None) -> Path:
    """Writes what a run of ``configs/smoke.py`` on generated images leaves in ``folder``.

    The network of a run with a scale has random weights, so that its tiles differ.
    """
    records = make_records(6, 8, images=2, magnifications=(40, 200))
    roles = np.array([ROLES[sum(map(ord, name)) % 3] for name in records.accession])
    config = smoke.get_config()
    if scale:
        config.data.um_per_px, config.data.field = scale.um_per_px, scale.field
    write_json(folder / "config.json", json.loads(config.to_json()))
    dataset = Dataset(make_images(records), records, "f" * 64, "generated", [])
    run_data.save(RunFolder(folder), dataset, roles, near=dict.fromkeys(NEAR_DUPLICATES, 0))
    write_json(folder / "weights.json", pretrained.load("none").facts())
    software.keep(folder / "software.json", step=0)
    lines = [{"step": step, "epoch": float(step), "train/loss": 0.5} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = {"tensorboard": {"run_id": "x", "told": {"train/loss": 2}, "concluded": True}}
    write_json(folder / "trackers.json", state)
    classifier = Classifier(
        create_model(stage_sizes=(1, 1), width=4), IMAGENET, (16, 16), "squash", scale
    )
    variables = (
        randomised(classifier.model)
        if scale
        else jax.tree.map(
            lambda leaf: np.ones(leaf.shape, leaf.dtype), classifier.abstract_variables()
        )
    )
    facts = {**classifier.as_dict(), "decision": dataclasses.asdict(DECISION)}
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save_best(2, variables, facts)
    progress = {"best_score": [0.5, -0.5], "early_stopping": {"best": None, "waited": 0}}
    checkpoints.save_latest(2, variables, progress | {"unlogged": [[0.5, 1.0]]})
    names = ("file", "slide", "accession", "magnification", "subtype", "label")
    tested = records.take(roles == TEST)
    probability = np.linspace(0, 1, len(tested))
    predictions = Predictions(
        **{name: getattr(tested, name) for name in names}, probability=probability
    )
    predictions.write_csv(folder / "eval" / "test" / "predictions.csv")
    results = all_metrics(predictions, [DECISION], permutations=20)
    results["audit"] = {
        "protocol": "strict",
        **audit.count_leaks(records, roles),
        **dict.fromkeys(NEAR_DUPLICATES, 0),
        **run_data.count_seen(tested, [RunFolder(folder)], ()),
    }
    write_json(folder / "eval" / "test" / "metrics.json", results)
    return folder


def make_repeats_folder(folder: Path, count: int = 3) -> Path:
    """Writes what ``count`` repeats with other split seeds leave; their probabilities differ."""
    for number in range(count):
        repeat = make_run_folder(folder / f"repeat{number}")
        config = json.loads((repeat / "config.json").read_text())
        config["split"]["seed"] = number
        write_json(repeat / "config.json", config)
        path = repeat / "eval" / "test" / "predictions.csv"
        predictions = Predictions.read_csv(path)
        probability = np.roll(predictions.probability, number)
        dataclasses.replace(predictions, probability=probability).write_csv(path)
    config = json.loads((folder / "repeat0" / "config.json").read_text())
    write_json(folder / "config.json", {**config, "repeats": count})
    return folder


def make_ensemble_folder(folder: Path, run: Path, members: int = 2) -> Path:
    """Copies a finished run of ``train.py`` as every member of an ensemble."""
    for member in range(members):
        shutil.copytree(run, folder / f"member{member}")
    config = json.loads((run / "config.json").read_text())
    write_json(folder / "config.json", {**config, "ensemble": {"members": members}})
    write_json(folder / "decision.json", dataclasses.asdict(DECISION))
    return folder


def predictions_of(workdir: Path, name: str = "test") -> Predictions:
    """Returns the predictions of an evaluation of a run."""
    return Predictions.read_csv(workdir / "eval" / name / "predictions.csv")


def metrics_of(workdir: Path, name: str = "test") -> dict:
    """Returns the metrics of an evaluation of a run, as the file has them."""
    return json.loads((workdir / "eval" / name / "metrics.json").read_text())
