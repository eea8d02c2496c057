"""Finds the BreaKHis images at a path and reads their bytes.

A source is a folder that holds ``benign/`` or ``malignant/`` at any depth, or images whose names
tell the class, or an archive of these such as ``BreaKHis_v1.tar.gz``. An archive is streamed:
nothing of it is ever written to disk, so neither its paths nor its links can reach a file.
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
from data.breakhis.candidates import Problem as Problem
from data.breakhis.candidates import check_name
from data.breakhis.filenames import ImageName
from se_resnet.errors import UserError
from se_resnet.runtime.files import reason
from se_resnet.runtime.walk import PassedOver, printable, walk

MAX_FILE_BYTES = 64 << 20  # an official image has about half a megabyte


@dataclass(frozen=True)
class Source:
    """Where the images are.

    Attributes:
        path: the folder that holds ``benign/`` and ``malignant/``, or the archive.
        is_archive: whether ``path`` is a file.
        files: candidate images of a folder, relative to ``path``, with ``/`` between folders,
            sorted.
        trees: where several trees are read together, the folders that hold them.
        passed_over: what was not looked at; of an archive known once it was read.
    """

    path: Path
    is_archive: bool
    files: tuple[str, ...] = field(default=(), repr=False)
    trees: tuple[str, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver, repr=False, compare=False)


def find(path: str | Path) -> Source:
    """Finds the images at, or anywhere below, ``path``.

    Args:
        path: a folder at any height above ``benign/`` and ``malignant/`` (one of them suffices,
            case does not matter), a tar archive, a folder that holds one, or a folder of images
            whose names tell the class. Several trees, such as ``train`` and ``test`` or one for
            each magnification, are read together where no image is in two of them.

    Raises:
        UserError: the path does not exist, cannot be read, or holds no BreaKHis images; or it
            holds several trees or archives, so that it is not clear which one is meant.
    """
    if not str(path):
        raise UserError("no path was given: give the folder or archive that holds BreaKHis.")
    try:
        path = Path(path).expanduser()
        if not path.exists():
            raise UserError(
                f"{path} does not exist: give the folder or archive that holds BreaKHis."
            )
        if path.is_dir():
            return _find_in_folder(path)
        if path.is_file() and archive.is_archive(path):
            return Source(path, is_archive=True)
    except (OSError, RuntimeError, ValueError) as error:  # pathlib's answers to hostile paths
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    raise UserError(
        f"{path} is neither a folder nor a tar archive: give {OFFICIAL_ARCHIVE} or the folder "
        "it was extracted to."
    )


def describe_walk(source: Source) -> list[str]:
    """Lines about what is read together and what was not looked at, where there is any.

    Of an archive this is known once it was read.
    """
    lines = []
    if source.trees:
        lines.append(
            f"{len(source.trees)} trees are read together; how they divide the images is not used: "
            + ", ".join(map(printable, source.trees[:4]))
            + (" and others" if len(source.trees) > 4 else "")
        )
    if source.passed_over:
        lines.append(f"not looked at: {source.passed_over.describe()}")
    return lines


def fingerprint(source: Source) -> str:
    """Identifies a source's files by name, size and modification time, without reading them."""
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
    """Bytes on disk of the archive or of all candidate images."""
    if source.is_archive:
        return source.path.stat().st_size
    total = 0
    for relative in source.files:
        try:
            total += (source.path / relative).stat().st_size
        except OSError:
            continue  # reported, with its reason, when it is read
    return total


def count_files(source: Source) -> int | None:
    """How many candidate images a tree holds; None for an archive, which has no index."""
    return None if source.is_archive else len(source.files)


def read_files(source: Source) -> Iterator[tuple[str, bytes | Problem]]:
    """Yields the path and the bytes of every candidate image, or what kept it from being read.

    A candidate is a file with an image's suffix that is not hidden, below ``benign/`` or
    ``malignant/``; where there is no such folder, one that is named alike. Paths are relative to
    the tree, or as the archive spells them.

    Raises:
        UserError: the archive is damaged or incomplete.
    """
    if source.is_archive:
        yield from archive.read_archive(source.path, MAX_FILE_BYTES, source.passed_over)
        return
    for relative in source.files:
        yield relative, read_file(source.path, relative)


def check_names(source: Source) -> list[tuple[str, ImageName | Problem]]:
    """The path of every candidate image of a tree with its name, or what is wrong with that."""
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
    named_alike = tuple(filter(candidates.is_named_alike, listing.files))
    if named_alike and not official:
        chosen = set(named_alike)
        _pass_over([path for path in listing.files if path not in chosen], True, passed_over)
        return Source(folder, False, named_alike, passed_over=passed_over)
    if len(official or archives) > 1:
        raise UserError(
            f"{folder} holds {len(archives)} archives, {archives[0].name} and {archives[1].name}"
            f"{' among them' if len(archives) > 2 else ''}: give the one that is meant."
        )
    if archives:
        return find((official or archives)[0])
    others = [name for name in listing.files if name.lower().endswith(archive.OTHER_SUFFIXES)]
    _pass_over(listing.files, True, passed_over)
    raise UserError(
        f"{folder} holds no folder benign/ or malignant/, no image named as BreaKHis names them "
        f"and no {OFFICIAL_ARCHIVE}: "
        + (f"extract {others[0]}, or " if others else "")
        + "give the folder or archive that holds BreaKHis"
        + (f"; not looked at: {passed_over.describe()}." if passed_over else ".")
    )


def _join_trees(
    folder: Path, trees: list[str], files: list[str], passed_over: PassedOver
) -> Source:
    """The images of one tree, or of several that share none."""
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
    if len(trees) > 1 and (reason := _why_not_together(folder, trees, by_tree)):
        raise UserError(
            f"{folder} holds {len(trees)} BreaKHis trees, {folder / trees[0]} and "
            f"{folder / trees[1]}{' among them' if len(trees) > 2 else ''}, and {reason}: give the "
            "one that is meant."
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


def _why_not_together(folder: Path, trees: list[str], by_tree: dict[str, list[str]]) -> str:
    """The reason why several trees cannot be parts of one data set, or an empty string."""
    first: dict[str, str] = {}
    shared = []
    for tree in trees:
        names = {path.rpartition("/")[2].lower(): path for path in by_tree[tree]}
        if not any(map(candidates.is_named_alike, by_tree[tree])):
            return f"{folder / tree} has no image that is named as BreaKHis names them"
        shared += [(first[name], path) for name, path in names.items() if name in first]
        first |= {name: path for name, path in names.items() if name not in first}
    if not shared:
        return ""
    one, other = (folder / path for path in shared[0])
    try:
        content = "the same content" if filecmp.cmp(one, other, shallow=False) else "other content"
    except OSError:
        content = "content that cannot be read"
    images = "image has its name" if len(shared) == 1 else "images have their names"
    return f"{len(shared):,} {images} in several, for example {one.name}, with {content}"


def _pass_over(paths: Iterable[str], flat: bool, passed_over: PassedOver) -> None:
    for path in paths:
        candidates.pass_over(path, flat, passed_over)


def read_file(root: Path, relative: str) -> bytes | Problem:
    """Returns the bytes of one image of a tree, or what kept it from being read."""
    path = root / relative
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            return Problem(relative, "not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            return Problem(relative, archive.too_large(status.st_size, MAX_FILE_BYTES))
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # too many open files: not this file's fault, so it must not be skipped
        return Problem(relative, f"cannot be read: {reason(error)}")
