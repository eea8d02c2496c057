"""Exports a run: writes the file aside, checks it, and only then puts it in its place."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError
from se_resnet.export import parity
from se_resnet.export.formats import FORMATS, Format
from se_resnet.export.network import in_float32, inference
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.predict.inference import NOTICE
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.files import read_json, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.schema import Maybe

METADATA = "metadata.json"
_RESIZING = {
    "squash": "scale each axis on its own, so that the aspect ratio changes",
    "crop": "scale both axes alike until the image covers the size, then cut out the centre",
    "crop_start": "as rule crop, but cut out the upper or left end",
    "crop_end": "as rule crop, but cut out the lower or right end",
    "none": "images have this size already",
}


def export_run(workdir: Path, kind: str, out: Path, images: Path | None = None) -> dict[str, Any]:
    """Writes the best checkpoint of a run as a file for another runtime.

    The file is put into ``out`` only when it gives the run's probabilities on real images.

    Args:
        workdir: folder of the run.
        kind: a key of :data:`se_resnet.export.formats.FORMATS`.
        out: folder for the file and ``metadata.json``; what an earlier export of the same format
            left there is replaced.
        images: an image or folder to check with, see :func:`se_resnet.export.parity.choose_images`.

    Returns:
        What ``metadata.json`` says.

    Raises:
        UserError: no checkpoint, no image, a package or the room to write is missing, ``out`` holds
            an export of another format, the network cannot be written in this format, or the file
            differs from the run.
    """
    form = FORMATS[kind]
    form.demand_packages()
    run = in_float32(load_best(workdir))
    config = RunFolder(workdir).config()
    paths, what = parity.choose_images(workdir, config["data"]["dir"], images)
    pixels = parity.read_pixels(paths, run.classifier.size, run.classifier.resize)
    with whole_folder(
        out,
        (form.file, METADATA),
        "give another folder by --out",
        lambda: _replaced(out, kind, form.file),
    ) as new:
        made = new / form.file
        form.write(inference(run), run.classifier.size, made)
        measured = {**parity.compare(kind, made, run, pixels), "measured_on": what}
        metadata = _describe(kind, form, run, config, workdir, _digests(made), measured)
        write_json(new / METADATA, metadata)
    return metadata


def _replaced(out: Path, kind: str, file: str) -> list[str]:
    """The files of an earlier export of this format, once it is seen that there is no other."""
    if not (out / METADATA).exists():
        if (out / file).exists():
            raise UserError(
                f"--out={out} holds {file} without {METADATA}, which no export leaves: move it, or "
                "give another folder."
            )
        return []
    try:
        told = read_json(out / METADATA, {"format": str, "sha256": Maybe({str: str})})
        files = told.get("sha256", {file: ""})
    except (OSError, ValueError):
        told, files = {"format": "unknown"}, {}
    if told["format"] != kind:
        raise UserError(
            f"--out={out} holds an export of format {told['format']!r}: give another folder for "
            f"{kind!r}."
        )
    return [*files, METADATA]


def _digests(path: Path) -> dict[str, str]:
    """SHA-256 of the file, or of every file of the folder, by their paths beside the metadata."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {
        file.relative_to(path.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def _describe(
    kind: str,
    form: Format,
    run: Run,
    config: dict[str, Any],
    workdir: Path,
    digests: dict[str, str],
    measured: dict[str, Any],
) -> dict[str, Any]:
    classifier, decision = run.classifier, run.decision
    return {
        "notice": NOTICE,
        "format": kind,
        "model": form.file,
        "runtime": form.runtime,
        "sha256": digests,
        "classes": list(CLASS_NAMES),
        "positive_class": CLASS_NAMES[1],
        "input": {
            "name": "images",
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": ["batch", *classifier.size, 3],
            "channels": "RGB",
            "range": [0, 255],
            "preprocessing": "inside the model; give pixels as they are",
            "resize": {
                "rule": classifier.resize,
                "how": _RESIZING[classifier.resize],
                "interpolation": "areas are averaged where an axis shrinks (OpenCV INTER_AREA), "
                "linear where it grows; no antialiasing besides",
            },
        },
        "outputs": {
            "probability": "float32 [batch], of malignant; compare it with the threshold",
            "calibrated_probability": "float32 [batch], after temperature scaling; to be shown",
        },
        "threshold": decision.threshold,
        "threshold_target": decision.target,
        "call": "malignant where probability >= threshold, else benign",
        "temperature": decision.temperature,
        "margin": decision.margin,
        "training": {
            "protocol": config["split"]["protocol"],
            "folds": config["split"]["folds"],
            "fold": config["split"]["fold"],
            "magnifications": config["data"]["magnifications"],
            "pretrained": config["model"]["pretrained"],
            "weights": _origin(workdir),
            "attention": classifier.model.attention,
        },
        "licence": {
            "software": "Apache-2.0",
            "model": "under the terms of the weights it began with (training.weights.licence) and "
            "of its training images (BreaKHis: CC BY 4.0)",
        },
        "parity": measured,
        "versions": {
            package: importlib.metadata.version(_distribution(package))
            for package in ("se-resnet", *form.packages.values())
        },
    }


def _origin(workdir: Path) -> dict[str, str]:
    """Where the weights came from that the run began with; runs of old do not tell."""
    known = RunFolder(workdir).weights_facts() or {}
    return {name: known.get(name, "") for name in ("name", "source", "licence", "sha256")}


def _distribution(package: str) -> str:
    """The name under which a package is installed: on Linux TensorFlow is ``tensorflow-cpu``."""
    if package == "tensorflow":
        return importlib.metadata.packages_distributions()["tensorflow"][0]
    return package
