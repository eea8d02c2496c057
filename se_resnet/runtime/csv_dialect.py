"""Parses CSV tables, also those that a spreadsheet program has saved."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator

_SEPARATORS = ",;\t"


class LineError(ValueError):
    """A line of a table that cannot be used; the message begins with its number."""

    def __init__(self, number: int, problem: object):
        super().__init__(f"line {number}: {problem}")


def decode_table(content: bytes, errors: str = "strict") -> str:
    """Returns the text of a table: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Args:
        content: bytes of the file. A spreadsheet's "Unicode text" is UTF-16.
        errors: how to treat other bytes, see :meth:`bytes.decode`.

    Raises:
        ValueError: the bytes have another encoding.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    text = content.decode("utf-8-sig", errors)
    # Excel's "CSV (Macintosh)" ends lines with a carriage return.
    return text if "\n" in text else text.replace("\r", "\n")


def table_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    r"""Yields the cells of each line of a table, with the number of the line, the header first.

    The separator is the comma, semicolon or tab that divides the header into most columns. Lines
    whose cells are all empty are left out. So are empty columns after the last header. Spaces
    around cells are removed if the header has such spaces too: a file name may begin with a space.

    >>> list(table_lines("sep=;\nfile;role;\na.png;test;\n;;\n"))
    [(2, ['file', 'role']), (3, ['a.png', 'test'])]

    Raises:
        LineError: a line is malformed.
    """
    declared = re.match(r"\s*sep=([,;\t])\r?\n", text, re.IGNORECASE)
    header = text.lstrip().partition("\n")[0]
    width = 0
    padded = False
    reader = None
    try:
        separator = (
            declared[1] if declared else max(_SEPARATORS, key=lambda mark: _columns(header, mark))
        )
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for cells in reader:
            stripped = [cell.strip(" ") for cell in cells]
            if not any(stripped) or (declared and not width and stripped[0].lower() == "sep="):
                continue
            padded = padded if width else cells != stripped
            cells = stripped if padded else cells
            while len(cells) > width and not stripped[len(cells) - 1]:
                cells.pop()
            width = width or len(cells)
            yield reader.line_num, cells
    except csv.Error as error:
        raise LineError(max(reader.line_num, 1) if reader else 1, error) from error


def parse_number(text: str) -> float:
    """Returns a number written with a point or, as in many languages, with a comma.

    >>> parse_number("0,25")
    0.25

    Raises:
        ValueError: the text is not a number.
    """
    if "_" in text:  # Python would accept it as a thousands separator
        raise ValueError(f"{text!r} is no number")
    return float(text.replace(",", ".", 1))


def _columns(header: str, separator: str) -> int:
    return len(next(csv.reader([header], delimiter=separator), []))
