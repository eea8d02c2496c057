"""``predictions.csv``, as the comparison of two runs reads it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from se_resnet.metrics.__main__ import main
from se_resnet.metrics.predictions import Predictions
from tests.fuzz.place import Place
from tests.fuzz.targets.splits import damage_table
from tests.helpers.datasets import make_records

RECORDS = make_records(2, 3, images=2, magnifications=(40,))


def case(rng: Random, place: Place) -> Callable[[], object]:
    paths = [place.input / name for name in ("a.csv", "b.csv")]
    for path in paths:
        probability = np.array([rng.choice((0, 1, rng.random())) for _ in range(len(RECORDS))])
        columns = {name: getattr(RECORDS, name) for name in list(RECORDS.columns())[:6]}
        Predictions(**columns, probability=probability).write_csv(path)
    path = rng.choice(paths)
    path.write_bytes(damage_table(rng, path.read_bytes()))
    out = rng.choice((place.work / "x.json", place.work / "a" / "b.json", place.work / "tmp"))
    arguments = ["compare", *map(str, paths), f"--json={out}"]
    return lambda: main(arguments)
