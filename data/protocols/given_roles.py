"""Roles that the user gives: by a column of the table of images, or by a table of their own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.records import Records
from se_resnet.errors import UserError
from se_resnet.images.image_location import written_path
from se_resnet.runs.run_files import EXCLUDED, ROLES, TEST, TRAIN, read_split
from se_resnet.runtime.paths import local_path

_NEEDED = "config.split.protocol = 'table'"


def given_roles(records: Records, path: str, folds: int, fold: int) -> np.ndarray:
    """Returns the roles that a table gives, without a validation set where it has none.

    Args:
        records: N images.
        path: a table with the columns ``file`` and ``role``; empty for the column ``role`` or
            ``fold`` of the table of images.
        folds: number of folds that the column ``fold`` must have.
        fold: number of the test fold, from 0, in the order of the values of that column.

    Returns:
        ``str [N]``: ``train``, ``val``, ``test``, or ``excluded`` for an image without a role.

    Raises:
        UserError: there are no roles, a role is unknown, or the folds are not those configured.
    """
    if path:
        require_single(path, fold)
        return _listed_roles(records, path)
    columns = [name for name in ("role", "fold") if name in records.extra]
    if not columns:
        raise UserError(
            f"{_NEEDED} needs a column 'role' or 'fold' in the table of images: add it, or name a "
            "table with the columns file and role by config.split.file."
        )
    if len(columns) > 1:
        raise UserError(
            f"{_NEEDED} finds both columns, 'role' and 'fold', in the table of images: rename the "
            "one that is not to be used."
        )
    if columns[0] == "role":
        require_single("the column 'role'", fold)
        return _checked(records, records.extra["role"])
    return _fold_roles(records.extra["fold"], folds, fold)


def require_single(source: str, fold: int) -> None:
    """Raises a :class:`UserError` if a fold other than the first is asked of one division."""
    if fold:
        raise UserError(
            f"config.split.fold = {fold} does not exist: {source} holds one division, fold 0."
        )


def match_files(names: Iterable[str], records: Records) -> list[str]:
    """Returns for each name the file of the image that it means; empty if there is none.

    A name is a file as the records have it, or its last part where that is unique.
    """
    files = set(records.file.tolist())
    last_parts = Counter(_last_part(file) for file in files)
    by_last_part = {_last_part(file): file for file in files}
    found = []
    for name in names:
        path = written_path(name)
        last = _last_part(path)
        unique = by_last_part[last] if last_parts[last] == 1 else ""
        found.append(path if path in files else unique)
    return found


def _last_part(path: str) -> str:
    # Official names end in .png in lower case.
    return re.sub(r"\.png$", ".png", path.rsplit("/", 1)[-1], flags=re.IGNORECASE)


def read_roles_table(path: str) -> list[dict[str, str]]:
    """Returns the rows of ``config.split.file``, a table with the columns ``file`` and ``role``.

    Raises:
        UserError: the table is missing or broken, or a role is unknown.
    """
    return read_split(Path(local_path(path, "config.split.file =")), ("file", "role"))


def _listed_roles(records: Records, path: str) -> np.ndarray:
    rows = read_roles_table(path)
    files = match_files([row["file"] for row in rows], records)
    if not any(files):
        raise UserError(
            f"{path} lists none of these images, for example {rows[0]['file'] if rows else ''!r}: "
            "give a table whose column file has their names."
        )
    role_of = {}
    for file, row in zip(files, rows, strict=True):
        if file and file in role_of:
            raise UserError(f"{path} lists {file} twice: keep one line for each image.")
        role_of[file] = row["role"]
    roles = [role_of.get(file, EXCLUDED) for file in records.file.tolist()]
    return np.array(roles, dtype="<U8")


def _checked(records: Records, column: np.ndarray) -> np.ndarray:
    known = (*ROLES, EXCLUDED, "")
    for file, role in zip(records.file.tolist(), column.tolist(), strict=True):
        if role not in known:
            raise UserError(
                f"the role {role[:40]!r} of {file} is unknown: write {', '.join(ROLES)} or "
                f"{EXCLUDED} into the column role, or nothing."
            )
    return np.where(column == "", EXCLUDED, column).astype("<U8")


def _fold_roles(column: np.ndarray, folds: int, fold: int) -> np.ndarray:
    values = _in_order(sorted(set(column.tolist()) - {""}))
    if len(values) != folds:
        raise UserError(
            f"the column fold of the table has {len(values)} values "
            f"({', '.join(values[:10])}), but config.split.folds = {folds}: set "
            f"config.split.folds={len(values)}."
        )
    roles = np.where(column == values[fold], TEST, TRAIN)
    return np.where(column == "", EXCLUDED, roles).astype("<U8")


def _in_order(values: Sequence[str]) -> list[str]:
    """Returns numbers in the order of numbers, other text in the order of letters."""
    if all(value.isdecimal() for value in values):
        return sorted(values, key=int)
    return sorted(values)
