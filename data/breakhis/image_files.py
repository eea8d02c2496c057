"""Finds the BreaKHis images at a path and reads their bytes.

A source is a folder with ``benign/`` or ``malignant/`` at any depth, a folder of images whose names
state the class, or an archive of either, such as ``BreaKHis_v1.tar.gz``. An archive is streamed and
never written to disk, so that its paths and links cannot reach a file.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.breakhis import archive, candidates
from data.breakhis.archive import OFFICIAL_ARCHIVE as OFFICIAL_ARCHIVE
from data.breakhis.candidates import check_name
from data.breakhis.filenames import ImageName
from data.problems import Problem as Problem
from se_resnet.errors import UserError
from se_resnet.runtime.files import reason
from se_resnet.runtime.paths import local_path
from se_resnet.runtime.walk import PassedOver, printable, walk

MAX_FILE_BYTES = 64 << 20  # an official image has about half a megabyte


@dataclass(frozen=True)
class Source:
    """The location of the images.

    Attributes:
        path: the parent folder of ``benign/`` and ``malignant/``, or the archive.
        is_archive: whether ``path`` is a file.
        files: candidate images of a folder, relative to ``path``, with ``/`` between folders,
            sorted.
        trees: folders of the trees, if several trees are read together.
        passed_over: counts of files that were not read; for an archive known after reading.
    """

    path: Path
    is_archive: bool
    files: tuple[str, ...] = field(default=(), repr=False)
    trees: tuple[str, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver, repr=False, compare=False)


def find(path: str | Path) -> Source:
    """Finds the images at ``path`` or anywhere below.

    Args:
        path: a folder at any height above ``benign/`` and ``malignant/`` (one of them is enough,
            case does not matter), a tar archive, the folder of an archive, or a folder of images
            whose names state the class. Several trees, such as ``train`` and ``test`` or one tree
            for each magnification, are read together if no image is in two trees.

    Raises:
        UserError: the path does not exist, cannot be read or has no BreaKHis images, or the path
            has several trees or archives and the choice is not clear.
    """
    if not str(path):
        raise UserError("no path was given: give the folder or archive of BreaKHis.")
    try:
        path = Path(local_path(path, "the path of the images"))
        if not path.exists():
            raise UserError(f"{path} does not exist: give the folder or archive of BreaKHis.")
        if path.is_dir():
            return _find_in_folder(path)
        if path.is_file() and archive.is_archive(path):
            return Source(path, is_archive=True)
    except (OSError, RuntimeError, ValueError) as error:  # errors of pathlib on hostile paths
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    raise UserError(
        f"{path} is neither a folder nor a tar archive: give {OFFICIAL_ARCHIVE} or the folder "
        "that it was extracted to."
    )


def describe_walk(source: Source) -> list[str]:
    """Returns lines about trees read together and files that were not read, if there are any.

    For an archive the lines are complete only after reading.
    """
    lines = []
    if source.trees:
        lines.append(
            f"{len(source.trees)} trees are read together, and their division is not used: "
            + ", ".join(map(printable, source.trees[:4]))
            + (" and others" if len(source.trees) > 4 else "")
        )
    if source.passed_over:
        lines.append(f"not looked at: {source.passed_over.describe()}")
    return lines


def fingerprint(source: Source) -> str:
    """Returns a hash of names, sizes and modification times, without reading the files."""
    digest = hashlib.sha256()
    if source.is_archive:
        entries = [(source.path.name, source.path)]
    else:
        entries = [(relative, source.path / relative) for relative in source.files]
    for name, path in entries:
        try:
            status = path.stat()
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            facts = reason(error)
        digest.update(f"{name}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def size_bytes(source: Source) -> int:
    """Returns the size of the archive or of all candidate images in bytes."""
    if source.is_archive:
        return source.path.stat().st_size
    total = 0
    for relative in source.files:
        try:
            total += (source.path / relative).stat().st_size
        except OSError:
            continue  # the error is reported when the file is read
    return total


def count_files(source: Source) -> int | None:
    """Returns the number of candidate images; None for an archive, which has no index."""
    return None if source.is_archive else len(source.files)


def read_files(source: Source) -> Iterator[tuple[str, bytes | Problem]]:
    """Yields the path and the bytes of every candidate image, or the problem with the image.

    A candidate is a file with the suffix of an image, not hidden, below ``benign/`` or
    ``malignant/``. Without such a folder, a candidate is a file with the name of a BreaKHis image.
    Paths are relative to the tree, or as in the archive.

    Raises:
        UserError: the archive is damaged or incomplete.
    """
    if source.is_archive:
        yield from archive.read_archive(source.path, MAX_FILE_BYTES, source.passed_over)
        return
    for relative in source.files:
        yield relative, read_file(source.path, relative)


def check_names(source: Source) -> list[tuple[str, ImageName | Problem]]:
    """Returns the path and the parsed name of every candidate image of a tree, or the problem."""
    first_path: dict[str, str] = {}
    return [(path, check_name(path, first_path, source.path.name)) for path in source.files]


def _find_in_folder(folder: Path) -> Source:
    passed_over = PassedOver()
    listing = walk(folder, passed_over)
    if trees := candidates.trees(listing.folders):
        return _join_trees(folder, trees, listing.files, passed_over)
    archives = [
        folder / name
        for name in listing.files
        if "/" not in name and name.lower().endswith(archive.SUFFIXES) and (folder / name).is_file()
    ]
    official = [path for path in archives if path.name == OFFICIAL_ARCHIVE]
    named_images = tuple(filter(candidates.has_breakhis_name, listing.files))
    if named_images and not official:
        chosen = set(named_images)
        _pass_over([path for path in listing.files if path not in chosen], True, passed_over)
        return Source(folder, False, named_images, passed_over=passed_over)
    if len(official or archives) > 1:
        raise UserError(
            f"{folder} has {len(archives)} archives, {archives[0].name} and {archives[1].name}"
            f"{' among them' if len(archives) > 2 else ''}: give one of them."
        )
    if archives:
        return find((official or archives)[0])
    others = [name for name in listing.files if name.lower().endswith(archive.OTHER_SUFFIXES)]
    _pass_over(listing.files, True, passed_over)
    raise UserError(
        f"{folder} has no folder benign/ or malignant/, no image with a BreaKHis name "
        f"and no {OFFICIAL_ARCHIVE}: "
        + (f"extract {others[0]}, or " if others else "")
        + "give the folder or archive of BreaKHis, or list other images in a table by "
        "python -m data.table"
        + (f"; not looked at: {passed_over.describe()}." if passed_over else ".")
    )


def _join_trees(
    folder: Path, trees: list[str], files: list[str], passed_over: PassedOver
) -> Source:
    """Returns the images of one tree, or of several trees that share no image."""
    by_tree: dict[str, list[str]] = {tree: [] for tree in trees}
    others = []
    for path in files:
        tree = candidates.tree_of(path.rpartition("/")[0])
        if tree in by_tree and candidates.has_image_suffix(path):
            by_tree[tree].append(path)
        else:
            others.append(path)
    _pass_over(others, False, passed_over)
    trees = [tree for tree in trees if by_tree[tree]] or trees[:1]
    if len(trees) > 1 and (conflict := _conflict_of_trees(folder, trees, by_tree)):
        raise UserError(
            f"{folder} has {len(trees)} BreaKHis trees, {folder / trees[0]} and "
            f"{folder / trees[1]}{' among them' if len(trees) > 2 else ''}, and {conflict}: "
            "give one of them."
        )
    root = os.path.commonpath([f"/{tree}" for tree in trees])[1:]
    start = len(root) + 1 if root else 0
    return Source(
        folder / root if root else folder,
        False,
        tuple(sorted(path[start:] for tree in trees for path in by_tree[tree])),
        tuple(tree[start:] for tree in trees) if len(trees) > 1 else (),
        passed_over,
    )


def _conflict_of_trees(folder: Path, trees: list[str], by_tree: dict[str, list[str]]) -> str:
    """Returns why several trees cannot be parts of one data set, or an empty string."""
    first: dict[str, str] = {}
    shared = []
    for tree in trees:
        names = {path.rpartition("/")[2].lower(): path for path in by_tree[tree]}
        if not any(map(candidates.has_breakhis_name, by_tree[tree])):
            return f"{folder / tree} has no image with a BreaKHis name"
        shared += [(first[name], path) for name, path in names.items() if name in first]
        first |= {name: path for name, path in names.items() if name not in first}
    if not shared:
        return ""
    left, right = (folder / path for path in shared[0])
    try:
        same = filecmp.cmp(left, right, shallow=False)
        content = "the same content" if same else "other content"
    except OSError:
        content = "content that cannot be read"
    label = "file name is" if len(shared) == 1 else "file names are"
    return f"{len(shared):,} {label} in several trees, for example {left.name}, with {content}"


def _pass_over(paths: Iterable[str], flat: bool, passed_over: PassedOver) -> None:
    for path in paths:
        candidates.pass_over(path, flat, passed_over)


def read_file(root: Path, relative: str) -> bytes | Problem:
    """Returns the bytes of one image of a tree, or the problem with the image."""
    path = root / relative
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe could block forever
            return Problem(relative, "not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            return Problem(relative, archive.too_large(status.st_size, MAX_FILE_BYTES))
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # too many open files: no fault of this file, which must not be skipped
        return Problem(relative, f"cannot be read: {reason(error)}")
