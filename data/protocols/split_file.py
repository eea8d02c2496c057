"""Roles of images as a table: ``split.csv``, of a run or made by a user."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data.protocols.audit import UNASSIGNED
from data.records import SYNTHETIC_PREFIX, Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import EXCLUDED, read_split
from se_resnet.runtime.files import atomic_write


def write_split(path: Path, records: Records, roles: np.ndarray) -> None:
    """Writes ``split.csv``: file, slide, accession, magnification, subtype, label, role."""
    names = ("file", "slide", "accession", "magnification", "subtype", "label")
    columns = [getattr(records, name).tolist() for name in names]
    with atomic_write(path) as file:
        writer = csv.writer(file)
        writer.writerow([*names, "role"])
        writer.writerows(zip(*columns, roles.tolist(), strict=True))


def read_roles(path: Path, records: Records) -> np.ndarray:
    """The roles that ``split.csv`` gives these images: ``str [N]``, ``excluded`` if not listed."""
    role_of = {line["file"]: line["role"] for line in read_split(path)}
    return np.array([role_of.get(name, EXCLUDED) for name in records.file.tolist()], dtype="<U8")


def own_roles(
    lines: Iterable[Mapping[str, str]], records: Records, path: str
) -> tuple[np.ndarray, Mapping[str, int]]:
    """The roles that the lines of anybody's ``split.csv`` give these images.

    Args:
        lines: with ``file``, a name with or without folders, and ``role``.
        records: all images of the data set.
        path: of the file, for messages.

    Returns:
        ``str [N]``, ``unassigned`` where no line lists an image; and how many synthetic images,
        told by their names, are listed in each role without the data set holding them.

    Raises:
        UserError: an image is listed twice or not in the data set.
    """
    role_of: dict[str, str] = {}
    for line in lines:
        name = (line["file"] or "").replace("\\", "/").rsplit("/", 1)[-1]
        name = re.sub(r"\.png$", ".png", name, flags=re.IGNORECASE)  # as records have it
        if name in role_of:
            raise UserError(f"{path} lists {name} twice: keep one line for each image.")
        role_of[name] = line["role"]
    absent = sorted(role_of.keys() - set(records.file.tolist()))
    unknown = [name for name in absent if not name.startswith(SYNTHETIC_PREFIX)]
    if unknown:
        raise UserError(
            f"{path} lists images that the data set does not hold, {len(unknown):,} in all, for "
            f"example {unknown[0]!r}: give the --data_dir that holds them or remove their lines."
        )
    roles = [role_of.get(name, UNASSIGNED) for name in records.file.tolist()]
    return np.array(roles, dtype="<U10"), Counter(role_of[name] for name in absent)
