"""The whole evaluation of a run one of whose files was changed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import eval as evaluation
from tests.fuzz.place import Place
from tests.fuzz.targets.checkpoints import copy_run
from tests.fuzz.targets.workdirs import NAMES, spoil


def case(rng: Random, place: Place) -> Callable[[], object]:
    run = copy_run(place, place.work / "run")
    spoil(rng, place, run, [name for name in NAMES if "/" not in name])
    split = rng.choice((None, "val", "all"))
    return lambda: evaluation.evaluate_run(run, split, out=place.work / "out")
