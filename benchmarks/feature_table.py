"""Features of images that were made elsewhere: an array, and a table that names the images."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import Dataset
from data.records import Records
from se_resnet.errors import UserError, with_items
from se_resnet.images.image_location import written_path
from se_resnet.images.image_table import read_rows
from se_resnet.runtime.files import reason

_REMEDY = "save an array of [images, features] by numpy.save"


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Features of N images.

    Attributes:
        path: of the array.
        list_path: of the table of names.
        file: ``str [N]``, names of the images, all different.
        values: ``float32 [N, D]``, finite.
    """

    path: Path
    list_path: Path
    file: np.ndarray
    values: np.ndarray

    @classmethod
    def read(cls, path: Path, list_path: Path) -> FeatureTable:
        """Reads both files.

        Args:
            path: a ``.npy`` file of ``float16``, ``float32`` or ``float64`` numbers, ``[N, D]``.
            list_path: a CSV, TSV or Parquet file. Its column ``file`` names the image of each row
                of the array, in the same order. Other columns are not read.

        Raises:
            UserError: a file cannot be read, the array has another form or holds a number that is
                not finite, the numbers of rows differ, or an image is named twice.
        """
        values = _read_values(path)
        rows = read_rows(list_path, ("file",))
        if len(rows) != len(values):
            raise UserError(
                f"{path} has {len(values):,} rows, and {list_path} names {len(rows):,} images: "
                "name the image of each row, in the same order."
            )
        lines: dict[str, int] = {}
        for number, row in rows:
            name = written_path(row["file"])
            if not name:
                raise UserError(f"line {number} of {list_path} names no image: write its name.")
            if name in lines:
                raise UserError(
                    f"lines {lines[name]} and {number} of {list_path} both name {name}: keep one "
                    f"row of each image, there and in {path}."
                )
            lines[name] = number
        return cls(path, list_path, np.array(list(lines)), values)

    def of(self, dataset: Dataset) -> FeatureTable:
        """Returns the table with the names that a data set gives to its images.

        An image of BreaKHis is named by its file name, in any folder.

        Args:
            dataset: all images, of all magnifications.

        Raises:
            UserError: an image has no row, or a row has no image. The message lists the names.
        """
        file = self.file
        if dataset.source.is_breakhis:
            file = np.array([name.rpartition("/")[2] for name in file.tolist()])
        known = dataset.records.file
        if missing := sorted({*known.tolist()} - {*file.tolist()}):
            sentence = (
                f"{len(missing):,} of {len(known):,} images have no row in {self.list_path}: "
                f"add their names there and their features to {self.path}."
            )
            raise UserError(with_items(sentence, missing))
        if unknown := sorted({*file.tolist()} - {*known.tolist()}):
            sentence = (
                f"{len(unknown):,} of {len(file):,} rows of {self.list_path} name no image of the "
                f"data set: remove the rows, there and in {self.path}."
            )
            raise UserError(with_items(sentence, unknown))
        if len(set(file.tolist())) < len(file):
            raise UserError(
                f"{self.list_path} names an image of BreaKHis in two folders: keep one row of each "
                f"image, there and in {self.path}."
            )
        return dataclasses.replace(self, file=file)

    def values_of(self, records: Records) -> np.ndarray:
        """Returns the features of these images, which all have a row: ``float32 [M, D]``."""
        row_of = {name: row for row, name in enumerate(self.file.tolist())}
        return self.values[[row_of[name] for name in records.file.tolist()]]

    def facts(self) -> dict[str, Any]:
        """Returns name, size and identity for ``config.json``.

        ``sha256`` is that of names and features in the order of the names, so that a table in
        another order counts as the same.
        """
        order = np.argsort(self.file)
        digest = hashlib.sha256("\n".join(self.file[order].tolist()).encode())
        digest.update(np.ascontiguousarray(self.values[order]).tobytes())
        return {
            "name": self.path.name,
            "dimensions": self.values.shape[1],
            "sha256": digest.hexdigest(),
        }


def _read_values(path: Path) -> np.ndarray:
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file: {_REMEDY}.")
    try:
        # Pickled objects are refused: reading them would run their code.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give the .npy file of the features.") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): {_REMEDY}.") from error
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path} holds several arrays: {_REMEDY}.")
    if values.dtype.kind != "f":
        raise UserError(
            f"{path} holds {values.dtype} instead of floating-point numbers: {_REMEDY}."
        )
    if values.ndim != 2 or not values.size:
        raise UserError(f"{path} has the shape {list(values.shape)}: {_REMEDY}.")
    with np.errstate(over="ignore"):
        values = np.array(values, np.float32)
    if not (finite := np.isfinite(values)).all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise UserError(
            f"{path} holds {int((~finite).sum()):,} values that are no finite float32 number, the "
            f"first in row {row}, column {column}, counted from 0: compute the features again."
        )
    return values
