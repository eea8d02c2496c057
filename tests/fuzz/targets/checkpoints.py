"""The checkpoint of a run, damaged, shortened, or with files missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from se_resnet.runs import workdir
from tests.fuzz.mutations import damage
from tests.fuzz.place import SECRET, Place


def case(rng: Random, place: Place) -> Callable[[], object]:
    run = copy_run(place, place.input / "run")
    best = run / "checkpoints" / "best"
    files = sorted(path for path in best.rglob("*") if path.is_file())
    for _ in range(rng.choice((1, 1, 2))):
        damage_file(rng, place, rng.choice(files))
    if rng.random() < 0.1:
        folders = sorted(path for path in best.rglob("*") if path.is_dir())
        shutil.rmtree(rng.choice(folders), ignore_errors=True)
    if rng.random() < 0.05:
        (best / rng.choice(("999", "-1", "x", "999.orbax-checkpoint-tmp-1"))).mkdir()
    return lambda: workdir.load_best(run)


def copy_run(place: Place, to: Path, evaluated: bool = False) -> Path:
    """The shared run, without its training state and, unless ``evaluated``, its evaluations."""
    assert place.run is not None, "the target is one of NEED_A_RUN"
    left_out = ["latest", "tensorboard", *([] if evaluated else ["eval"])]
    return shutil.copytree(place.run, to, ignore=shutil.ignore_patterns(*left_out))


def damage_file(rng: Random, place: Place, path: Path) -> None:
    """Bytes, length, or the file itself."""
    if not path.is_file():  # an earlier damage
        return
    what = rng.random()
    if what < 0.7:
        path.write_bytes(damage(rng, path.read_bytes()))
    elif what < 0.8:
        path.unlink()
    elif what < 0.9:
        path.write_bytes(b"")
    else:
        path.unlink()
        replace(rng, place, path)


def replace(rng: Random, place: Place, path: Path) -> None:
    """Puts something that is no file of ours, or no file at all, in place of a removed one."""
    what = rng.randrange(5)
    if what == 0:
        path.symlink_to(place.elsewhere / SECRET)
    elif what == 1:
        path.mkdir()
    elif what == 2:
        os.mkfifo(path)
    elif what == 3:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/full", "/dev/null", path.name, "missing")))
    else:
        with path.open("wb") as file:
            file.truncate(2 ** rng.choice((25, 31, 40)))
