"""Reads tables also as a spreadsheet program has saved them again."""

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
        content: of the file. A spreadsheet's "Unicode text" is UTF-16.
        errors: what to do with other bytes, see :meth:`bytes.decode`.

    Raises:
        ValueError: bytes are not of that encoding.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    text = content.decode("utf-8-sig", errors)
    # Excel's "CSV (Macintosh)" ends lines as computers of that name once did.
    return text if "\n" in text else text.replace("\r", "\n")


def table_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    r"""Yields the cells of each line of a table, with the number of the line, the header first.

    The separator is the comma, semicolon or tab that divides the header into most columns. Lines
    whose cells are all empty are left out, and so are empty columns behind the last header. Spaces
    around cells are left out where the header has some too: a file's name may begin with one.

    >>> list(table_lines("sep=;\nfile;role;\na.png;test;\n;;\n"))
    [(2, ['file', 'role']), (3, ['a.png', 'test'])]

    Raises:
        LineError: a line is malformed.
    """
    told = re.match(r"\s*sep=([,;\t])\r?\n", text, re.IGNORECASE)
    header = text.lstrip().partition("\n")[0]
    width = 0
    padded = False
    reader = None
    try:
        separator = told[1] if told else max(_SEPARATORS, key=lambda one: _columns(header, one))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for cells in reader:
            stripped = [cell.strip(" ") for cell in cells]
            if not any(stripped) or (told and not width and stripped[0].lower() == "sep="):
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
        ValueError: it is no number.
    """
    if "_" in text:  # which Python takes for a thousands separator
        raise ValueError(f"{text!r} is no number")
    return float(text.replace(",", ".", 1))


def _columns(header: str, separator: str) -> int:
    return len(next(csv.reader([header], delimiter=separator), []))
