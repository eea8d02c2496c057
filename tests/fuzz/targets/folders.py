"""Folders of images with any names through the whole of ``predict``, its files and its pictures."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest import mock

import cv2
import numpy as np

from se_resnet.predict import folder as predict_folder_module
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.patients import BREAKHIS_PATIENT
from se_resnet.runs import workdir
from tests.fuzz.place import Place
from tests.fuzz.targets.images import FORMATS, content
from tests.fuzz.targets.trees import file_name

# One network for all cases: its compilation is most of a case's time.
_load = functools.cache(workdir.load_best)


def case(rng: Random, place: Place) -> Callable[[], object]:
    for _ in range(rng.randrange(1, 6)):
        path = place.input / rng.choice(("", "deep/", "\udcff/")) / file_name(rng)
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(rng.randrange(99)).integers(0, 256, (20, 30, 3), np.uint8)
        good = cv2.imencode(".png", pixels)[1].tobytes()
        path.write_bytes(good if rng.random() < 0.7 else content(rng, rng.choice(FORMATS)))
    source = rng.choice((*[place.input] * 8, Path("x" * 300), place.input / "missing.png"))
    patterns = (*[BREAKHIS_PATIENT] * 4, "(x)", "(", "", "(?:)(.*)")
    pattern = rng.choice(patterns)
    assert place.run is not None

    def action() -> None:
        with mock.patch.object(predict_folder_module, "load_best", lambda *_: _load(place.run)):
            predict_folder(
                Path("unused"),
                source,
                place.work / "out",
                overlays=rng.random() < 0.7,
                patient_pattern=pattern,
            )

    return action
