"""Generated images with names of their own, and a table that lists them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_images(
    folder: Path, patients: int = 12, images: int = 3, size: tuple[int, int] = (24, 32)
) -> list[dict[str, Any]]:
    """Writes distinct JPEG images of patients, the first half benign; returns rows of a table."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(patients):
        label = int(patient >= patients // 2)
        for number in range(images):
            pixels = rng.integers(0, 156, (*size, 3), np.uint8) + np.uint8(100 * label)
            file = f"case{patient:02d}_{number}.jpg"
            cv2.imwrite(str(folder / file), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
            rows.append({"file": file, "label": label, "patient": f"case{patient:02d}"})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    """Writes the rows, whose first has all columns, and returns the path."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def own_table(folder: Path, **columns: Any) -> Path:
    """Writes images and ``images.csv``; each column is a function of the number of the row."""
    rows = write_images(folder)
    for number, row in enumerate(rows):
        row |= {name: value(number) for name, value in columns.items()}
    return write_table(folder / "images.csv", rows)
