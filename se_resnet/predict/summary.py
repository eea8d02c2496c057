"""The lines that a prediction prints: counts, unusable files, and remarks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from se_resnet.images.scale import Scale
from se_resnet.input_gate.gate import NO_GATE, WITHHELD, describe_reason
from se_resnet.metrics.decision import Decision
from se_resnet.predict.contact_sheet import SHEET
from se_resnet.predict.inference import NOTICE, Prediction
from se_resnet.predict.inputs import Inputs
from se_resnet.predict.patients import BREAKHIS_PATIENT, breakhis_scale
from se_resnet.runtime.text_table import text_table
from se_resnet.runtime.walk import printable

LONGEST_TABLE = 20  # images


def describe_votes(predictions: list[Prediction], members: int) -> list[str]:
    """Returns a line about the members of an ensemble."""
    if members == 1:
        return []
    agreed = sum(prediction.malignant_votes in (0, members) for prediction in predictions)
    return [
        f"mean logit of {members} networks, which all make the same call for {agreed} of "
        f"{len(predictions)} images; the other images are uncertain"
    ]


def describe_patients(
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


def _remark(prediction: Prediction) -> str:
    if prediction.unlike_training_images:
        return describe_reason(prediction.unlike_training_images)
    return "uncertain" if prediction.uncertain else ""


def describe_gate(predictions: list[Prediction]) -> list[str]:
    """Returns a line about calls that are withheld, or about a run without a reference."""
    reasons = [prediction.unlike_training_images for prediction in predictions]
    if reasons[0] is None:
        return [NO_GATE]
    counts = Counter(reason for reason in reasons if reason)
    if not counts:
        return []
    listed = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    return [
        f"WARNING: no call for {counts.total()} of {len(predictions)} images, which do not look "
        f"like the training images: {listed}"
    ]


def describe_magnifications(other: dict[str, int], total: int, trained_on: list[int]) -> list[str]:
    """Returns a warning about images of magnifications that the run was not trained on."""
    if not other:
        return []
    counts = ", ".join(f"{name} {count}" for name, count in other.items())
    return [
        f"WARNING: by their names, {sum(other.values())} of {total} images have a magnification "
        f"that the run was not trained on: {counts} (trained on "
        f"{', '.join(f'{magnification}X' for magnification in trained_on)})"
    ]


def describe_scale(
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


def print_summary(
    predictions: list[Prediction],
    patients: list,
    failures: list[dict[str, str]],
    decision: Decision,
    notes: list[str],
    out: Path,
) -> None:
    """Prints counts, a table of up to 20 images, the unusable files and the remarks."""
    malignant = sum(prediction.call == "malignant" for prediction in predictions)
    uncertain = sum(prediction.uncertain for prediction in predictions)
    withheld = sum(prediction.call == WITHHELD for prediction in predictions)
    print(
        f"{len(predictions)} images: {malignant} called malignant, {uncertain} flagged as uncertain"
        + (f", {withheld} without a call" if withheld else "")
        + (f", {len(patients)} patients" if patients else "")
    )
    if len(predictions) <= LONGEST_TABLE:
        print("\n".join(_table(predictions, decision)))
    for failure in failures:
        print(f"not used: {failure['file']} {failure['reason']}")
    for note in notes:
        print(note)
    print(f"written to {out}; open {out / SHEET}\n{NOTICE}")


def _table(predictions: list[Prediction], decision: Decision) -> list[str]:
    """Returns the lines of a table of the images; the probability that decides comes first."""
    scaled = decision.temperature != 1
    header = ["image", "probability", *(["calibrated"] if scaled else []), "call", "remark"]
    rows = [
        [
            printable(prediction.file),
            f"{prediction.probability:.3f}",
            *([f"{prediction.calibrated_probability:.3f}"] if scaled else []),
            prediction.call,
            _remark(prediction),
        ]
        for prediction in predictions
    ]
    return text_table([header, *rows], "<>" + (">" if scaled else "") + "<<")
