"""Folders of decoded images, which may be copied from machine to machine and opened."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from random import Random

import numpy as np

from data.dataset import load_dataset
from tests.fuzz.mutations import HOSTILE_VALUES, alter, damage
from tests.fuzz.place import Place
from tests.fuzz.targets.splits import damage_table
from tests.helpers.datasets import make_images, make_records

RECORDS = make_records(2, 2, images=2, magnifications=(40, 200))
IMAGES = make_images(RECORDS)


def case(rng: Random, place: Place) -> Callable[[], object]:
    folder = place.input
    facts = {"fingerprint": "f" * 64, "size": [8, 8], "resize": "squash"}
    np.save(folder / "images.npy", IMAGES)
    RECORDS.write_csv(folder / "records.csv")
    (folder / "cache.json").write_text(json.dumps(facts))
    what = rng.random()
    if what < 0.35:
        path = folder / "records.csv"
        path.write_bytes(damage_table(rng, path.read_bytes()))
    elif what < 0.6:
        path = folder / "images.npy"
        path.write_bytes(damage(rng, path.read_bytes()))
    elif what < 0.7:
        _other_arrays(rng, folder / "images.npy")
    elif what < 0.85:
        changed = rng.choice((alter(rng, facts), rng.choice(HOSTILE_VALUES)))
        (folder / "cache.json").write_text(json.dumps(changed))
    elif what < 0.9:
        (folder / "cache.json").write_text("[" * 100_000)
    else:
        path = folder / rng.choice(("images.npy", "records.csv", "cache.json"))
        path.write_bytes(damage(rng, path.read_bytes()))

    def action() -> None:
        dataset = load_dataset(str(folder), size=(8, 8), cache_dir=str(place.work / "cache"))
        np.mean(dataset.images[dataset.records.row])

    return action


def _other_arrays(rng: Random, path) -> None:
    """Arrays of other types and shapes, of objects among them, which only a pickle can hold."""
    kind = rng.choice(("O", "f8", "u2", "U3", "M8[s]", "i1"))
    shape = rng.choice(((len(RECORDS), 8, 8, 3), (1,), (), (0, 8, 8, 3), (len(RECORDS), 8, 8, 4)))
    buffer = io.BytesIO()
    array = np.zeros(shape, "u1").astype(kind)
    if rng.random() < 0.3:
        np.savez(buffer, images=array)
    else:
        np.save(buffer, array, allow_pickle=True)
    path.write_bytes(buffer.getvalue())
