"""Reads the CSV tables of a run: ``split.csv`` and ``predictions.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from se_resnet.files import SMALL_FILE_BYTES, read_small_file


class LineError(ValueError):
    """A line of a table that cannot be used; the message begins with its number."""

    def __init__(self, number: int, problem: object):
        super().__init__(f"line {number}: {problem}")


def read_table(
    path: str | Path, columns: Sequence[str], *, errors: str = "strict"
) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a CSV table with a header, each with the number of its line.

    Args:
        path: of the file, in UTF-8 with or without a byte order mark; empty lines are skipped.
        columns: names that the header must have; the rows hold the others as well.
        errors: what to do with bytes that are not UTF-8, see :meth:`bytes.decode`.

    Raises:
        OSError: the file is missing or cannot be read.
        LineError: the header lacks a column or has it twice, or a line is malformed.
        ValueError: the file is not a regular file, too large, or not UTF-8.
    """
    text = read_small_file(path, SMALL_FILE_BYTES).decode("utf-8-sig", errors)
    lines = _lines(text)
    first, header = next(lines, (1, []))
    if missing := [name for name in columns if header.count(name) != 1]:
        problem = "has twice" if missing[0] in header else "lacks"
        needed = ", ".join(columns)
        raise LineError(
            first,
            f"the header {problem} the column {missing[0]!r}: {needed} are needed, between commas",
        )
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise LineError(number, f"{len(cells)} values instead of {len(header)}")
        rows.append((number, dict(zip(header, cells, strict=True))))
    return rows


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that is not empty; this is what tells the dialect."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise LineError(max(reader.line_num, 1), error) from error
