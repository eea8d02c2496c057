"""A model package one of whose files was changed, as Python and a training load it."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import se_resnet
from se_resnet.weights import pretrained
from tests.fuzz.mutations import alter
from tests.fuzz.place import Place
from tests.fuzz.targets.checkpoints import damage_file, replace
from tests.fuzz.targets.workdirs import TEXTS

_ATTENTION = ("flax.linen:Module", "se_resnet.attention:ChannelGate", "flax.linen:Dense", "x:", "")


@functools.cache
def _packaged(run: Path) -> Path:
    """A package of the run, for all cases of this process."""
    return se_resnet.save_pretrained(run, tempfile.mkdtemp(prefix="package-", dir=run.parent))


def case(rng: Random, place: Place) -> Callable[[], object]:
    assert place.run is not None
    package = shutil.copytree(_packaged(place.run), place.input / "package")
    path = package / rng.choice(("config.json", "config.json", "model.safetensors"))
    what = rng.random()
    if what < 0.5 and path.suffix == ".json":
        facts = json.loads(path.read_text())
        if rng.random() < 0.1:
            facts["model"]["attention"] = rng.choice(_ATTENTION)
        path.write_text(json.dumps(alter(rng, facts)))
    elif what < 0.6 and path.suffix == ".json":
        path.write_text(rng.choice(TEXTS))
    elif what < 0.8:
        damage_file(rng, place, path)
    else:
        path.unlink()
        replace(rng, place, path)

    def action() -> None:
        pretrained.load(str(package))
        se_resnet.from_pretrained(package)

    return action
