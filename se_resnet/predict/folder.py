"""Predicts the images of a folder; writes tables of images and patients, and overlays."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from se_resnet import explain
from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.images.pixels import digest
from se_resnet.images.resize import resize
from se_resnet.predict.image_files import OVERLAYS, PREDICTION, find_images
from se_resnet.predict.inference import BATCH, NOTICE, Prediction, predict
from se_resnet.predict.patients import (
    BREAKHIS_PATIENT,
    check_pattern,
    other_magnifications,
    summarise_patients,
)
from se_resnet.predict.tta import resize_rules
from se_resnet.runs.run_files import used_magnifications
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.csv_dialect import decode_table, table_lines
from se_resnet.runtime.files import atomic_write, read_json, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.tables import write_table
from se_resnet.runtime.walk import PassedOver

_LONGEST_NAME = 255  # bytes, of file systems
# Tables, with the beginning of their headers.
_HEADERS = {
    "patients.csv": ["patient", "images"],
    "predictions.csv": ["file", "patient", "probability"],
}
_HEADER_BYTES = 4096
_FILES = (*_HEADERS, PREDICTION)


def predict_folder(
    workdir: Path,
    source: Path,
    out: Path,
    *,
    overlays: bool = True,
    patient_pattern: str = BREAKHIS_PATIENT,
    tta: str = "none",
    attention: str = "none",
) -> list[Prediction]:
    """Predicts all images, writes the results, and prints a summary with the unusable files.

    Args:
        workdir: folder of the run.
        source: an image or a folder of images.
        out: folder for the results; results of an earlier prediction are replaced all at once.
        overlays: True to write pictures of where the network looked.
        patient_pattern: regular expression that finds the patient, see
            :func:`se_resnet.predict.patients.patient_of`.
        tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.
        attention: attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.

    Raises:
        UserError: there is no checkpoint or no usable image, the pattern is not a regular
            expression with a group, or the output folder cannot be written.
    """
    check_pattern(patient_pattern)
    run = load_best(workdir, attention)
    trained_on = _trained_magnifications(workdir)
    passed_over = PassedOver()
    paths = find_images(source, passed_over=passed_over)
    root = source if source.is_dir() else source.parent
    predictions: list[Prediction] = []
    failures: list[dict[str, str]] = []
    rules = resize_rules(tta, run.classifier.resize)
    digests: dict[str, str] = {}
    with whole_folder(
        out, _FILES, "give another folder by --out", lambda: _files_to_replace(out)
    ) as new:
        for files, tiles, hashed in _batches(run.classifier.size, rules, paths, root, failures):
            digests |= zip(files, hashed, strict=True)
            predictions += predict(run, tiles, files, patient_pattern, tta)
            if overlays:  # show the middle tile
                _write_overlays(run, files, tiles[len(tiles) // 2], new / OVERLAYS)
        if not predictions:
            raise UserError(
                f"none of the {len(failures)} files in {source} can be used: "
                f"{failures[0]['file']} {failures[0]['reason']}."
            )
        patients = summarise_patients(predictions, run.decision.threshold, digests)
        rows = [dataclasses.asdict(prediction) for prediction in predictions]
        other = other_magnifications(digests, trained_on) if trained_on else {}
        write_table(new / "predictions.csv", rows, list(rows[0]))
        if patients:
            write_table(new / "patients.csv", patients, list(patients[0]))
        write_json(
            new / PREDICTION,
            {
                "notice": NOTICE,
                "decision": dataclasses.asdict(run.decision),
                "tta": tta,
                "predictions": rows,
                "patients": patients,
                "failures": failures,
                "not_looked_at": passed_over.as_dict(),
                "trained_magnifications": trained_on,
                "other_magnifications": other,
            },
        )
    notes = [
        run.decision.describe(),
        *_describe_patients(predictions, patients, patient_pattern),
        *_describe_magnifications(other, len(predictions), trained_on),
    ]
    if passed_over:
        notes.append(f"not looked at: {passed_over.describe()}")
    _print_summary(predictions, patients, failures, notes, out)
    return predictions


def _trained_magnifications(workdir: Path) -> list[int]:
    run = RunFolder(workdir)
    try:
        config = run.config({"data": {"magnifications": [int]}})
        return config["data"]["magnifications"] or used_magnifications(config, run.data_facts())
    except UserError:
        return []  # not needed to predict


def _describe_patients(
    predictions: list[Prediction], patients: list[dict[str, Any]], pattern: str
) -> list[str]:
    """Returns lines about images without a patient and about copies."""
    without = sum(not prediction.patient for prediction in predictions)
    if not patients:
        if pattern == BREAKHIS_PATIENT:
            return []
        return [
            f"WARNING: --patient_pattern={pattern!r} matches no file's name or path below --input: "
            "no patients.csv is written"
        ]
    copies = sum(row["copies"] for row in patients)
    return [
        *([f"{without} of the images have no known patient"] if without else []),
        *(
            [f"copies of another image of the same patient, not counted: {copies}"]
            if copies
            else []
        ),
    ]


def _describe_magnifications(other: dict[str, int], total: int, trained_on: list[int]) -> list[str]:
    if not other:
        return []
    counts = ", ".join(f"{name} {count}" for name, count in other.items())
    return [
        f"WARNING: by their names, {sum(other.values())} of {total} images have a magnification "
        f"that the run was not trained on: {counts} (trained on "
        f"{', '.join(f'{magnification}X' for magnification in trained_on)})"
    ]


def _files_to_replace(out: Path) -> list[str]:
    """Returns the files of an earlier prediction in the folder, or refuses other tables."""
    try:
        earlier = read_json(out / PREDICTION, {"predictions": [{"file": str}]})["predictions"]
    except (OSError, ValueError):
        earlier = []
    for name, header in _HEADERS.items():
        if (out / name).is_file() and _header(out / name)[: len(header)] != header:
            raise UserError(
                f"{out / name} is not a table of predictions: give another folder by --out."
            )
    overlays = [f"{OVERLAYS}/{overlay_name(prediction['file'])}" for prediction in earlier]
    return [*_FILES, *overlays]


def _header(table: Path) -> list[str]:
    """Returns the columns of a table, even if a spreadsheet program has saved it again."""
    with table.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    try:
        return next(table_lines(decode_table(start, "replace")), (1, []))[1]
    except ValueError:
        return []


def _batches(
    size: tuple[int, int],
    rules: tuple[str, ...],
    paths: list[Path],
    root: Path,
    failures: list[dict[str, str]],
) -> Iterator[tuple[list[str], np.ndarray, list[str]]]:
    """Yields names, tiles ``[T, B, H, W, 3]`` and digests of the decoded pixels, batch by batch.

    Files that cannot be used are appended to ``failures``.
    """
    files: list[str] = []
    digests: list[str] = []
    images: list[list[np.ndarray]] = []
    for path in paths:
        file = path.relative_to(root).as_posix()
        try:
            image = read_image(path)
            tiles = [resize(image, size, rule) for rule in rules]
        except (ValueError, UserError) as error:
            failures.append({"file": file, "reason": str(error)})
            continue
        files.append(file)
        images.append(tiles)
        digests.append(digest(image))
        if len(files) == BATCH:
            yield files, np.stack(images, axis=1), digests
            files, images, digests = [], [], []
    if files:
        yield files, np.stack(images, axis=1), digests


def _write_overlays(run: Run, files: list[str], images: np.ndarray, folder: Path) -> None:
    heats = explain.grad_cam(run.classifier, run.variables, images)
    for file, image, heat in zip(files, images, heats, strict=True):
        picture = cv2.cvtColor(explain.overlay(image, heat), cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".png", np.hstack([image[..., ::-1], picture]))
        with atomic_write(folder / overlay_name(file), "wb") as target:
            target.write(encoded.tobytes())


def overlay_name(file: str) -> str:
    """Returns the path of an image's overlay below ``overlays``: its name with ``.png`` added.

    A name that is too long for file systems is cut, and a checksum keeps it unique.
    """
    encoded = os.fsencode(Path(file).name)
    if len(encoded) + len(".png") <= _LONGEST_NAME:
        return f"{file}.png"
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return str(Path(file).with_name(f"{os.fsdecode(encoded[:200])}-{digest}.png"))


def _print_summary(
    predictions: list[Prediction],
    patients: list,
    failures: list[dict[str, str]],
    notes: list[str],
    out: Path,
) -> None:
    malignant = sum(prediction.call == "malignant" for prediction in predictions)
    uncertain = sum(prediction.uncertain for prediction in predictions)
    print(
        f"{len(predictions)} images: {malignant} called malignant, {uncertain} flagged as uncertain"
        + (f", {len(patients)} patients" if patients else "")
    )
    for failure in failures:
        print(f"not used: {failure['file']} {failure['reason']}")
    for note in notes:
        print(note)
    print(f"written to {out}\n{NOTICE}")
