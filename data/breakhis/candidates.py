"""Selects the BreaKHis images of a tree or an archive by their folders and names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from data.breakhis.filenames import CLASS_FOLDERS, ImageName, parse
from se_resnet.images.decode import SUFFIXES
from se_resnet.runtime.walk import PassedOver, printable

OUTSIDE = "images outside the class folders"
UNNAMED = "images whose names tell no class"

# What people take for images, so that a file that cannot be used is listed with its reason.
_SUFFIXES = (*SUFFIXES, ".gif")
_CLASSES = frozenset(CLASS_FOLDERS.values())
_MAGNIFICATION = re.compile(r"([0-9]+)X", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why."""

    path: str
    reason: str

    def __post_init__(self) -> None:
        # A file name need not be text; the list of problems must be.
        readable = self.path.encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "path", readable)


def tree_of(folder: str) -> str | None:
    """Returns the folder that holds the topmost class folder of a path, None without one.

    >>> tree_of("train/Benign/40X")
    'train'
    """
    parts = folder.split("/")
    for index, part in enumerate(parts):
        if part.lower() in _CLASSES:
            return "/".join(parts[:index])
    return None


def trees(folders: Iterable[str]) -> list[str]:
    """Returns the folders that hold class folders, without those that lie below another such."""
    found = {tree for folder in folders if (tree := tree_of(folder)) is not None}
    return sorted(
        tree
        for tree in found
        if not any(_is_below(tree, other) for other in found if other != tree)
    )


def has_image_suffix(path: str) -> bool:
    """Returns whether a file has the suffix of an image."""
    return path.lower().endswith(_SUFFIXES)


def is_named_alike(path: str) -> bool:
    """Returns whether a file outside class folders is named as a BreaKHis image."""
    return has_image_suffix(path) and PurePosixPath(path).name.startswith("SOB_")


def pass_over(path: str, flat: bool, passed_over: PassedOver) -> None:
    """Accounts for a file that is no candidate.

    Args:
        path: of the file.
        flat: whether names alone identify images, because there are no class folders.
        passed_over: takes it.
    """
    if has_image_suffix(path):
        passed_over.add(UNNAMED if flat else OUTSIDE, path)
    else:
        passed_over.add_suffix(path)


def check_name(path: str, first_path: dict[str, str], above: str = "") -> ImageName | Problem:
    """Parses a file's name and checks it against the folders that the file lies in.

    Args:
        path: with ``/`` between folders.
        first_path: of each image by its name; the file is added.
        above: name of the folder that ``path`` begins in. It counts where no folder of ``path``
            tells a class, or a magnification.
    """
    *folders, file = PurePosixPath(path).parts
    try:
        name = parse(file)
    except ValueError as error:
        return Problem(path, str(error))
    expected = CLASS_FOLDERS[name.tumour_class]
    if (_classes(folders) or _classes([above])) - {expected}:
        return Problem(path, f"the name says {expected}, the folder does not")
    magnifications = _magnifications(folders) or _magnifications([above])
    if other := magnifications - {name.magnification}:
        return Problem(path, f"the name says {name.magnification}X, the folder {min(other)}X")
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
