"""Compares the probabilities of an exported file with those of its run, on real images."""

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
from se_resnet.runs.ensembles import joined_split
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
    """Chooses up to 16 images, evenly spaced in the order of their names.

    Without ``given``, the run's test images are used, or the project's sample if the test images
    are not available.

    Args:
        workdir: folder of the run.
        data_dir: folder of the run's images in its configuration.
        given: an image or folder to use instead.

    Returns:
        Paths of the images, and a description of their source.

    Raises:
        UserError: no image is found.
    """
    if given:
        return _spread(find_images(given, "--images")), "given images"
    folder = SAMPLE_FOLDER if data_dir == "sample" else Path(data_dir)
    split = joined_split(RunFolder(workdir), ("file", "role"))
    tested = {row["file"] for row in split if row["role"] == TEST}
    if data_dir and os.path.isdir(folder):  # False for an invalid path, too
        paths = [path for path in sorted(folder.rglob("*")) if path.name in tested]
        if paths:
            return _spread(paths), "test images of the run"
    if not SAMPLE_FOLDER.is_dir():
        raise UserError(
            f"neither the run's test images in {data_dir!r} nor the project's sample are "
            "available: give a folder of images by --images."
        )
    return _spread(find_images(SAMPLE_FOLDER, "--images")), "sample images"


def _spread(paths: list[Path]) -> list[Path]:
    positions = np.linspace(0, len(paths) - 1, min(_IMAGES, len(paths)))
    return [paths[i] for i in np.unique(positions.round().astype(int))]


def read_pixels(paths: list[Path], size: tuple[int, int], rule: str) -> np.ndarray:
    """Reads images and resizes them: ``uint8 [N, H, W, 3]``.

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
    """Runs the file in a process that cannot import this project, and compares it with the run.

    Args:
        kind: name of the format.
        model: the file, or the folder of a SavedModel.
        run: the run in float32, which predicts as :mod:`se_resnet.predict` does.
        pixels: ``uint8 [N, H, W, 3]``.

    Returns:
        The largest absolute difference of a probability over outputs and batch sizes, the
        tolerance, the number of images and the batch sizes.

    Raises:
        UserError: a difference exceeds 1e-4, the file accepts images of another size, or the file
            cannot be run.
        OSError: the disk is full.
    """
    batch = {"image": pixels, "mask": np.ones(len(pixels), bool)}
    probability = probability_of(run.predict(run.members, [batch]).mean(axis=0))
    expected = dict(
        zip(OUTPUTS, (probability, scale(probability, run.decision.temperature)), strict=True)
    )
    results = _run_in_process(kind, model, pixels)
    worst = 0.0
    for name, reference in expected.items():
        for size in BATCHES:
            result = results[f"{name}/{size}"]
            agrees = result.shape == reference.shape and np.isfinite(result).all()
            worst = max(worst, float(np.abs(result - reference).max()) if agrees else np.inf)
    if results["takes_other_sizes"]:
        raise UserError(
            f"the {kind} file accepts images of another size than the network's without an "
            "error, and is not kept: install the versions in constraints.txt, or choose another "
            "--format."
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


def _run_in_process(kind: str, model: Path, pixels: np.ndarray) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        images, results = Path(folder, "images.npy"), Path(folder, "results.npz")
        np.save(images, pixels)
        paths = [path.absolute() for path in (model, images, results)]
        command = [sys.executable, "-P", _RUNNER, kind, *paths, *BATCHES]
        process = subprocess.run(
            [str(argument) for argument in command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
        )
        if process.returncode:
            for code in full_disk_codes(process.stderr):
                raise OSError(code, os.strerror(code))
            last = (process.stderr.strip().splitlines() or ["no message"])[-1][:300]
            raise UserError(
                f"the {kind} file cannot be run ({last}) and is not kept: install the versions in "
                "constraints.txt, or choose another --format."
            )
        with np.load(results) as arrays:
            return dict(arrays)
