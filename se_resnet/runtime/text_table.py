"""Formats rows of cells as a table of aligned columns, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def text_table(rows: Sequence[Sequence[Any]], align: str = "") -> list[str]:
    """Returns the lines of a table whose columns are two spaces apart.

    Args:
        rows: rows of equal length, the header first. Whole numbers get thousands separators.
        align: ``<`` or ``>`` for each column; by default a column of text alone is aligned to the
            left, any other to the right.

    >>> text_table([("class", "images"), ("benign", 2480)])
    ['class   images', 'benign   2,480']
    """
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    if not align:
        columns = zip(*rows, strict=True)
        align = "".join(
            "<" if all(isinstance(cell, str) for cell in column) else ">" for column in columns
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
