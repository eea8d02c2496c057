"""Trees and archives through the whole preparation: TFDS builder, cache, description."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from data.dataset import load_dataset
from tests.fuzz.place import Place
from tests.fuzz.targets import archives, trees
from tests.helpers import image_trees


def case(rng: Random, place: Place) -> Callable[[], object]:
    if rng.random() < 0.6:
        base = place.input / trees.nesting(rng)
        image_trees.make_tree(base, ("SOB_B_A-14-22549AB-40-001.png",))
        trees.make_tree(rng, place, base)
    else:
        archives.case(rng, place)
    options = {
        "size": rng.choice((*[(16, 16)] * 8, (20, 30), (0, 5), (16,), (1, 1))),
        "resize": rng.choice(("squash", "squash", "squash", "crop", "none", "odd")),
        "magnifications": rng.choice((*[(40, 100, 200, 400)] * 6, (200,), (), (7,))),
        "on_bad_image": rng.choice((*["skip"] * 8, "error", "odd")),
        "cache_dir": str(place.work / "cache"),
    }
    return lambda: load_dataset(str(place.input), **options)
