"""Whether an exported file gives the probabilities of its run, on real images."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.export.network import OUTPUTS
from se_resnet.images.decode import read_image
from se_resnet.images.resize import resize
from se_resnet.metrics.calibration import scale
from se_resnet.metrics.predictions import probability_of
from se_resnet.predict.image_files import find_images
from se_resnet.runs.run_files import TEST
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run
from se_resnet.runtime.files import full_disk_codes
from se_resnet.runtime.paths import SAMPLE_FOLDER

TOLERANCE = 1e-4  # of a probability
BATCHES = (1, 3, 16)
_IMAGES = 16
_RUNNER = Path(__file__).with_name("runtimes.py")


def choose_images(workdir: Path, data_dir: str, given: Path | None) -> tuple[list[Path], str]:
    """Up to 16 images, evenly over all that there are in order of their names.

    Args:
        workdir: folder of the run.
        data_dir: where the run has its images, as its configuration says.
        given: an image or folder to take instead.

    Returns:
        Their paths and what they are: those given, else the run's test images, else, where these
        cannot be reached, the sample that ships.

    Raises:
        UserError: no image is found.
    """
    if given:
        return _spread(find_images(given, "--images")), "given images"
    folder = SAMPLE_FOLDER if data_dir == "sample" else Path(data_dir)
    split = RunFolder(workdir).split(("file", "role"))
    tested = {row["file"] for row in split if row["role"] == TEST}
    if data_dir and os.path.isdir(folder):  # False as well for what can be no path
        own = [path for path in sorted(folder.rglob("*")) if path.name in tested]
        if own:
            return _spread(own), "test images of the run"
    if not SAMPLE_FOLDER.is_dir():
        raise UserError(
            f"neither the run's test images in {data_dir!r} nor the project's sample are here: "
            "give a folder of images by --images."
        )
    return _spread(find_images(SAMPLE_FOLDER, "--images")), "sample images"


def _spread(paths: list[Path]) -> list[Path]:
    places = np.linspace(0, len(paths) - 1, min(_IMAGES, len(paths)))
    return [paths[i] for i in np.unique(places.round().astype(int))]


def read_pixels(paths: list[Path], size: tuple[int, int], rule: str) -> np.ndarray:
    """``uint8 [N, H, W, 3]`` of the network's size.

    Raises:
        UserError: an image cannot be read or resized by this rule.
    """
    images = []
    for path in paths:
        try:
            images.append(resize(read_image(path), size, rule))
        except ValueError as error:
            raise UserError(f"{path} {error}: give other images by --images.") from error
    return np.stack(images)


def compare(kind: str, model: Path, run: Run, pixels: np.ndarray) -> dict[str, Any]:
    """Runs the file in a process that cannot import this project, and compares with the run.

    Args:
        kind: name of the format.
        model: the file, or the folder of a SavedModel.
        run: the run in float32; what it predicts is what :mod:`se_resnet.predict` tells.
        pixels: ``uint8 [N, H, W, 3]``.

    Returns:
        The largest absolute difference of a probability, by output and batch size, and what it was
        measured on.

    Raises:
        UserError: a difference exceeds 1e-4, the file takes images of another size, or it cannot be
            run.
        OSError: the disk that holds the file is full.
    """
    batch = {"image": pixels, "mask": np.ones(len(pixels), bool)}
    probability = probability_of(run.predict(run.variables, [batch]))
    expected = dict(
        zip(OUTPUTS, (probability, scale(probability, run.decision.temperature)), strict=True)
    )
    found = _run_elsewhere(kind, model, pixels)
    worst = 0.0
    for name, reference in expected.items():
        for size in BATCHES:
            result = found[f"{name}/{size}"]
            agrees = result.shape == reference.shape and np.isfinite(result).all()
            worst = max(worst, float(np.abs(result - reference).max()) if agrees else np.inf)
    if found["takes_other_sizes"]:
        raise UserError(
            f"the {kind} file takes images of another size than the network's without an error, "
            "and is not kept: install the versions in constraints.txt, or choose another --format."
        )
    if not worst <= TOLERANCE:
        raise UserError(
            f"the {kind} file gives probabilities that differ by {worst:.2g} from the run's, where "
            f"{TOLERANCE:g} is allowed, and is not kept: install the versions in constraints.txt, "
            "or choose another --format."
        )
    return {
        "max_difference": worst,
        "tolerance": TOLERANCE,
        "images": len(pixels),
        "batch_sizes": list(BATCHES),
    }


def _run_elsewhere(kind: str, model: Path, pixels: np.ndarray) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        images, results = Path(folder, "images.npy"), Path(folder, "results.npz")
        np.save(images, pixels)
        paths = [path.absolute() for path in (model, images, results)]
        command = [sys.executable, "-P", _RUNNER, kind, *paths, *BATCHES]
        ended = subprocess.run(
            [str(argument) for argument in command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            for code in full_disk_codes(ended.stderr):
                raise OSError(code, os.strerror(code))
            last = (ended.stderr.strip().splitlines() or ["no message"])[-1][:300]
            raise UserError(
                f"the {kind} file cannot be run ({last}) and is not kept: install the versions in "
                "constraints.txt, or choose another --format."
            )
        with np.load(results) as found:
            return dict(found)
