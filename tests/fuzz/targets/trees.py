"""Folders that a user may point at: odd nestings, names, links, pipes, permissions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import cv2
import numpy as np

from data.breakhis import decode, image_files
from data.breakhis.filenames import SUBTYPES
from tests.fuzz.mutations import damage
from tests.fuzz.place import SECRET, Place
from tests.fuzz.targets.images import content

_ODD = (
    "a" * 251 + ".png",
    "\udcff\udcfe.png",
    "<img src=x onerror=alert(1)>.png",
    "\"'`;$(touch x).png",
    "line\nbreak.png",
    "\x1b[31mred.png",
    ".hidden.png",
    "CON.png",
    "é" * 100 + ".png",
    "-rf.png",
    "%s%n.png",
    ".png",
)


def case(rng: Random, place: Place) -> Callable[[], object]:
    for _ in range(rng.choice((1, 1, 1, 2))):
        make_tree(rng, place, place.input / nesting(rng))
    target = rng.choice((place.input, place.input, place.input / "missing", place.input / "x/y"))
    return lambda: read_all(target)


def read_all(path: Path) -> None:
    """What the preparation does with a source, images let go one by one."""
    source = image_files.find(path)
    image_files.fingerprint(source)
    image_files.size_bytes(source)
    for item in decode.scan(source, workers=2):
        str(item)


def nesting(rng: Random) -> str:
    """Folders above the class folders."""
    deep = ("", "", "BreaKHis_v1/histology_slides/breast", "a/b", "/".join("d" * 12), "\udcff")
    return rng.choice(deep)


def file_name(rng: Random) -> str:
    """Mostly what BreaKHis would call an image."""
    if rng.random() < 0.2:
        return rng.choice(_ODD)
    letter = rng.choice("BM")
    name = (
        f"SOB_{letter}_{rng.choice(SUBTYPES[letter])}-{rng.randrange(100):02d}-"
        f"{rng.randrange(10**5)}{rng.choice(('', 'A', 'AB'))}-{rng.choice((40, 100, 200, 400))}-"
        f"{rng.randrange(1, 999):03d}.png"
    )
    if rng.random() < 0.2:
        bad = damage(rng, name.encode(), 1).replace(b"/", b"").replace(b"\0", b"")
        name = os.fsdecode(bad[:200]) or "x"
    return name if name not in (".", "..") else "x"


def make_tree(rng: Random, place: Place, base: Path) -> None:
    """Class folders with a few files, some of them no files."""
    for _ in range(rng.randrange(1, 8)):
        name = file_name(rng)
        folder = base / rng.choice(("benign", "malignant", "malignant", "Benign", "other"))
        folder /= rng.choice(("", "SOB", "SOB/x/40X", "deep/" * 20))
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            folder.mkdir(parents=True, exist_ok=True)
            _make(rng, place, folder / name)


def _make(rng: Random, place: Place, path: Path) -> None:
    what = rng.random()
    if os.path.lexists(path):
        return  # a pipe would be waited for, a link written through
    if what < 0.06:
        path.symlink_to(place.elsewhere / SECRET)
    elif what < 0.1:
        path.symlink_to(path)
    elif what < 0.13:
        path.symlink_to(path.parent, target_is_directory=True)
    elif what < 0.16:
        os.mkfifo(path)
    elif what < 0.19:
        path.mkdir()
    elif what < 0.22:
        path.touch()
        os.truncate(path, rng.choice((1, 2**27, 2**33)))  # a hole takes no space
    elif what < 0.6:
        pixels = np.full((20, 30, 3), rng.randrange(256), np.uint8)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    else:
        path.write_bytes(content(rng, ".png"))
