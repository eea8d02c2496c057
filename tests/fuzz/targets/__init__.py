"""What is fuzzed: ``case(rng, place)`` of each module writes input and returns an action."""

from __future__ import annotations

import importlib
from random import Random
from types import ModuleType

# How many cases of each are run, in relation to the others. Those that start a network are dear.
SHARES = {
    "images": 24,
    "trees": 10,
    "archives": 16,
    "datasets": 2,
    "splits": 10,
    "tables": 6,
    "predictions": 6,
    "caches": 8,
    "configs": 12,
    "safetensors": 14,
    "hdf5": 10,
    "tensorflowjs": 6,
    "checkpoints": 4,
    "workdirs": 6,
    "packages": 4,
    "evaluations": 0.5,
    "folders": 2,
}
NEED_A_RUN = ("checkpoints", "workdirs", "packages", "evaluations", "folders")


def choose(seed: int, number: int, names: tuple[str, ...] = tuple(SHARES)) -> str:
    """The target of a seed's case ``number``."""
    return Random(f"{seed} {number}").choices(names, [SHARES[name] for name in names])[0]


def load(name: str) -> ModuleType:
    """The module of a target, or any module by its full name."""
    return importlib.import_module(name if "." in name else f"{__name__}.{name}")
