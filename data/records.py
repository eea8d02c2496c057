"""The table that describes a set of images: one row per image, no pixels."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.labels import MAGNIFICATIONS, MAGNIFICATIONS_TEXT
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.run_files import SYNTHETIC_PREFIX as SYNTHETIC_PREFIX
from se_resnet.runtime.files import atomic_write
from se_resnet.runtime.tables import read_table


@dataclasses.dataclass(frozen=True)
class Records:
    """Columns of equal length N, sorted by file name.

    Attributes:
        file: ``str [N]``, official file name, unique.
        slide: ``str [N]``, slide folder, for example ``SOB_B_A-14-22549AB``.
        accession: ``str [N]``, year and accession number, for example ``14-22549``: the patient.
        magnification: ``int [N]``, 40, 100, 200 or 400.
        subtype: ``str [N]``, A, F, PT, TA (benign), DC, LC, MC or PC (malignant).
        label: ``int [N]``, 0 benign, 1 malignant.
        digest: ``str [N]``, SHA-256 of the decoded original pixels, equal for the same image.
        row: ``int [N]``, index of the image in the pixel array.
    """

    file: np.ndarray
    slide: np.ndarray
    accession: np.ndarray
    magnification: np.ndarray
    subtype: np.ndarray
    label: np.ndarray
    digest: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.file)

    def take(self, index: np.ndarray) -> Records:
        """Returns the rows at ``index``, an ``int [M]`` or ``bool [N]`` array."""
        return Records(**{name: column[index] for name, column in self.columns().items()})

    def first_copies(self) -> np.ndarray:
        """Returns one index for each content, ``int [M]``, sorted, so that no copy counts twice."""
        return np.sort(np.unique(self.digest, return_index=True)[1])

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the arrays by column name, in the order of the CSV file."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def is_synthetic(self) -> np.ndarray:
        """Marks images that are blends of other images, by file name: ``bool [N]``."""
        return np.char.startswith(self.file, SYNTHETIC_PREFIX)

    @classmethod
    def from_rows(cls, rows: Iterable[dict]) -> Records:
        """Builds the table from dicts with one value per column. Sorts by file name."""
        ordered = sorted(rows, key=lambda row: row["file"])
        return cls(
            **{
                field.name: np.array(
                    [_TYPES[field.name](row[field.name]) for row in ordered],
                    dtype=np.int64 if _TYPES[field.name] is int else np.str_,
                )
                for field in dataclasses.fields(cls)
            }
        )

    def write_csv(self, path: Path) -> None:
        """Writes a header and one line per image."""
        columns = self.columns()
        with atomic_write(path) as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    @classmethod
    def read_csv(cls, path: Path) -> Records:
        """Reads a file that :meth:`write_csv` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file has other content.
        """
        try:
            return cls.from_rows(row for _, row in read_table(path, list(_TYPES)))
        except OverflowError as error:
            raise ValueError(f"{path.name} is not a table of images: {error!r}") from error

    def predictions(self, probability: np.ndarray) -> Predictions:
        """Returns the images with their predicted probabilities, ``float64 [N]``."""
        names = ("file", "slide", "accession", "magnification", "subtype", "label")
        columns = {name: getattr(self, name) for name in names}
        return Predictions(**columns, probability=probability)

    def at_magnifications(self, magnifications: tuple[int, ...]) -> Records:
        """Returns the images of these magnifications.

        Raises:
            UserError: a magnification does not exist in BreaKHis, or no image has one of them.
        """
        if not magnifications:
            raise UserError(
                f"config.data.magnifications is empty: choose from {MAGNIFICATIONS_TEXT}."
            )
        present = sorted(set(self.magnification.tolist()))
        for magnification in magnifications:
            if magnification not in MAGNIFICATIONS:
                raise UserError(
                    f"magnification {magnification} does not exist in BreaKHis: "
                    f"choose from {MAGNIFICATIONS_TEXT}."
                )
        chosen = self.take(np.isin(self.magnification, magnifications))
        if not len(chosen):
            raise UserError(
                f"no image has magnification {', '.join(map(str, magnifications))}: "
                f"this data set holds {', '.join(map(str, present))}."
            )
        return chosen

    def describe_left_out(self, chosen: Records) -> list[str]:
        """Returns a line about the images that :meth:`at_magnifications` left out, if any."""
        left_out = Counter(self.magnification.tolist())
        left_out.subtract(chosen.magnification.tolist())
        counts = ", ".join(f"{scale}X {left_out[scale]:,}" for scale in sorted(+left_out))
        if not counts:
            return []
        used = ", ".join(f"{scale}X" for scale in np.unique(chosen.magnification))
        return [
            f"left out: {left_out.total():,} images of other magnifications than {used} ({counts})"
        ]


_TYPES: dict[str, type] = {
    field.name: int if field.name in ("magnification", "label", "row") else str
    for field in dataclasses.fields(Records)
}
