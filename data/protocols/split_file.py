"""Reads and writes ``split.csv``, the table of roles, by a run or by a user."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data.protocols.audit import UNASSIGNED
from data.protocols.given_roles import match_files
from data.records import SYNTHETIC_PREFIX, Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import EXCLUDED, read_split
from se_resnet.runtime.files import atomic_write


def write_split(path: Path, records: Records, roles: np.ndarray) -> None:
    """Writes ``split.csv``: file, slide, accession, magnification, subtype, label, role.

    Further columns of a table of images stand before the role.
    """
    names = ["file", "slide", "accession", "magnification", "subtype", "label"]
    names += [name for name in records.extra if name != "role"]
    columns = [records.columns()[name].tolist() for name in names]
    with atomic_write(path) as file:
        writer = csv.writer(file)
        writer.writerow([*names, "role"])
        writer.writerows(zip(*columns, roles.tolist(), strict=True))


def read_roles(path: Path, records: Records) -> np.ndarray:
    """Returns the roles of these images in ``split.csv``, ``excluded`` if not listed."""
    role_of = {line["file"]: line["role"] for line in read_split(path)}
    return np.array([role_of.get(name, EXCLUDED) for name in records.file.tolist()], dtype="<U8")


def user_roles(
    lines: Iterable[Mapping[str, str]], records: Records, path: str
) -> tuple[np.ndarray, Mapping[str, int]]:
    """Returns the roles of these images in the ``split.csv`` of a user.

    Args:
        lines: rows with ``file``, a name with or without folders, and ``role``.
        records: all images of the data set.
        path: path of the file, for messages.

    Returns:
        ``str [N]``, ``unassigned`` for an image that is not listed; and the number of synthetic
        images by role, recognised by name, that are listed but not in the data set.

    Raises:
        UserError: an image is listed twice or is not in the data set.
    """
    role_of: dict[str, str] = {}
    lines = list(lines)
    files = match_files([line["file"] or "" for line in lines], records)
    for line, file in zip(lines, files, strict=True):
        name = file or (line["file"] or "").replace("\\", "/").rsplit("/", 1)[-1]
        if name in role_of:
            raise UserError(f"{path} lists {name} twice: keep one line for each image.")
        role_of[name] = line["role"]
    absent = sorted(role_of.keys() - set(records.file.tolist()))
    unknown = [name for name in absent if not name.startswith(SYNTHETIC_PREFIX)]
    if unknown:
        raise UserError(
            f"{path} lists images that the data set lacks, {len(unknown):,} in all, for example "
            f"{unknown[0]!r}: give the --data_dir of these images or remove their lines."
        )
    roles = [role_of.get(name, UNASSIGNED) for name in records.file.tolist()]
    return np.array(roles, dtype="<U10"), Counter(role_of[name] for name in absent)
