"""The files beside a run's checkpoint, as evaluation, resume and transfer read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import eval as evaluation
from data import protocols
from se_resnet import pretrained, workdir
from se_resnet.metric_log import read_log
from tests.fuzz.mutations import alter
from tests.fuzz.place import Place
from tests.fuzz.targets.checkpoints import copy_run, damage_file
from tests.fuzz.targets.splits import RECORDS, damage_table

NAMES = ("config.json", "data.json", "weights.json", "split.csv", "metrics.jsonl")


def case(rng: Random, place: Place) -> Callable[[], object]:
    run = copy_run(place, place.work / "run")  # claiming it tries to write
    path = spoil(rng, place, run)
    config = json.loads((place.run / "config.json").read_text())

    def action() -> None:
        """Every reader of these files, but none that computes."""
        if path.name == "config.json":
            evaluation.read_config(run)
            workdir.claim(run, config, free=())
        elif path.name == "data.json":
            evaluation.read_data(run)
        elif path.name == "weights.json":
            pretrained.keep_facts(pretrained.load("none"), path, begun=True)
        elif path.name == "split.csv":
            protocols.read_roles(path, RECORDS)
            evaluation._seen_accessions(run)
        else:
            read_log(path)

    return action


def spoil(rng: Random, place: Place, run: Path) -> Path:
    """Changes one of the run's files; returns its path."""
    path = run / rng.choice(NAMES)
    what = rng.random()
    if what < 0.5 and path.suffix == ".json":
        path.write_text(json.dumps(alter(rng, json.loads(path.read_text()))))
    elif what < 0.55:
        path.write_text("[" * 100_000)
    elif what < 0.7 and path.suffix == ".csv":
        path.write_bytes(damage_table(rng, path.read_bytes()))
    else:
        damage_file(rng, place, path)
    return path
