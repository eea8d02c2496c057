"""Exports a run: writes the file to a temporary folder, checks it, and moves it into place."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError
from se_resnet.export import parity
from se_resnet.export.formats import FORMATS, Format
from se_resnet.export.network import in_float32, inference
from se_resnet.images.scale import Scale
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.predict.inference import NOTICE
from se_resnet.runs.ensembles import joined_data_facts
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_files import trained_magnifications
from se_resnet.runs.run_folder import INPUT_REFERENCE, RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.files import read_json, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.schema import Maybe
from se_resnet.runtime.version import __version__

METADATA = "metadata.json"
_RESIZING = {
    "squash": "scale each axis separately, so that the aspect ratio changes",
    "crop": "scale both axes alike until the image covers the size, then cut out the centre",
    "crop_start": "as rule crop, but cut out the upper or left end",
    "crop_end": "as rule crop, but cut out the lower or right end",
    "none": "images have this size already",
}


def export_run(
    workdir: Path, kind: str, out: Path, images: Path | None = None, attention: str = "none"
) -> dict[str, Any]:
    """Writes the chosen checkpoint of a run as a file for another runtime.

    The file is moved to ``out`` only if it gives the run's probabilities for real images.

    Args:
        workdir: folder of the run.
        kind: a key of :data:`se_resnet.export.formats.FORMATS`.
        out: folder for the file and ``metadata.json``; an earlier export of the same format is
            replaced.
        images: image or folder for the check, see :func:`se_resnet.export.parity.choose_images`.
        attention: the run's attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.

    Returns:
        The content of ``metadata.json``.

    Raises:
        UserError: there is no checkpoint or image, a package is missing, ``out`` cannot be written
            or holds an export of another format, the format cannot represent the network, or the
            file's probabilities differ from the run's.
    """
    export_format = FORMATS[kind]
    export_format.require_packages()
    run = in_float32(load_best(workdir, attention))
    config = RunFolder(workdir).config()
    paths, measured_on = parity.choose_images(workdir, config["data"]["dir"], images)
    pixels = parity.read_pixels(paths, run.classifier.size, run.classifier.resize)
    with whole_folder(
        out,
        (export_format.file, METADATA),
        "give another folder by --out",
        lambda: _files_to_replace(out, kind, export_format.file),
    ) as new:
        model = new / export_format.file
        export_format.write(inference(run), run.classifier.size, model)
        check = {**parity.compare(kind, model, run, pixels), "measured_on": measured_on}
        metadata = _describe(kind, export_format, run, config, workdir, _digests(model), check)
        write_json(new / METADATA, metadata)
    return metadata


def _files_to_replace(out: Path, kind: str, file: str) -> list[str]:
    """Returns the files of an earlier export of this format, or refuses other exports."""
    if not (out / METADATA).exists():
        if (out / file).exists():
            raise UserError(
                f"--out={out} holds {file} without {METADATA}, so no export wrote it: move it, or "
                "give another folder."
            )
        return []
    try:
        earlier = read_json(out / METADATA, {"format": str, "sha256": Maybe({str: str})})
        files = earlier.get("sha256", {file: ""})
    except (OSError, ValueError):
        earlier, files = {"format": "unknown"}, {}
    if earlier["format"] != kind:
        raise UserError(
            f"--out={out} holds an export of format {earlier['format']!r}: give another folder for "
            f"{kind!r}."
        )
    return [*files, METADATA]


def _digests(path: Path) -> dict[str, str]:
    """Returns the SHA-256 of the file, or of each file in the folder, by relative path."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {
        file.relative_to(path.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def _describe(
    kind: str,
    export_format: Format,
    run: Run,
    config: dict[str, Any],
    workdir: Path,
    digests: dict[str, str],
    check: dict[str, Any],
) -> dict[str, Any]:
    classifier, decision = run.classifier, run.decision
    return {
        "notice": NOTICE,
        "format": kind,
        "model": export_format.file,
        "runtime": export_format.runtime,
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
            "preprocessing": "inside the model; give unchanged pixels",
            "resize": {
                "rule": classifier.resize,
                "how": _RESIZING[classifier.resize],
                "interpolation": "average over areas where an axis shrinks (OpenCV INTER_AREA), "
                "linear where it grows; no further antialiasing",
            },
            **({"scale": _describe_scale(scale)} if (scale := classifier.scale) else {}),
        },
        "outputs": {
            "probability": "float32 [batch], of malignant; to be compared with the threshold",
            "calibrated_probability": "float32 [batch], after temperature scaling; for display",
        },
        "threshold": decision.threshold,
        "threshold_target": decision.target,
        "chosen_by": decision.describe(),
        "call": "malignant where probability >= threshold, else benign",
        "input_gate": _describe_gate(run),
        "temperature": decision.temperature,
        "margin": decision.margin,
        **describe_origin(workdir, config, classifier.model.attention),
        "parity": check,
        "versions": {
            "se-resnet": __version__,
            **{
                package: importlib.metadata.version(_distribution(package))
                for package in export_format.packages.values()
            },
        },
    }


