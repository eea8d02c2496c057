"""Characteristics of images and patients by role and class: the first table of a paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from se_resnet.metrics.labels import CLASS_NAMES, TUMOUR_TYPES
from se_resnet.report.reporting.flow import CLASSES
from se_resnet.report.reporting.study import (
    ROLE_NAMES,
    Row,
    Study,
    Training,
    images_per_patient,
    is_synthetic,
    of_class,
    sizes,
)
from se_resnet.runs.run_files import ROLES, TEST, TRAIN

NOT_RECORDED = "not recorded"
_ALL = "all"  # the role of the rows for all images
_FIXED = ("fold", "role", "class", "images", "slides", "patients")
_PER_PATIENT = ("images_per_patient_median", "images_per_patient_min", "images_per_patient_max")


def columns(study: Study) -> tuple[str, ...]:
    """Returns the columns of ``characteristics.csv`` for the images of this study."""
    return (
        *_FIXED,
        *_PER_PATIENT,
        *(f"images_{scale}x" for scale in _scales(study)),
        *(f"{what}_{name}" for name in _types(study) for what in ("images", "patients")),
        "synthetic_images_in_split",
        "synthetic_images_an_epoch",
    )


def count_characteristics(study: Study) -> list[dict[str, Any]]:
    """Returns a row for each role and class, and for all images; of each fold if there are several.

    ``synthetic_images_in_split`` counts images of ``split.csv`` (protocol ``source``).
    ``synthetic_images_an_epoch`` counts the blends of the balanced plan in an epoch of training;
    they replace no image and have no patient.
    """
    rows = []
    for name in CLASSES:
        rows.append(_count(study, study.used, "", _ALL, name))
    for number, training in enumerate(study.trainings):
        fold = str(number) if study.is_cross_validation else ""
        for role in ROLES:
            for name in CLASSES:
                row = _count(study, training.role(role), fold, role, name)
                if role == TRAIN and name == "all":
                    row["synthetic_images_an_epoch"] = _planned(training)
                rows.append(row)
    return rows


def _count(study: Study, group: Sequence[Row], fold: str, role: str, name: str) -> dict[str, Any]:
    chosen = of_class(group, name)
    counted = sizes(chosen)
    median, least, most = images_per_patient(chosen) or ("", "", "")
    row: dict[str, Any] = {
        "fold": fold,
        "role": role,
        "class": name,
        "images": counted.images,
        "slides": counted.slides,
        "patients": counted.patients,
        "images_per_patient_median": median,
        "images_per_patient_min": least,
        "images_per_patient_max": most,
        "synthetic_images_in_split": sum(map(is_synthetic, chosen)),
        "synthetic_images_an_epoch": "",
    }
    for scale in _scales(study):
        row[f"images_{scale}x"] = sum(int(image["magnification"]) == scale for image in chosen)
    for subtype in _types(study):
        of_type = sizes(image for image in chosen if image["subtype"] == subtype)
        row[f"images_{subtype}"], row[f"patients_{subtype}"] = of_type.images, of_type.patients
    return row


def _planned(training: Training) -> int | str:
    plan = training.data.get("plan")
    return plan["synthetic"] if plan else NOT_RECORDED


def _scales(study: Study) -> list[int]:
    return sorted({int(row["magnification"]) for row in study.used})


def _types(study: Study) -> list[str]:
    """Returns the tumour types, benign types first."""
    labels = {row["subtype"]: row["label"] for row in study.used}
    return sorted(labels, key=lambda name: (labels[name], name))


@dataclasses.dataclass(frozen=True)
class Table:
    """The table as a paper shows it.

    Attributes:
        groups: headings above a benign and a malignant column each.
        rows: label and cells; a row without cells is a heading.
    """

    groups: list[str]
    rows: list[tuple[str, list[str]]]


def lay_out(study: Study) -> Table:
    """Returns the table for the page.

    A single run has columns for every role. A cross-validation has columns for all images and for
    the test images of each fold; ``characteristics.csv`` has the other roles.
    """
    counted = [row for row in count_characteristics(study) if row["class"] in CLASS_NAMES]
    if study.is_cross_validation:
        counted = [row for row in counted if row["role"] in (_ALL, TEST)]
    else:
        counted.sort(key=lambda row: (*ROLES, _ALL).index(row["role"]))
    groups = []
    for row in counted[::2]:
        name = ROLE_NAMES.get(row["role"], row["role"]).capitalize()
        groups.append(f"{name}, fold {row['fold']}" if row["fold"] else name)

    def cells(*names: str, form: str = "{:,}") -> list[str]:
        return [form.format(*(row[name] for name in names)) for row in counted]

    table = [(title, cells(title.lower())) for title in ("Images", "Slides", "Patients")]
    table.append(("Images per patient, median (range)", [_per_patient(row) for row in counted]))
    table.append(("Magnification: images", []))
    table += [(f"{scale}x", cells(f"images_{scale}x")) for scale in _scales(study)]
    table.append(("Tumour type: images (patients)", []))
    for subtype in _types(study):
        names = (f"images_{subtype}", f"patients_{subtype}")
        table.append((TUMOUR_TYPES.get(subtype, subtype), cells(*names, form="{:,} ({:,})")))
    if any(row["synthetic_images_in_split"] for row in counted):
        table.append(("Synthetic images among these", cells("synthetic_images_in_split")))
    return Table(groups, table)


def _per_patient(row: dict[str, Any]) -> str:
    if not row["images"]:
        return "–"
    low, high = row["images_per_patient_min"], row["images_per_patient_max"]
    return f"{row['images_per_patient_median']:g} ({low:,} to {high:,})"
