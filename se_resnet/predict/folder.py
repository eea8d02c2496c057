"""Predicts the images of a folder; writes tables of images and patients, and overlays."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2

from se_resnet.errors import UserError
from se_resnet.images.decode import decode_image
from se_resnet.images.image_location import Location, read_all
from se_resnet.images.pixels import ImageError, digest
from se_resnet.images.scale import Scale, enlargement_problem
from se_resnet.predict.image_files import OVERLAYS, PREDICTION
from se_resnet.predict.inference import NOTICE, Prediction
from se_resnet.predict.inputs import Inputs, find_inputs
from se_resnet.predict.patients import (
    BREAKHIS_PATIENT,
    breakhis_scale,
    check_pattern,
    other_magnifications,
    summarise_patients,
)
from se_resnet.predict.tiles import check_stated_scale, check_views
from se_resnet.predict.views import MAP, OVERLAY, ImagesAtScale, Views, WholeImages
from se_resnet.runs.ensembles import joined_data_facts
from se_resnet.runs.run_files import used_magnifications
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings
from se_resnet.runs.workdir import load_best
from se_resnet.runtime.csv_dialect import decode_table, table_lines
from se_resnet.runtime.files import atomic_write, read_json, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.schema import Maybe
from se_resnet.runtime.tables import write_table
from se_resnet.runtime.walk import PassedOver

_LONGEST_NAME = 255  # bytes, of file systems
# Tables, with the beginning of their headers.
_HEADERS = {
    "patients.csv": ["patient", "images"],
    "predictions.csv": ["file", "patient", "probability"],
}
_HEADER_BYTES = 4096
_SCALE_UNUSED = "the column um_per_px of the table is not used: the run has no scale"
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
    um_per_px: float | None = None,
) -> list[Prediction]:
    """Predicts all images, writes the results, and prints a summary with the unusable files.

    A run with a scale (``config.data.um_per_px``) brings every image to that scale and averages the
    logits of all its tiles.

    Args:
        workdir: folder of the run.
        source: an image, a folder of images, or a table, see
            :func:`se_resnet.predict.inputs.find_inputs`.
        out: folder for the results; results of an earlier prediction are replaced all at once.
        overlays: True to write pictures of where the network looked.
        patient_pattern: regular expression that finds the patient, see
            :func:`se_resnet.predict.patients.patient_of`.
        tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.
        attention: attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.
        um_per_px: scale of all images in micrometres per pixel, for a run with a scale. None takes
            the scale of BreaKHis' images from their names.

    Raises:
        UserError: there is no checkpoint or no usable image, the pattern is not a regular
            expression with a group, the output folder cannot be written, or the scale of an image
            is not known but needed.
    """
    check_pattern(patient_pattern)
    run = load_best(workdir, attention)
    scale = run.classifier.scale
    check_views(tta, scale)
    check_stated_scale(um_per_px, scale, "--um_per_px")
    trained_on = _trained_magnifications(workdir)
    warnings = unfinished_warnings(RunFolder(workdir))
    passed_over = PassedOver()
    inputs = find_inputs(source, patient_pattern, passed_over)
    predictions: list[Prediction] = []
    failures: list[dict[str, str]] = []
    digests: dict[str, str] = {}
    views: Views = WholeImages(run, tta, inputs.patients)
    scales: dict[str, float] = {}
    if scale:
        scales = _scales(inputs, um_per_px, scale)
        views = ImagesAtScale(run, scale, tta, inputs.patients, scales)
    with whole_folder(
        out, _FILES, "give another folder by --out", lambda: _files_to_replace(out)
    ) as new:
        for files, prepared, hashed in _batches(views, inputs.locations, failures):
            digests |= zip(files, hashed, strict=True)
            predictions += views.predict(files, prepared)
            if overlays:
                _write_pictures(views, new / OVERLAYS)
        if not predictions:
            raise UserError(
                f"none of the {len(failures)} files in {source} can be used: "
                f"{failures[0]['file']} {failures[0]['reason']}."
            )
        patients = summarise_patients(predictions, run.decision.threshold, digests)
        rows = [prediction.as_row() for prediction in predictions]
        other = other_magnifications(digests, trained_on) if trained_on else {}
        write_table(new / "predictions.csv", rows, list(rows[0]))
        if patients:
            write_table(new / "patients.csv", patients, list(patients[0]))
        write_json(
            new / PREDICTION,
            {
                "notice": NOTICE,
                "decision": dataclasses.asdict(run.decision),
                **({"members": len(run.members)} if len(run.members) > 1 else {}),
                "tta": tta,
                **({"scale": scale.as_dict()} if scale else {}),
                "predictions": rows,
                "patients": patients,
                "failures": failures,
                "not_looked_at": passed_over.as_dict(),
                "trained_magnifications": trained_on,
                "other_magnifications": other,
                "warnings": warnings,
            },
        )
    notes = [
        *(f"WARNING: {warning}" for warning in warnings),
        *_describe_votes(predictions, len(run.members)),
        run.decision.describe(),
        *_describe_patients(predictions, patients, patient_pattern, inputs.is_table),
        *([] if scale else _describe_magnifications(other, len(predictions), trained_on)),
        *(_describe_scale(scale, predictions, inputs, um_per_px) if scale else []),
        *([_SCALE_UNUSED] if inputs.um_per_px and not scale else []),
    ]
    if passed_over:
        notes.append(f"not looked at: {passed_over.describe()}")
    _print_summary(predictions, patients, failures, notes, out)
    return predictions


def _trained_magnifications(workdir: Path) -> list[int]:
    run = RunFolder(workdir)
    try:
        config = run.config(
            {
                "data": {"magnifications": [int]},
                "split": Maybe({"train_magnifications": Maybe([int])}),
            }
        )
        return (
            config["split"]["train_magnifications"]
            or config["data"]["magnifications"]
            or used_magnifications(config, joined_data_facts(run))
        )
    except UserError:
        return []  # not needed to predict


def _describe_votes(predictions: list[Prediction], members: int) -> list[str]:
    """Returns a line about the members of an ensemble."""
    if members == 1:
        return []
    agreed = sum(prediction.malignant_votes in (0, members) for prediction in predictions)
    return [
        f"mean logit of {members} networks, which all make the same call for {agreed} of "
        f"{len(predictions)} images; the other images are uncertain"
    ]


def _describe_patients(
    predictions: list[Prediction],
    patients: list[dict[str, Any]],
    pattern: str,
    is_table: bool,
) -> list[str]:
    """Returns lines about images without a patient and about copies."""
    without = sum(not prediction.patient for prediction in predictions)
    if not patients and is_table:
        return ["the table names no patients (column patient): no patients.csv is written"]
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


def _scales(inputs: Inputs, stated: float | None, scale: Scale) -> dict[str, float]:
    """Returns the scale of each image in micrometres per pixel, before an image is read."""
    files = list(inputs.locations)
    if stated is not None and inputs.um_per_px:
        raise UserError(
            "--um_per_px and the column um_per_px of the table both state the scale of the images: "
            "leave one of them out."
        )
    if stated is not None:
        if problem := enlargement_problem(stated, scale):
            raise UserError(f"--um_per_px={stated:g} cannot be used: {problem}.")
        return dict.fromkeys(files, stated)
    known = {file: inputs.um_per_px.get(file) or breakhis_scale(file) for file in files}
    if unknown := [file for file in files if known[file] is None]:
        raise UserError(
            f"the scale of {len(unknown)} of {len(files)} images is not known, for example of "
            f"{unknown[0]}, and the run needs it ({scale.describe()}): give the micrometres per "
            "pixel of the images by --um_per_px, or by the column um_per_px of a table."
        )
    return {file: value for file, value in known.items() if value is not None}


def _describe_scale(
    scale: Scale, predictions: list[Prediction], inputs: Inputs, stated: float | None
) -> list[str]:
    """Returns lines about the scales of the images, and their tiles."""
    counts = Counter(prediction.um_per_px for prediction in predictions)
    in_table = sum(prediction.file in inputs.um_per_px for prediction in predictions)
    sources = [
        *(["--um_per_px"] if stated is not None else []),
        *(["the table"] if in_table else []),
        *(["BreaKHis names"] if stated is None and in_table < len(predictions) else []),
    ]
    source = f"by {' and '.join(sources)}"
    listed = ", ".join(f"{value:g} ({count})" for value, count in sorted(counts.items()))
    tiles = [prediction.tiles or 0 for prediction in predictions]
    most = f", at most {max(tiles):,} of an image" if max(tiles) > 1 else ""
    lines = [
        f"scale of the network: {scale.describe()}",
        f"scale of the images in µm per pixel, {source}: {listed}; {sum(tiles):,} tiles{most}",
    ]
    named = [breakhis_scale(prediction.file) for prediction in predictions]
    if others := sum(value not in (None, stated) for value in named if stated is not None):
        lines.append(
            f"WARNING: by their BreaKHis names, {others} of {len(named)} images have another scale"
        )
    return lines


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
    overlays = [
        f"{OVERLAYS}/{overlay_name(prediction['file'], ending)}"
        for prediction in earlier
        for ending in (OVERLAY, MAP)
    ]
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
    views: Views, locations: Mapping[str, Location], failures: list[dict[str, str]]
) -> Iterator[tuple[list[str], list[Any], list[str]]]:
    """Yields names, prepared images and digests of the decoded pixels, batch by batch.

    Files that cannot be used are appended to ``failures``.
    """
    files: list[str] = []
    digests: list[str] = []
    prepared: list[Any] = []
    names = list(locations)
    for number, content in read_all(enumerate(locations.values())):
        file = names[number]
        try:
            if isinstance(content, ImageError):
                raise content
            image = decode_image(content)
            views_of_image = views.prepare(file, image)
        except (ValueError, UserError) as error:
            failures.append({"file": file, "reason": str(error)})
            continue
        files.append(file)
        prepared.append(views_of_image)
        digests.append(digest(image))
        if views.is_full(prepared):
            yield files, prepared, digests
            files, prepared, digests = [], [], []
    if files:
        yield files, prepared, digests


def _write_pictures(views: Views, folder: Path) -> None:
    for file, ending, picture in views.pictures():
        _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        with atomic_write(folder / overlay_name(file, ending), "wb") as target:
            target.write(encoded.tobytes())


def overlay_name(file: str, ending: str = OVERLAY) -> str:
    """Returns the path of an image's picture below ``overlays``: its name with an ending added.

    A name that is too long for file systems is cut, and a checksum keeps it unique.
    """
    encoded = os.fsencode(Path(file).name)
    if len(encoded) + len(ending) <= _LONGEST_NAME:
        return f"{file.lstrip('/')}{ending}"  # a table may name absolute paths
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return str(Path(file.lstrip("/")).with_name(f"{os.fsdecode(encoded[:200])}-{digest}{ending}"))


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
