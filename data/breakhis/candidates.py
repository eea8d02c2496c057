"""Selects the BreaKHis images of a tree or an archive by their folders and names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from data.breakhis.filenames import CLASS_FOLDERS, ImageName, parse
from data.problems import Problem
from se_resnet.images.decode import SUFFIXES
from se_resnet.runtime.walk import PassedOver, printable

OUTSIDE = "images outside the class folders"
UNNAMED = "images whose names state no class"

# Files with these suffixes count as images, so that an unusable file is listed with its reason.
_SUFFIXES = (*SUFFIXES, ".gif")
_CLASSES = frozenset(CLASS_FOLDERS.values())
_MAGNIFICATION = re.compile(r"([0-9]+)X", re.IGNORECASE)


def tree_of(folder: str) -> str | None:
    """Returns the parent folder of the topmost class folder in a path, None without one.

    >>> tree_of("train/Benign/40X")
    'train'
    """
    parts = folder.split("/")
    for index, part in enumerate(parts):
        if part.lower() in _CLASSES:
            return "/".join(parts[:index])
    return None


def trees(folders: Iterable[str]) -> list[str]:
    """Returns the parent folders of class folders, without trees that lie inside another tree."""
    found = {tree for folder in folders if (tree := tree_of(folder)) is not None}
    return sorted(
        tree
        for tree in found
        if not any(_is_below(tree, other) for other in found if other != tree)
    )


def has_image_suffix(path: str) -> bool:
    """Returns whether a file has the suffix of an image."""
    return path.lower().endswith(_SUFFIXES)


def has_breakhis_name(path: str) -> bool:
    """Returns whether a file is named like a BreaKHis image."""
    return has_image_suffix(path) and PurePosixPath(path).name.startswith("SOB_")


def pass_over(path: str, flat: bool, passed_over: PassedOver) -> None:
    """Counts a file that is not a candidate.

    Args:
        path: path of the file.
        flat: whether images are identified only by name, because there are no class folders.
        passed_over: counts the file.
    """
    if has_image_suffix(path):
        passed_over.add(UNNAMED if flat else OUTSIDE, path)
    else:
        passed_over.add_suffix(path)


def check_name(path: str, first_path: dict[str, str], above: str = "") -> ImageName | Problem:
    """Parses a file name and compares it with the folders of the file.

    Args:
        path: path of the file, with ``/`` between folders.
        first_path: path of each image by its name; this file is added.
        above: name of the folder that ``path`` starts from. It counts if no folder of ``path``
            states a class, or a magnification.
    """
    *folders, file = PurePosixPath(path).parts
    try:
        name = parse(file)
    except ValueError as error:
        return Problem(path, str(error))
    expected = CLASS_FOLDERS[name.tumour_class]
    if (_classes(folders) or _classes([above])) - {expected}:
        return Problem(path, f"the name says {expected}, but the folder does not")
    magnifications = _magnifications(folders) or _magnifications([above])
    if other := magnifications - {name.magnification}:
        return Problem(
            path, f"the name says {name.magnification}X, but the folder says {min(other)}X"
        )
    if str(name) in first_path:
        return Problem(path, f"the same file name as {printable(first_path[str(name)])}")
    first_path[str(name)] = path
    return name


def _classes(folders: Sequence[str]) -> set[str]:
    return {folder.lower() for folder in folders} & _CLASSES


def _magnifications(folders: Sequence[str]) -> set[int]:
    found = (_MAGNIFICATION.fullmatch(folder) for folder in folders)
    return {int(match[1]) for match in found if match and len(match[1]) < 9}


def _is_below(tree: str, other: str) -> bool:
    return not other or tree.startswith(f"{other}/")
