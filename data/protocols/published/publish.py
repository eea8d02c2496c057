"""Writes the leak table and the ``split.csv`` files of the published splits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from data.breakhis.filenames import parse
from data.breakhis.official import official_names
from data.protocols.published.assignment import image_roles
from data.protocols.published.leak_table import COLUMNS, Leaks, all_leaks
from data.protocols.split_file import write_split
from data.records import Records
from se_resnet.runs.run_files import EXCLUDED, SPLIT
from se_resnet.runtime.tables import write_table

TABLE = "published.csv"


def split_path(found: Leaks) -> str:
    """Returns the place of a ``split.csv``, for example ``authors/fold0/repaired/split.csv``."""
    fold = [f"fold{found.fold}"] if len(found.split.folds) > 1 else []
    version = ["repaired"] if found.repaired else []
    return "/".join([found.split.name, *fold, *version, SPLIT])


def files() -> list[str]:
    """Returns the files that :func:`write` writes, relative to its folder."""
    return [*map(split_path, all_leaks()), TABLE]


def write(folder: Path) -> list[Leaks]:
    """Writes the leak table and the images of every split with their roles.

    Args:
        folder: an existing folder.

    Returns:
        The counts in the table.
    """
    leaks, records = all_leaks(), official_records()
    for found in leaks:
        roles = image_roles(records, found.split, found.fold, found.repaired)
        path = folder / split_path(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_split(path, records.take(roles != EXCLUDED), roles[roles != EXCLUDED])
    write_table(folder / TABLE, [found.row() for found in leaks], COLUMNS)
    return leaks


@cache
def official_records() -> Records:
    """Returns all 7,909 images by name. Without the pixels, ``digest`` is empty."""
    return Records.from_rows(
        {**parse(name).columns(), "digest": "", "row": row}
        for row, name in enumerate(official_names())
    )
