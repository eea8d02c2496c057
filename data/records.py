"""The table that describes a set of images: one row per image, no pixels."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.labels import MAGNIFICATIONS, magnification_name
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.run_files import SYNTHETIC_PREFIX as SYNTHETIC_PREFIX
from se_resnet.runtime.files import atomic_write
from se_resnet.runtime.tables import read_table


@dataclasses.dataclass(frozen=True)
class Records:
    """Columns of equal length N, sorted by file name.

    Attributes:
        file: ``str [N]``, unique: the official file name, or the file as a table names it.
        slide: ``str [N]``, for example the slide folder ``SOB_B_A-14-22549AB``.
        accession: ``str [N]``, the patient: in BreaKHis year and accession number, for example
            ``14-22549``.
        magnification: ``int [N]``, for example 200; 0 means not known.
        subtype: ``str [N]``, in BreaKHis A, F, PT, TA (benign), DC, LC, MC or PC (malignant); an
            empty string means not known.
        label: ``int [N]``, 0 benign, 1 malignant.
        digest: ``str [N]``, SHA-256 of the decoded original pixels, equal for the same image.
        row: ``int [N]``, index of the image in the pixel array.
        extra: ``str [N]`` by name: the further columns of a table, for example ``site``.
    """

    file: np.ndarray
    slide: np.ndarray
    accession: np.ndarray
    magnification: np.ndarray
    subtype: np.ndarray
    label: np.ndarray
    digest: np.ndarray
    row: np.ndarray
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file)

    def take(self, index: np.ndarray) -> Records:
        """Returns the rows at ``index``, an ``int [M]`` or ``bool [N]`` array."""
        columns = {name: getattr(self, name)[index] for name in _TYPES}
        return Records(**columns, extra={name: self.extra[name][index] for name in self.extra})

    def first_copies(self) -> np.ndarray:
        """Returns one index for each content, ``int [M]``, sorted, so that no copy counts twice."""
        return np.sort(np.unique(self.digest, return_index=True)[1])

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the arrays by column name, in the order of the CSV file."""
        return {**{name: getattr(self, name) for name in _TYPES}, **self.extra}

    @property
    def is_synthetic(self) -> np.ndarray:
        """Marks images that are blends of other images, by file name: ``bool [N]``."""
        return np.char.startswith(self.file, SYNTHETIC_PREFIX)

    @classmethod
    def from_rows(cls, rows: Iterable[dict]) -> Records:
        """Builds the table from dicts with one value per column. Sorts by file name.

        Columns that are no attribute of the class become ``extra``.
        """
        ordered = sorted(rows, key=lambda row: row["file"])
        columns = {
            name: np.array(
                [kind(row[name]) for row in ordered], np.int64 if kind is int else np.str_
            )
            for name, kind in _TYPES.items()
        }
        others = [name for name in (ordered[0] if ordered else ()) if name not in _TYPES]
        extra = {name: np.array([row[name] for row in ordered], np.str_) for name in others}
        return cls(**columns, extra=extra)

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
        # A prediction has a role and a fold of its own.
        extra = {name: self.extra[name] for name in self.extra if name not in ("role", "fold")}
        return Predictions(**columns, probability=probability, extra=extra)

    def at_magnifications(self, magnifications: tuple[int, ...]) -> Records:
        """Returns the images of these magnifications; an empty tuple means all images.

        Raises:
            UserError: a magnification does not exist, or no image has one of them.
        """
        if not magnifications:
            return self
        present = sorted(set(self.magnification.tolist()))
        for magnification in magnifications:
            if magnification not in (*MAGNIFICATIONS, *present):
                raise UserError(
                    f"magnification {magnification} does not exist here: this data set holds "
                    f"{', '.join(map(str, present))}."
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
        counts = ", ".join(
            f"{magnification_name(scale)} {left_out[scale]:,}" for scale in sorted(+left_out)
        )
        if not counts:
            return []
        used = ", ".join(map(magnification_name, np.unique(chosen.magnification).tolist()))
        return [
            f"left out: {left_out.total():,} images of other magnifications than {used} ({counts})"
        ]


_TYPES: dict[str, type] = {
    field.name: int if field.name in ("magnification", "label", "row") else str
    for field in dataclasses.fields(Records)
    if field.name != "extra"
}
