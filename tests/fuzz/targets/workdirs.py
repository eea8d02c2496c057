"""The files beside a run's checkpoint, as evaluation, resume and transfer read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from data.protocols.split_file import read_roles
from se_resnet.app import example_images
from se_resnet.metrics.predictions import Predictions
from se_resnet.predict.provenance import read_history
from se_resnet.runs import workdir
from se_resnet.runs.run_files import TRAIN
from se_resnet.runs.run_folder import RunFolder
from se_resnet.tracking import metric_log
from se_resnet.weights import pretrained
from tests.fuzz.mutations import alter
from tests.fuzz.place import Place
from tests.fuzz.targets.checkpoints import copy_run, damage_file
from tests.fuzz.targets.splits import RECORDS, damage_table

NAMES = (
    "config.json",
    "data.json",
    "weights.json",
    "split.csv",
    "metrics.jsonl",
    "trackers.json",
    "eval/test/metrics.json",
    "eval/test/predictions.csv",
)
# What JSON readers take for a value until they use it.
TEXTS = (
    "[" * 100_000,
    '{"a":' * 500 + "1" + "}" * 500,
    "9" * 5000,
    '{"step": 1e999}',
    '{"step": NaN}',
    '{"step": 1, "step": 2}',
    "null",
    "\0" * 50,
)


def case(rng: Random, place: Place) -> Callable[[], object]:
    run = copy_run(place, place.work / "run", evaluated=True)  # claiming it tries to write
    path = spoil(rng, place, run)
    config = json.loads((place.run / "config.json").read_text())

    def action() -> None:
        """Every reader of these files, but none that computes."""
        if path.name == "config.json":
            example_images.find_samples(run, RunFolder(run).config())
            workdir.claim(RunFolder(run), config, free=())
        elif path.name in ("data.json", "metrics.json"):
            read_history(run)
        elif path.name == "trackers.json":
            metric_log._read_state(path)
        elif path.name == "predictions.csv":
            Predictions.read_csv(path)
        elif path.name == "weights.json":
            pretrained.keep_facts(pretrained.load("none"), path, begun=True)
        elif path.name == "split.csv":
            read_roles(path, RECORDS)
            RunFolder(run).patients(TRAIN)
        else:
            metric_log.read_log(path)

    return action


def spoil(rng: Random, place: Place, run: Path, names: Sequence[str] = NAMES) -> Path:
    """Changes one of the run's files of these names; returns its path."""
    path = run / rng.choice(names)
    what = rng.random()
    if what < 0.5 and path.suffix == ".json":
        path.write_text(json.dumps(alter(rng, json.loads(path.read_text()))))
    elif what < 0.6:
        path.write_text(rng.choice(TEXTS))
    elif what < 0.7 and path.suffix == ".csv":
        path.write_bytes(damage_table(rng, path.read_bytes()))
    else:
        damage_file(rng, place, path)
    return path
