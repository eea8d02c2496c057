"""The predictions of a run, one row per image, and the file ``predictions.csv``."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.labels import label_problem, magnification_problem
from se_resnet.runtime.csv_dialect import LineError, parse_number
from se_resnet.runtime.files import atomic_write, reason
from se_resnet.runtime.tables import read_table

PREDICTIONS = "predictions.csv"  # file name in the folder of an evaluation


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Columns of equal length N, one row per image.

    Attributes:
        file: ``str [N]``, file name.
        slide: ``str [N]``, slide folder.
        accession: ``str [N]``, the patient.
        magnification: ``int [N]``, for example 200; 0 means not known.
        subtype: ``str [N]``, tumour type, for example ``DC``; empty if not known.
        label: ``int [N]``, 0 benign, 1 malignant.
        probability: ``float64 [N]`` in [0, 1], predicted probability of malignant.
        fold: ``int [N]``, not negative, the fold whose network predicted the image; None means 0
            for all, as for a single network. The column is in the CSV file of a cross-validation
            only.
        extra: ``str [N]`` by name: the further columns of a table of images, for example ``site``.

    Raises:
        ValueError: columns differ in length, a label is not 0 or 1, or a probability is not a
            number in [0, 1].
    """

    file: np.ndarray
    slide: np.ndarray
    accession: np.ndarray
    magnification: np.ndarray
    subtype: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    fold: np.ndarray = None  # type: ignore[assignment]  # an array once __post_init__ has run
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fold is None:
            object.__setattr__(self, "fold", np.zeros(len(self.file), np.int64))
        shapes = {name: column.shape for name, column in self.columns().items()}
        if len(set(shapes.values())) != 1 or self.file.ndim != 1:
            raise ValueError(f"columns must be one-dimensional and of equal length, got {shapes}")
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError("label must be 0 or 1")
        if not ((self.probability >= 0) & (self.probability <= 1)).all():
            raise ValueError("probability must be a number in [0, 1]")

    def __len__(self) -> int:
        return len(self.file)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the columns by name, in the order of the CSV file."""
        return {**{name: getattr(self, name) for name in _COLUMNS}, **self.extra}

    def take(self, index: np.ndarray) -> Predictions:
        """Returns the rows selected by ``index``, an ``int [M]`` or ``bool [N]`` array."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return Predictions(**columns, extra={name: self.extra[name][index] for name in self.extra})

    def write_csv(self, path: str | Path) -> None:
        """Writes a header and one line per image. Reading restores the exact probabilities."""
        columns = self.columns()
        if not self.fold.any():
            del columns["fold"]
        text = io.StringIO()
        writer = csv.writer(text)  # CRLF line ends make the writer quote a CR in a name
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        with atomic_write(path, "wb") as file:
            # On Linux a file name may be invalid UTF-8; surrogateescape keeps its bytes.
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    @classmethod
    def read_csv(cls, path: str | Path) -> Predictions:
        """Reads a file of :meth:`write_csv`, also after a spreadsheet program has saved it.

        Raises:
            UserError: the file is missing, its header differs, or a line is malformed.
        """
        try:
            # On Linux a file name may be invalid UTF-8; surrogateescape keeps its bytes.
            table = read_table(path, _COLUMNS[:-1], errors="surrogateescape")
            rows = [_parse(number, row) for number, row in table]
        except LineError as error:
            raise UserError(f"{path}, {error}: correct the line or run eval.py again.") from error
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read the predictions {path} ({reason(error)}): run eval.py to write them."
            ) from error
        names = [*_COLUMNS, *(name for name in (rows[0] if rows else ()) if name not in _COLUMNS)]
        columns = {
            name: np.array([row[name] for row in rows], dtype=_DTYPES.get(name, np.str_))
            for name in names
        }
        extra = {name: columns.pop(name) for name in names if name not in _COLUMNS}
        return cls(**columns, extra=extra)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Joins the rows of all parts, in order. An image in several parts has several rows.

    Further columns are kept if all parts have them.
    """
    tables = [part.columns() for part in parts]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in shared}
    extra = {name: columns.pop(name) for name in shared if name not in _COLUMNS}
    return Predictions(**columns, extra=extra)


def in_folds(parts: Sequence[Predictions]) -> Predictions:
    """Joins the test images of the folds of a cross-validation; the k-th part is fold k."""
    return concatenate(
        [
            dataclasses.replace(part, fold=np.full(len(part), fold))
            for fold, part in enumerate(parts)
        ]
    )


def probability_of(logit: np.ndarray) -> np.ndarray:
    """Returns the logistic function, ``float64`` of the same shape, without overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(logit, np.float64)))


def logit_of(probability: np.ndarray) -> np.ndarray:
    """Returns the inverse of :func:`probability_of`, ``float64``, infinite at 0 and 1."""
    probability = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


_COLUMNS = [field.name for field in dataclasses.fields(Predictions) if field.name != "extra"]
_DTYPES: dict[str, Any] = {
    "magnification": np.int64,
    "label": np.int64,
    "probability": np.float64,
    "fold": np.int64,
}


def _parse(number: int, row: dict[str, str]) -> dict[str, Any]:
    """Parses the values of line ``number``."""
    for name, check in (("magnification", magnification_problem), ("label", label_problem)):
        if problem := check(row[name]):
            raise LineError(number, problem)
    try:
        probability = parse_number(row["probability"])
    except ValueError:
        probability = float("nan")
    if not 0 <= probability <= 1:
        problem = f"the probability {row['probability'][:20]!r} is not a number from 0 to 1"
        raise LineError(number, problem)
    fold = row.get("fold", "0")
    if not (fold.isascii() and fold.isdecimal() and len(fold) <= 9):
        raise LineError(number, f"the fold {fold[:20]!r} is not a whole number")
    return {
        **row,
        "fold": int(fold),
        "magnification": int(row["magnification"]),
        "label": int(row["label"]),
        "probability": probability,
    }
