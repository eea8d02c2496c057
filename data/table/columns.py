"""Validates the columns of a table of images and gives them the names of :mod:`data.records`."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from se_resnet.errors import UserError, with_items
from se_resnet.images.image_location import Location, locate, written_path
from se_resnet.images.image_table import read_rows
from se_resnet.images.scale import parse_um_per_px
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runs.run_files import SYNTHETIC_PREFIX

FILE_IS_PATIENT = "file"  # the value of config.data.patient where each image is a patient
_OPTIONAL = ("role", "fold", "magnification", "um_per_px", "slide", "subtype", "site")
# Names of the columns that a run writes itself.
_RESERVED = ("digest", "row", "probability", "tiles")
_MISSING = ("", "nan", "na", "n/a", "none", "null", "-")
_MAGNIFICATION = re.compile(r"([1-9][0-9]{0,4})(?:\.0+)?\s*[xX×]?")


@dataclasses.dataclass(frozen=True)
class Reading:
    """The fields of ``config.data`` that say how a table is read.

    Attributes:
        positive: labels that mean malignant, between commas; empty for ``1`` and ``malignant``.
        negative: labels that mean benign, between commas; empty for ``0`` and ``benign``, and where
            ``positive`` is given, for the single other label.
        patient: name of the column of patients; empty for ``patient``. ``file`` means that each
            image is its own patient.
    """

    positive: str = ""
    negative: str = ""
    patient: str = ""

    @property
    def is_given(self) -> bool:
        """True if any field is set, which only a table can follow."""
        return self != Reading()


USUAL = Reading()  # labels 0 and 1, or benign and malignant; column patient


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """The validated rows of a table.

    Attributes:
        path: of the table.
        rows: for each image ``file``, ``slide``, ``accession``, ``magnification``, ``subtype``,
            ``label`` and the further columns, in the order of the table.
        locations: location of each image.
        label_names: the labels of the table that mean benign and malignant.
        shown: names of the columns that the project keeps and shows, but does not know.
        reading: as given.
    """

    path: Path
    rows: list[dict]
    locations: list[Location]
    label_names: tuple[tuple[str, ...], tuple[str, ...]]
    shown: tuple[str, ...]
    reading: Reading


def read_image_table(path: str | Path, reading: Reading = USUAL) -> ImageTable:
    """Reads and validates a table of images, without opening an image.

    Args:
        path: a CSV, TSV or Parquet file with a header. ``file``: relative to the folder of the
            table, or absolute, or a member of an archive. ``label``: 0 or 1, or names. ``patient``:
            any text. Optional: ``role``, ``fold``, ``magnification``, ``um_per_px``, ``slide``,
            ``subtype``, ``site``. Other columns are kept as text.
        reading: the labels, and the column of patients.

    Raises:
        UserError: the table cannot be read, a column is missing, or a value is invalid; the message
            lists the lines.
    """
    path = Path(path)
    numbered = read_rows(path, ("file", "label"))
    columns = _columns(path, list(numbered[0][1]), reading)
    problems: list[str] = []
    labels = _label_values(path, numbered, reading, problems)
    rows, locations = [], []
    seen: dict[str, tuple[int, dict]] = {}
    for number, cells in numbered:
        try:
            row = _parse(cells, columns, labels)
            locations.append(locate(row["file"], path.parent))
            if (first := seen.setdefault(row["file"], (number, row)))[1] is not row:
                raise ValueError(_repeated(row, *first))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        else:
            rows.append(row)
    if problems:
        sentence = (
            f"{len(problems):,} of {len(numbered):,} rows of {path} cannot be used: correct them."
        )
        raise UserError(with_items(sentence, problems))
    _tell_slides_apart(rows)
    benign, malignant = (
        tuple(sorted(name for name, label in labels.items() if label == value)) for value in (0, 1)
    )
    shown = tuple(name for name in columns.further if name not in _OPTIONAL)
    return ImageTable(path, rows, locations, (benign, malignant), shown, reading)


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns of a table by purpose.

    Attributes:
        patient: column of patients; empty where each image is a patient.
        further: columns of ``Records.extra``.
    """

    patient: str
    further: tuple[str, ...]


def _columns(path: Path, header: Sequence[str], reading: Reading) -> _Columns:
    """Returns the columns by purpose, or refuses the header."""
    for name in _RESERVED:
        if name in header:
            raise UserError(
                f"{path} has a column {name!r}, a name that a run gives to a column of its own "
                "files: rename the column."
            )
    for name in header:
        wanted = name.lower().replace(" ", "_")
        if name != wanted and wanted in ("patient", *_OPTIONAL) and wanted not in header:
            raise UserError(f"{path} has a column {name!r}: write its name as {wanted!r}.")
    patient = reading.patient or ("patient" if "patient" in header else "accession")
    if reading.patient == FILE_IS_PATIENT:
        patient = ""
    elif patient not in header:
        wanted = f"the column {reading.patient!r}" if reading.patient else "a column 'patient'"
        raise UserError(
            f"{path} lacks {wanted}, without which images of one patient could be in both training "
            f"and test; it has {', '.join(header)}: add the column, name another by "
            f"config.data.patient, or set config.data.patient={FILE_IS_PATIENT} to say that each "
            "image is its own patient."
        )
    elif patient in ("file", "label"):
        raise UserError(f"config.data.patient = {patient!r} is no column of patients.")
    known = ("file", "label", "slide", "subtype", "magnification")
    # A column 'accession' that is not the patients' would hide them.
    if "accession" in header and patient != "accession":
        raise UserError(
            f"{path} has the columns 'accession' and {patient or 'file'!r}, which both mean the "
            "patient: remove or rename one of them."
        )
    return _Columns(patient, tuple(name for name in header if name not in (*known, patient)))


