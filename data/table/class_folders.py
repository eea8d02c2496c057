"""Makes the rows of a table from a tree whose folders name the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from data.table.columns import FILE_IS_PATIENT
from se_resnet.errors import UserError, with_items
from se_resnet.images.decode import SUFFIXES
from se_resnet.predict.patients import patient_of
from se_resnet.runtime.walk import PassedOver, printable, walk


def rows_of_tree(
    folder: Path,
    classes: Mapping[str, int],
    patterns: Mapping[str, str],
    passed_over: PassedOver,
) -> list[dict[str, str]]:
    """Returns a row for each image below the class folders of a tree.

    Args:
        folder: the tree.
        classes: 0 or 1 by the name of a class folder, which may lie at any depth. Upper and lower
            case do not matter.
        patterns: regular expressions by column, whose first group is the value: ``patient``, which
            each image must match or which is ``file``, and others that need not match.
        passed_over: counts the files that are no images or lie outside the class folders.

    Returns:
        Rows with ``file`` (relative to ``folder``), ``label``, the columns of ``patterns``, and
        ``subtype`` (the class folder) where several folders mean one class.

    Raises:
        UserError: the folder cannot be read, there is no image in a class folder, an image lies in
            folders of both classes, or an image matches no patient.
    """
    by_name = {name.lower(): (name, label) for name, label in classes.items()}
    try:
        listing = walk(folder, passed_over)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): give a folder.") from error
    with_subtype = len(classes) > 2
    rows, problems = [], []
    for file in listing.files:
        if not file.lower().endswith(SUFFIXES):
            passed_over.add_suffix(file)
            continue
        found = [by_name[part.lower()] for part in _folders(file) if part.lower() in by_name]
        if not found:
            passed_over.add("images outside the class folders", file)
            continue
        if len({label for _, label in found}) > 1:
            problems.append(f"{printable(file)} lies in folders of both classes")
            continue
        name, label = found[-1]
        row = {"file": file, "label": str(label)}
        row |= {column: _value(file, pattern) for column, pattern in patterns.items()}
        if not row["patient"]:
            problems.append(f"{printable(file)} does not match --patient")
            continue
        rows.append(row | ({"subtype": name} if with_subtype else {}))
    if problems:
        images = "image" if len(problems) == 1 else "images"
        sentence = f"{len(problems):,} {images} of {folder} cannot be listed:"
        raise UserError(with_items(sentence, problems))
    if not rows:
        raise UserError(
            f"{folder} has no image in a folder named {' or '.join(classes)}: name the class "
            "folders by --positive and --negative"
            + (f"; not looked at: {passed_over.describe()}." if passed_over else ".")
        )
    return rows


def _folders(file: str) -> Sequence[str]:
    return PurePosixPath(file).parts[:-1]


def _value(file: str, pattern: str) -> str:
    return file if pattern == FILE_IS_PATIENT else patient_of(file, pattern)
