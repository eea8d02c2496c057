"""Weights as TensorFlow.js' layers format: a manifest that names other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import numpy as np

from tests.fuzz.mutations import alter, damage
from tests.fuzz.place import SECRET, Place
from tests.fuzz.targets.safetensors import load, tensors


def case(rng: Random, place: Place) -> Callable[[], object]:
    values = {name: value.astype("<f4") for name, value in tensors("keras_old").items()}
    (place.input / "shard1").write_bytes(b"".join(value.tobytes() for value in values.values()))
    weights = [
        {"name": name, "shape": list(np.shape(value)), "dtype": "float32"}
        for name, value in values.items()
    ]
    model = {
        "format": "layers-model",
        "weightsManifest": [{"paths": ["shard1"], "weights": weights}],
    }
    what = rng.random()
    if what < 0.5:
        model = alter(rng, model)
    elif what < 0.7:
        names = ("../elsewhere/" + SECRET, "/etc/passwd", "", ".", "..", "shard1\0", 5, "a" * 300)
        model["weightsManifest"][0]["paths"] = [rng.choice(names)]
    path = place.input / "model.json"
    path.write_text(json.dumps(model))
    if what > 0.7:
        path.write_bytes(damage(rng, path.read_bytes()))
    if what > 0.95:
        path.write_text('{"weightsManifest":' + "[" * 100_000)
    target = rng.choice((path, place.input))
    return lambda: load(target)
