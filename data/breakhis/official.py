"""The official contents of BreaKHis: 82 slides, 70 accessions, 7,909 images, five folds."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from se_resnet.metrics.labels import MAGNIFICATIONS

_TABLE = Path(__file__).with_name("slides.csv")


@cache
def slide_table() -> tuple[dict[str, str], ...]:
    """The 82 slides, one dictionary each.

    ``slide``, ``subtype``, ``accession``; ``n40`` .. ``n400``: images at each magnification;
    ``fold1`` .. ``fold5``: ``train`` or ``test`` in the authors' folds (Spanhol et al. 2016);
    ``sequence40`` .. ``sequence400``: the images' sequence numbers as ranges, ``1-20 22`` for 1
    to 20 and 22, because some slides skip numbers.
    """
    with _TABLE.open(newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def official_names() -> tuple[str, ...]:
    """The 7,909 official file names, sorted."""
    return tuple(
        sorted(
            f"{row['slide']}-{magnification}-{sequence:03d}.png"
            for row in slide_table()
            for magnification in MAGNIFICATIONS
            for sequence in _expand(row[f"sequence{magnification}"])
        )
    )


def _expand(ranges: str) -> list[int]:
    """``1-3 5`` gives 1, 2, 3, 5."""
    numbers: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers
