"""Reads the rows of a table that lists images: a CSV, TSV or Parquet file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError
from se_resnet.runtime.csv_dialect import LineError, decode_table, table_lines
from se_resnet.runtime.files import read_small_file, reason

SUFFIXES = (".csv", ".tsv", ".parquet")
MAX_ROWS = 1_000_000
MAX_BYTES = 2**28
_MAX_CELL = 4096  # characters; file systems limit paths to as many bytes
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_table(path: str | Path) -> bool:
    """Returns whether a path has the suffix of a table and is not a folder."""
    try:
        return Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()
    except (OSError, ValueError):
        return False


def read_rows(path: Path, needed: Iterable[str] = ("file",)) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a table as text, each with the number of its line.

    A CSV file may have commas, semicolons or tabs between its columns, and may have been saved by a
    spreadsheet program. The names of columns lose spaces at both ends. Spaces at the ends of cells
    are removed.

    Args:
        path: path of the table.
        needed: columns that the table must have.

    Raises:
        UserError: the file is missing or cannot be read, has no row or more than ``MAX_ROWS``,
            lacks a column or has a column twice, or a line is malformed. A cell that holds a
            formula or a control character is malformed.
    """
    try:
        lines = _parquet_lines(path) if path.suffix.lower() == ".parquet" else _text_lines(path)
        rows = list(_rows(lines, tuple(needed)))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give the path of a table of images.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: save the table as 'CSV UTF-8'.") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"the table {path} cannot be read ({reason(error)}): correct it."
        ) from error
    if not rows:
        raise UserError(f"the table {path} has no row: list an image on each line.")
    return rows


def _text_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    return table_lines(decode_table(read_small_file(path, MAX_BYTES)))


def _parquet_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the header and the rows of a Parquet file, numbered like the lines of a CSV file."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{path} needs pyarrow to be read: install pyarrow, or save the table as CSV."
        ) from error
    with path.open("rb"):  # a missing file is reported as such
        pass
    try:
        table = pyarrow.parquet.ParquetFile(path)
        if table.metadata.num_rows > MAX_ROWS:
            raise _too_many(2)
        content = table.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"it is no Parquet file: {reason(error)}") from error
    yield 1, list(content.column_names)
    columns = (column.to_pylist() for column in content.columns)
    for number, row in enumerate(zip(*columns, strict=True), 2):
        yield number, [_text(value) for value in row]


def _text(value: Any) -> str:
    """Returns a value of a Parquet file as a CSV file would have it."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _rows(
    lines: Iterator[tuple[int, list[str]]], needed: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    header_line, header = next(lines, (1, []))
    header = [name.strip() for name in header]
    for name in needed:
        if name not in header:
            raise LineError(
                header_line, f"the header lacks the column {name!r}; it has {', '.join(header)}"
            )
    for name in header:
        if header.count(name) > 1:
            raise LineError(header_line, f"the header has the column {name!r} twice")
        if not name and len(header) > 1:
            raise LineError(header_line, "a column has no name")
    for count, (number, cells) in enumerate(lines, 1):
        if count > MAX_ROWS:
            raise _too_many(number)
        if len(cells) != len(header):
            raise LineError(number, f"{len(cells)} values instead of {len(header)}")
        cells = [cell.strip() for cell in cells]
        for name, cell in zip(header, cells, strict=True):
            if problem := _cell_problem(cell):
                raise LineError(number, f"the value of {name!r} {problem}")
        yield number, dict(zip(header, cells, strict=True))


def _too_many(number: int) -> LineError:
    return LineError(number, f"the table has more than {MAX_ROWS:,} rows")


def _cell_problem(cell: str) -> str:
    if cell.startswith("="):
        return f"is the formula {cell[:40]!r}: save the table with values"
    if len(cell) > _MAX_CELL:
        return f"is longer than {_MAX_CELL:,} characters"
    if _CONTROL.search(cell):
        return f"holds a control character: {cell[:40]!r}"
    return ""