def _label_values(
    path: Path, numbered: list[tuple[int, dict[str, str]]], reading: Reading, problems: list[str]
) -> dict[str, int]:
    """Returns 0 or 1 for every label of the table that has a meaning."""
    counts = Counter(cells["label"] for _, cells in numbered)
    positive, negative = names_in(reading.positive), names_in(reading.negative)
    if not positive and negative:
        raise UserError(
            "config.data.negative is set but config.data.positive is not: name the labels that "
            "mean malignant too."
        )
    if both := [name for name in positive if name in negative]:
        raise UserError(
            f"the label {both[0]!r} is in both config.data.positive and config.data.negative: "
            "leave it out of one of them."
        )
    if not positive:
        values = {"0": 0, "1": 1, **{name: label for label, name in enumerate(CLASS_NAMES)}}
        by_name = {name: values[name.lower()] for name in counts if name.lower() in values}
        others = [name for name in counts if name not in by_name]
        if others and len(by_name) == 0:
            raise UserError(
                f"the labels of {path} are {_some(counts)}: set config.data.positive to those that "
                "mean malignant, between commas."
            )
        return by_name
    for name in (*positive, *negative):
        if name not in counts:
            field = "positive" if name in positive else "negative"
            raise UserError(
                f"config.data.{field} names the label {name!r}, which {path} does not have; it has "
                f"{_some(counts)}: correct the name."
            )
    others = [name for name in counts if name not in positive]
    if not negative and len(others) > 1:
        raise UserError(
            f"{path} has {len(others)} labels besides config.data.positive: {_some(others)}: set "
            "config.data.negative to those that mean benign, between commas, or remove the rows "
            "of others."
        )
    return {**dict.fromkeys(negative or others, 0), **dict.fromkeys(positive, 1)}


def names_in(text: str) -> list[str]:
    """Returns the names between the commas of an option."""
    return [name for part in text.split(",") if (name := part.strip())]


def _parse(cells: Mapping[str, str], columns: _Columns, labels: Mapping[str, int]) -> dict:
    """Returns the values of one row by the names of :class:`data.records.Records`.

    Raises:
        ValueError: a value is invalid.
    """
    file = written_path(cells["file"])
    if file.rpartition("/")[2].startswith(SYNTHETIC_PREFIX):
        raise ValueError(
            f"the name of a file begins with {SYNTHETIC_PREFIX!r}, which means a blend"
        )
    if cells["label"] not in labels:
        raise ValueError(
            f"the label {cells['label'][:40]!r} is none of {_some(labels) or '0 and 1'}"
        )
    # The same letters can be written in two ways, which would make two patients of one.
    patient = unicodedata.normalize("NFC", cells[columns.patient]) if columns.patient else file
    if patient.lower() in _MISSING:
        raise ValueError(f"the patient is missing ({patient!r})")
    magnification = 0
    if (text := cells.get("magnification", "")).lower() not in _MISSING:
        if not (match := _MAGNIFICATION.fullmatch(text)):
            raise ValueError(f"the magnification {text[:40]!r} is not a whole number such as 200")
        magnification = int(match[1])
    further = {name: cells[name] for name in columns.further}
    if further.get("um_per_px", "").lower() not in _MISSING:
        further["um_per_px"] = _scale(further["um_per_px"])
    elif "um_per_px" in further:
        further["um_per_px"] = ""
    return {
        "file": file,
        "slide": cells.get("slide") or patient,
        "accession": patient,
        "magnification": magnification,
        "subtype": cells.get("subtype", ""),
        "label": labels[cells["label"]],
        **further,
    }


def _tell_slides_apart(rows: list[dict]) -> None:
    """Adds the patient to the names of slides if several patients have a slide of one name."""
    patients = defaultdict(set)
    for row in rows:
        patients[row["slide"]].add(row["accession"])
    if any(len(names) > 1 for names in patients.values()):
        for row in rows:
            row["slide"] = f"{row['accession']}/{row['slide']}"


def _scale(text: str) -> str:
    try:
        return repr(parse_um_per_px(text))
    except ValueError as error:
        raise ValueError(f"um_per_px = {text[:40]!r} {error}") from None


def _repeated(row: dict, number: int, first: dict) -> str:
    """Returns the problem with a file that is listed again."""
    file = row["file"][:200]
    for name, noun in (("label", "label"), ("accession", "patient")):
        if row[name] != first[name]:
            return (
                f"{file} has the {noun} {row[name]!r}, but {first[name]!r} on line {number}: keep "
                "one line for each image"
            )
    return f"{file} is listed on line {number} already: keep one line for each image"


def _some(names: Mapping[str, int] | Sequence[str]) -> str:
    listed = [repr(name)[:60] for name in list(names)[:8]]
    return ", ".join(listed) + (" and others" if len(names) > 8 else "")
