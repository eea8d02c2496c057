"""Predicts the images of a folder; writes tables of images and patients, and overlays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.images.image_location import Location, read_all
from se_resnet.images.scale import Scale, enlargement_problem
from se_resnet.metrics.decision import Decision
from se_resnet.predict.ahead import prepare_ahead
from se_resnet.predict.contact_sheet import SHEET, is_sheet, write_sheet
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
from se_resnet.predict.pictures import overlay_name, picture_writer
from se_resnet.predict.summary import (
    describe_gate,
    describe_magnifications,
    describe_patients,
    describe_scale,
    describe_votes,
    print_summary,
)
from se_resnet.predict.tiles import check_stated_scale, check_views
from se_resnet.predict.views import MAP, OVERLAY, ImagesAtScale, Views, WholeImages
from se_resnet.runs.ensembles import joined_data_facts
from se_resnet.runs.run_files import used_magnifications
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import unfinished_warnings
from se_resnet.runs.workdir import load_best
from se_resnet.runtime.csv_dialect import decode_table, table_lines
from se_resnet.runtime.files import read_json, write_json
from se_resnet.runtime.folders import whole_folder
from se_resnet.runtime.schema import Maybe
from se_resnet.runtime.tables import write_table
from se_resnet.runtime.walk import PassedOver

SKIPPED = "not_predicted.csv"
# Tables, with the beginning of their headers.
_HEADERS = {
    "patients.csv": ["patient", "images"],
    SKIPPED: ["path", "reason"],
    "predictions.csv": ["file", "patient", "probability"],
}
_HEADER_BYTES = 4096
_SCALE_UNUSED = "the column um_per_px of the table is not used: the run has no scale"
_FILES = (*_HEADERS, SHEET, PREDICTION)


def predict_folder(
    workdir: Path,
    source: Path | Sequence[Path],
    out: Path,
    *,
    overlays: bool = True,
    patient_pattern: str = BREAKHIS_PATIENT,
    tta: str = "none",
    attention: str = "none",
    um_per_px: float | None = None,
    threshold: float | None = None,
) -> list[Prediction]:
    """Predicts all images, writes the results, and prints a summary with the skipped files.

    A run with a scale (``config.data.um_per_px``) brings every image to that scale and averages the
    logits of all its tiles. The call for an image that does not look like the training images is
    withheld, if the run has a reference of them (:mod:`se_resnet.input_gate`).

    Args:
        workdir: folder of the run.
        source: images, folders of images or patterns, or a table, see
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
        threshold: probability in [0, 1] from which an image is called malignant, in place of the
            threshold of the run. The margin of uncertainty remains that of the run.

    Raises:
        UserError: there is no checkpoint or no usable image, the pattern is not a regular
            expression with a group, the output folder cannot be written, the scale of an image is
            not known but needed, or the threshold is no probability.
    """
    check_pattern(patient_pattern)
    run = load_best(workdir, attention)
    if threshold is not None:
        run = dataclasses.replace(run, decision=run.decision.with_threshold(threshold))
    scale = run.classifier.scale
    check_views(tta, scale)
    check_stated_scale(um_per_px, scale, "--um_per_px")
    trained_on = _trained_magnifications(workdir)
    warnings = unfinished_warnings(RunFolder(workdir))
    passed_over = PassedOver(keep_names=True)
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
        with picture_writer(new / OVERLAYS) as writer:
            for files, prepared, hashed in _batches(views, inputs.locations, failures):
                digests |= zip(files, hashed, strict=True)
                predictions += views.predict(files, prepared)
                if overlays:
                    writer.write(views)
        if not predictions:
            raise UserError(
                f"none of the {len(failures)} files given by --input can be used: "
                f"{failures[0]['file']} {failures[0]['reason']}."
            )
        patients = summarise_patients(predictions, run.decision.threshold, digests)
        rows = [_row(prediction, inputs, run.decision) for prediction in predictions]
        other = other_magnifications(digests, trained_on) if trained_on else {}
        write_table(new / "predictions.csv", rows, list(rows[0]))
        if patients:
            write_table(new / "patients.csv", patients, list(patients[0]))
        notes = [
            *(f"WARNING: {warning}" for warning in warnings),
            *describe_votes(predictions, len(run.members)),
            run.decision.describe(),
            *describe_gate(predictions),
            *describe_patients(predictions, patients, patient_pattern, inputs.is_table),
            *([] if scale else describe_magnifications(other, len(predictions), trained_on)),
            *(describe_scale(scale, predictions, inputs, um_per_px) if scale else []),
            *([_SCALE_UNUSED] if inputs.um_per_px and not scale else []),
        ]
        if passed_over:
            notes.append(f"not looked at: {passed_over.describe()}")
        skipped = [
            *({"path": _path(inputs, row["file"]), "reason": row["reason"]} for row in failures),
            *({"path": path, "reason": reason} for path, reason in passed_over.named),
        ]
        if skipped:
            write_table(new / SKIPPED, skipped, list(skipped[0]))
        write_sheet(new / SHEET, workdir.resolve().name, predictions, run.decision, notes, overlays)
        write_json(
            new / PREDICTION,
            {
                "notice": NOTICE,
                "decision": dataclasses.asdict(run.decision),
                **({"members": len(run.members)} if len(run.members) > 1 else {}),
                "input_gate": run.gate.as_metadata() if run.gate else None,
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
    print_summary(predictions, patients, failures, run.decision, notes, out)
    return predictions


def _row(prediction: Prediction, inputs: Inputs, decision: Decision) -> dict[str, Any]:
    """Returns the columns of ``predictions.csv`` for an image."""
    return {
        **prediction.as_row(),
        "threshold_of_probability": decision.threshold,
        "threshold_of_calibrated_probability": decision.calibrated_threshold,
        "path": _path(inputs, prediction.file),
    }


def _path(inputs: Inputs, file: str) -> str:
    """Returns the path of an image as the user can open it."""
    location = inputs.locations[file]
    return str(location.path / location.member if location.member else location.path)


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
    if (out / SHEET).is_file() and not is_sheet(out / SHEET):
        raise UserError(
            f"{out / SHEET} is not a page of predictions: give another folder by --out."
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
    contents = read_all(enumerate(locations.values()))

    def prepare(number: int, image: np.ndarray) -> Any:
        return views.prepare(names[number], image)

    for number, views_of_image, hashed in prepare_ahead(contents, prepare):
        if isinstance(views_of_image, Exception):
            failures.append({"file": names[number], "reason": str(views_of_image)})
            continue
        files.append(names[number])
        prepared.append(views_of_image)
        digests.append(hashed)
        if views.is_full(prepared):
            yield files, prepared, digests
            files, prepared, digests = [], [], []
    if files:
        yield files, prepared, digests
