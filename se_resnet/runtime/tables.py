"""Reads and writes CSV tables with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_resnet.runtime.csv_dialect import LineError as LineError
from se_resnet.runtime.csv_dialect import decode_table, table_lines
from se_resnet.runtime.files import SMALL_FILE_BYTES, atomic_write, read_small_file


def read_table(
    path: str | Path,
    columns: Sequence[str],
    *,
    errors: str = "strict",
    limit: int = SMALL_FILE_BYTES,
) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a CSV table with a header, each with the number of its line.

    Args:
        path: path of the file, which a spreadsheet program may have saved again.
        columns: names that the header must have. The rows hold the other columns too.
        errors: how to treat bytes that are not UTF-8, see :meth:`bytes.decode`.
        limit: largest size of the file in bytes.

    Raises:
        OSError: the file is missing or cannot be read.
        LineError: the header lacks a column or has it twice, or a line is malformed.
        ValueError: the file is not a regular file, too large, or not UTF-8.
    """
    lines = table_lines(decode_table(read_small_file(path, limit), errors))
    header_line, header = next(lines, (1, []))
    if missing := [name for name in columns if header.count(name) != 1]:
        problem = "has twice" if missing[0] in header else "lacks"
        needed = ", ".join(columns)
        raise LineError(
            header_line,
            f"the header {problem} the column {missing[0]!r}: {needed} are needed, between commas",
        )
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise LineError(number, f"{len(cells)} values instead of {len(header)}")
        rows.append((number, dict(zip(header, cells, strict=True))))
    return rows


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes rows as a CSV table; an existing file is replaced at once.

    Args:
        path: of the file.
        rows: values by column.
        columns: names of the columns in order.
    """
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
