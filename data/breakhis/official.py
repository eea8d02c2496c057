"""The official content of BreaKHis: 82 slides, 70 accessions, 7,909 images, five folds."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from se_resnet.metrics.labels import MAGNIFICATIONS

_TABLE = Path(__file__).with_name("slides.csv")


@cache
def slide_table() -> tuple[dict[str, str], ...]:
    """Returns a dict for each of the 82 slides.

    Keys: ``slide``, ``subtype``, ``accession``. ``n40`` to ``n400``: number of images at each
    magnification. ``fold1`` to ``fold5``: ``train`` or ``test`` in the authors' folds (Spanhol et
    al. 2016). ``sequence40`` to ``sequence400``: sequence numbers of the images as ranges, for
    example ``1-20 22`` for 1 to 20 and 22, because some slides skip numbers.
    """
    with _TABLE.open(newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def official_names() -> tuple[str, ...]:
    """Returns the 7,909 official file names, sorted."""
    return tuple(
        sorted(
            f"{row['slide']}-{magnification}-{sequence:03d}.png"
            for row in slide_table()
            for magnification in MAGNIFICATIONS
            for sequence in _expand(row[f"sequence{magnification}"])
        )
    )


def _expand(ranges: str) -> list[int]:
    """Returns the numbers in ranges: ``1-3 5`` gives 1, 2, 3, 5."""
    numbers: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers
