"""Characteristics of images and patients by role and class: the first table of a paper.

A further column of a table of images is shown by its values. Up to 8 different values are counted
by image. Of more values the median and the range are given if all are numbers, else their number.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from se_resnet.metrics.evaluation import MOST_PARTS
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.reporting.flow import CLASSES
from se_resnet.report.reporting.study import (
    ROLE_NAMES,
    Row,
    Study,
    Training,
    images_per_patient,
    is_synthetic,
    of_class,
    scale_of,
    sizes,
)
from se_resnet.runs.run_files import ROLES, TEST, TRAIN
from se_resnet.runtime.csv_dialect import parse_number

NOT_RECORDED = "not recorded"
_ALL = "all"  # the role of the rows for all images
_FIXED = ("fold", "role", "class", "images", "slides", "patients")
_MOST_VALUES = 8  # of a further column whose values are counted
_UNKNOWN = "not known"
_PER_PATIENT = ("images_per_patient_median", "images_per_patient_min", "images_per_patient_max")


def columns(study: Study) -> tuple[str, ...]:
    """Returns the columns of ``characteristics.csv`` for the images of this study."""
    return (
        *_FIXED,
        *_PER_PATIENT,
        *(f"images_{scale}x" for scale in study.scales),
        *(
            _type_column(study, what, name)
            for name in _shown_types(study)
            for what in ("images", "patients")
        ),
        *(name for column in _further(study) for name in column.names()),
        "synthetic_images_in_split",
        "synthetic_images_an_epoch",
    )


@dataclasses.dataclass(frozen=True)
class _Further:
    """A further column of the table of images.

    Attributes:
        name: of the column.
        values: the different values that are counted; empty if they are too many. An empty string
            means not known.
        is_number: true if the values are too many and all are numbers.
    """

    name: str
    values: tuple[str, ...]
    is_number: bool

    def names(self) -> list[str]:
        """Returns the columns of ``characteristics.csv``."""
        if self.values:
            return [f"images_{self.name}={value or _UNKNOWN}" for value in self.values]
        if self.is_number:
            return [f"{self.name}_{part}" for part in ("median", "min", "max", "unknown")]
        return [f"{self.name}_different_values"]

    def count(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Returns the values of these columns for a group of images."""
        values = [row[self.name] for row in rows]
        if self.values:
            counts: list[Any] = [values.count(value) for value in self.values]
        else:
            known = [value for value in values if value]
            counts = [len(set(known))]
            if self.is_number:
                numbers = [parse_number(value) for value in known]
                counts = (
                    [statistics.median(numbers), min(numbers), max(numbers)]
                    if numbers
                    else ["", "", ""]
                ) + [len(values) - len(known)]
        return dict(zip(self.names(), counts, strict=True))


def _further(study: Study) -> list[_Further]:
    """Returns the further columns, in the order of the table."""
    columns = []
    for name in study.further_columns:
        # The empty string, which means not known, comes last.
        values = sorted({row[name] for row in study.used}, key=lambda v: (v == "", v))
        few = sum(value != "" for value in values) <= _MOST_VALUES
        is_number = not few and all(_is_number(value) for value in values if value)
        columns.append(_Further(name, tuple(values) if few else (), is_number))
    return columns


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(parse_number(text))
    except ValueError:
        return False


def _type_column(study: Study, what: str, subtype: str) -> str:
    """Returns the name of a column; subtypes of a table could have the name of another column."""
    return f"{what}_{subtype}" if study.source.is_breakhis else f"{what}_subtype={subtype}"


def _shown_types(study: Study) -> list[str]:
    """Returns the subtypes; none if they are too many to count each."""
    types = study.subtypes
    return types if len(types) <= MOST_PARTS else []


def count_characteristics(study: Study) -> list[dict[str, Any]]:
    """Returns a row for each role and class, and for all images; of each fold if there are several.

    ``synthetic_images_in_split`` counts images of ``split.csv`` (protocol ``source``).
    ``synthetic_images_an_epoch`` counts the blends of the balanced plan in an epoch of training;
    they replace no image and have no patient.
    """
    rows, further = [], _further(study)
    for name in CLASSES:
        rows.append(_count(study, further, study.used, "", _ALL, name))
    for number, training in enumerate(study.trainings):
        fold = str(number) if study.is_cross_validation else ""
        for role in ROLES:
            for name in CLASSES:
                row = _count(study, further, training.role(role), fold, role, name)
                if role == TRAIN and name == "all":
                    row["synthetic_images_an_epoch"] = _planned(training)
                rows.append(row)
    return rows


def _count(
    study: Study,
    further: Sequence[_Further],
    group: Sequence[Row],
    fold: str,
    role: str,
    name: str,
) -> dict[str, Any]:
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
    for scale in study.scales:
        row[f"images_{scale}x"] = sum(scale_of(image) == scale for image in chosen)
    for subtype in _shown_types(study):
        of_type = sizes(image for image in chosen if image["subtype"] == subtype)
        row[_type_column(study, "images", subtype)] = of_type.images
        row[_type_column(study, "patients", subtype)] = of_type.patients
    for column in further:
        row |= column.count(chosen)
    return row


def _planned(training: Training) -> int | str:
    plan = training.data.get("plan")
    return plan["synthetic"] if plan else NOT_RECORDED


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

    slides = ["Slides"] if any(row["slides"] is not None for row in counted) else []
    table = [(title, cells(title.lower())) for title in ("Images", *slides, "Patients")]
    table.append(("Images per patient, median (range)", [_per_patient(row) for row in counted]))
    if study.scales:
        table.append(("Magnification: images", []))
        table += [(f"{scale}x", cells(f"images_{scale}x")) for scale in study.scales]
    if subtypes := _shown_types(study):
        table.append((f"{study.subtype_noun.capitalize()}: images (patients)", []))
        for subtype in subtypes:
            names = [_type_column(study, what, subtype) for what in ("images", "patients")]
            table.append((study.type_name(subtype), cells(*names, form="{:,} ({:,})")))
    for column in _further(study):
        table += _further_rows(column, counted)
    if any(row["synthetic_images_in_split"] for row in counted):
        table.append(("Synthetic images among these", cells("synthetic_images_in_split")))
    return Table(groups, table)


def _further_rows(
    column: _Further, counted: Sequence[dict[str, Any]]
) -> list[tuple[str, list[str]]]:
    names = column.names()
    if column.values:
        rows = [(f"{column.name}: images", list[str]())]
        for value, name in zip(column.values, names, strict=True):
            rows.append((value or _UNKNOWN, [f"{row[name]:,}" for row in counted]))
        return rows
    if not column.is_number:
        cells = [f"{row[names[0]]:,} different values" for row in counted]
        return [(column.name, cells)]
    cells = []
    for row in counted:
        median, low, high, unknown = (row[name] for name in names)
        text = "–" if median == "" else f"{median:g} ({low:g} to {high:g})"
        cells.append(text + (f", {_UNKNOWN} {unknown:,}" if unknown else ""))
    return [(f"{column.name}, median (range)", cells)]


def _per_patient(row: dict[str, Any]) -> str:
    if not row["images"]:
        return "–"
    low, high = row["images_per_patient_min"], row["images_per_patient_max"]
    return f"{row['images_per_patient_median']:g} ({low:,} to {high:,})"