def describe_origin(workdir: Path, config: dict[str, Any], attention: str) -> dict[str, Any]:
    """Returns the parts ``training`` and ``licence`` of the metadata.

    Args:
        workdir: folder of the run.
        config: content of its ``config.json``.
        attention: name of the attention module.
    """
    run = RunFolder(workdir)
    data, networks = joined_data_facts(run), run.networks()
    source = ImageSource.from_facts(data)
    return {
        "training": {
            "protocol": config["split"]["protocol"],
            **{key: value for key in ("name", "repaired") if (value := config["split"][key])},
            "folds": config["split"]["folds"],
            "fold": config["split"]["fold"],
            "images": source.name,
            "magnifications": trained_magnifications(config, data),
            "pretrained": config["model"]["pretrained"],
            "weights": _weights_source(networks[0]),
            "attention": attention,
            **({"members": len(networks)} if len(networks) > 1 else {}),
        },
        "licence": {
            "software": "Apache-2.0",
            "model": "terms of the initial weights (training.weights.licence) and of the training "
            f"images ({_image_licence(source)})",
        },
    }


def _describe_gate(run: Run) -> dict[str, Any]:
    if run.gate is None:
        return {
            "inside_the_model": False,
            "how": "none: the run keeps no reference of its training images",
        }
    return {
        "inside_the_model": False,
        "how": "withhold the call for an image of the network's size with a simple feature outside "
        "these limits (se_resnet.input_gate.features): it does not look like the training images. "
        f"The reference {INPUT_REFERENCE} of the run or its package also compares the "
        "network's pooled features",
        **run.gate.as_metadata(),
    }


def _describe_scale(scale: Scale) -> dict[str, Any]:
    return {
        **scale.as_dict(),
        "how": "resample an image from its own micrometres per pixel to um_per_px, mirror a side "
        "shorter than field, cut tiles of field that cover the image, resize each by the rule; the "
        "probability of an image is that of the mean logit of its tiles",
    }


def _image_licence(source: ImageSource) -> str:
    if source.is_breakhis:
        return "BreaKHis: CC BY 4.0"
    return f"{source.name}: not known, ask the author"


def _weights_source(run: RunFolder) -> dict[str, Any]:
    """Returns source and licence of the initial weights; old runs have not recorded them."""
    weights = run.weights_facts() or {}
    always = ("name", "source", "licence", "sha256")
    restricted = ("licence_url", "non_commercial", "accepted_licence")
    return {name: weights.get(name, "") for name in always} | {
        name: weights[name] for name in restricted if weights.get(name)
    }


def _distribution(package: str) -> str:
    """Returns the name of the distribution: on Linux TensorFlow is ``tensorflow-cpu``."""
    if package == "tensorflow":
        return importlib.metadata.packages_distributions()["tensorflow"][0]
    return package
