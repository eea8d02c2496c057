"""What a run predicted, image by image, and the file that holds it."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.dialect import decode_table, parse_number, table_lines
from se_resnet.errors import UserError
from se_resnet.files import atomic_write, read_small_file


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Columns of equal length N, one row per image.

    Attributes:
        file: ``str [N]``, file name.
        slide: ``str [N]``, slide folder.
        accession: ``str [N]``, the patient.
        magnification: ``int [N]``, for example 200.
        subtype: ``str [N]``, tumour type, for example ``DC``.
        label: ``int [N]``, 0 benign, 1 malignant.
        probability: ``float64 [N]`` in [0, 1], predicted probability of malignant.

    Raises:
        ValueError: columns differ in length, a label is not 0 or 1, or a probability is outside
            [0, 1] or not a number.
    """

    file: np.ndarray
    slide: np.ndarray
    accession: np.ndarray
    magnification: np.ndarray
    subtype: np.ndarray
    label: np.ndarray
    probability: np.ndarray

    def __post_init__(self) -> None:
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
        """Column name to array, in the order of the CSV file."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def take(self, index: np.ndarray) -> Predictions:
        """The rows named by ``index``, an ``int [M]`` or ``bool [N]`` array."""
        return Predictions(**{name: column[index] for name, column in self.columns().items()})

    def write_csv(self, path: str | Path) -> None:
        """Writes a header and one line per image; a probability is read back exactly as it was."""
        columns = self.columns()
        text = io.StringIO()
        writer = csv.writer(text)  # its CRLF makes it quote a CR in a name
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        with atomic_write(path, "wb") as file:
            # A file name need not be valid UTF-8 on Linux; surrogateescape keeps its bytes.
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    @classmethod
    def read_csv(cls, path: str | Path) -> Predictions:
        """Reads what :meth:`write_csv` wrote, also as a spreadsheet program has saved it again.

        Raises:
            UserError: the file is missing, its header is another, or a line is malformed.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        rows = []
        line = 1
        try:
            # A file name need not be valid UTF-8 on Linux; surrogateescape keeps its bytes.
            table = table_lines(decode_table(read_small_file(path), "surrogateescape"))
            line, header = next(table, (1, []))
            if header != names:
                raise ValueError(f"the header must be {','.join(names)}, not {','.join(header)}")
            for number, cells in table:
                line = number
                rows.append(_parse(names, cells))
        except OSError as error:
            raise UserError(
                f"cannot read the predictions {path} ({error.strerror}): run eval.py to make them."
            ) from error
        except (ValueError, csv.Error) as error:
            where = f"line {line}: " if isinstance(error, ValueError) else ""
            raise UserError(
                f"{path}, {where}{error}; put the line right or run eval.py again."
            ) from error
        return cls(
            **{
                name: np.array([row[name] for row in rows], dtype=_DTYPES.get(name, np.str_))
                for name in names
            }
        )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The rows of all parts, in order; an image may stand in several, as one row of each."""
    columns = [part.columns() for part in parts]
    return Predictions(
        **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    )


def probability_of(logit: np.ndarray) -> np.ndarray:
    """The logistic function: ``float64`` of the same shape, without overflow at either end."""
    return np.exp(-np.logaddexp(0, -np.asarray(logit, np.float64)))


def logit_of(probability: np.ndarray) -> np.ndarray:
    """The inverse of :func:`probability_of`: ``float64``, infinite at 0 and 1."""
    probability = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


_DTYPES: dict[str, Any] = {
    "magnification": np.int64,
    "label": np.int64,
    "probability": np.float64,
}


def _parse(names: list[str], line: list[str]) -> dict[str, Any]:
    if len(line) != len(names):
        raise ValueError(f"{len(line)} values instead of {len(names)}")
    row: dict[str, Any] = dict(zip(names, line, strict=True))
    if not row["magnification"].isdecimal() or len(row["magnification"]) > 9:
        raise ValueError(f"the magnification {row['magnification']!r} is not a whole number")
    if row["label"] not in ("0", "1"):
        raise ValueError(f"the label {row['label']!r} is neither 0 nor 1")
    try:
        probability = parse_number(row["probability"])
    except ValueError:
        probability = float("nan")
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability {row['probability']!r} is not a number from 0 to 1")
    return row | {
        "magnification": int(row["magnification"]),
        "label": int(row["label"]),
        "probability": probability,
    }
