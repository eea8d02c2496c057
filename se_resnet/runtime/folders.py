"""Folders whose content is replaced as a whole: the old one stays until the new one is whole.

The new content is written into ``.unfinished/new`` inside of the folder, so that all renames stay
on its disk. When it is whole, ``new`` becomes ``whole``: from here on it is the content, and what a
killed process leaves undone the next one does. The old files are removed, ``whole`` becomes
``placing``, its files are moved to their places, and ``.unfinished`` is removed. No file of another
origin is touched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from se_resnet.errors import UserError
from se_resnet.runtime.file_locks import why_missing
from se_resnet.runtime.files import (
    NAME_LENGTH,
    full_disk_told,
    read_json,
    writable_folder,
    write_json,
)

UNFINISHED = ".unfinished"

_NEW, _WHOLE, _PLACING = "new", "whole", "placing"
_LOCK, _PLAN = "lock", "plan.json"
_PLAN_FORM = {"old": [str], "last": str}
_PATIENCE = 20  # seconds; an evaluation writes its files in less
_TEMPORARY = r"\.[0-9a-f]{8}"  # how atomic_write and writable_folder end names
_OLDER_VERSIONS = r"\.(?:export|source)-\w{8}"  # which worked in such folders


@contextmanager
def whole_folder(
    path: Path, names: Sequence[str], remedy: str, old: Callable[[], Iterable[str]]
) -> Iterator[Path]:
    """Gives an empty folder whose files replace those of ``path`` when the block succeeds.

    A process that is killed leaves the old content or the new. What it left besides is removed by
    the next one. One process at a time writes a folder, by a lock of the operating system's.

    Args:
        path: the folder, made if it is missing.
        names: what the block may write at the top of the folder. The last one tells a reader that
            the content is whole: it is removed first and placed last.
        remedy: what to do where the folder cannot be written, as the end of a sentence.
        old: gives the files of the old content, below ``path``; it is called before the block, when
            leftovers are gone, and may raise.

    Raises:
        UserError: the folder cannot be written, its disk is full, or another process writes it.
    """
    writable_folder(path, remedy)
    work = path / UNFINISHED
    with full_disk_told(path), _held(path, remedy):
        _settle(path)
        _remove_temporaries(path, names)
        try:
            replaced = sorted(
                (name for name in old() if _lies_inside(name) and not (path / name).is_dir()),
                key=lambda name: name != names[-1],
            )
            (work / _NEW).mkdir()
            yield work / _NEW
            _demand_places(path)
            write_json(work / _PLAN, {"old": replaced, "last": names[-1]})
            (work / _NEW).rename(work / _WHOLE)
        finally:
            _settle(path)
            shutil.rmtree(work, ignore_errors=True)


def current(path: Path) -> Path:
    """Where a file of such a folder is read, also when a process was killed while placing it."""
    for state in (_WHOLE, _PLACING):
        candidate = path.parent / UNFINISHED / state / path.name
        if candidate.exists():
            return candidate
    return path


@contextmanager
def _held(path: Path, remedy: str) -> Iterator[None]:
    work = path / UNFINISHED
    lock = FileLock(work / _LOCK)
    while True:
        work.mkdir(exist_ok=True)
        if why_missing(path):  # as though nobody else wrote here
            break
        try:
            lock.acquire(timeout=_PATIENCE)
        except FileNotFoundError:  # the process that held it has just removed the folder
            continue
        except Timeout as error:
            raise UserError(
                f"{path} is being written by another process: wait until that ends, or {remedy}."
            ) from error
        except (OSError, NotImplementedError):
            pass  # a lock that cannot be written: likewise
        break
    try:
        yield
    finally:
        lock.release()


def _settle(path: Path) -> None:
    """Puts whole content in its place, if there is some, and removes what is not whole."""
    work = path / UNFINISHED
    whole, placing = work / _WHOLE, work / _PLACING
    if whole.exists() or placing.exists():
        try:
            plan = read_json(work / _PLAN, _PLAN_FORM)
        except (OSError, ValueError) as error:
            raise UserError(f"{work / _PLAN} is damaged ({error}): delete {work}.") from error
        if whole.exists():
            for name in filter(_lies_inside, plan["old"]):
                _remove(path, name)
            whole.rename(placing)
        for file in sorted(_files(placing), key=lambda file: file == placing / plan["last"]):
            place = path / file.relative_to(placing)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    for left in sorted(work.iterdir(), key=Path.is_file):  # the plan after what it is for
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != _LOCK:
            left.unlink()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def _demand_places(path: Path) -> None:
    """Raises the error about a folder that stands where a new file goes, or the reverse."""
    new = path / UNFINISHED / _NEW
    for file in _files(new):
        place = path / file.relative_to(new)
        above = place.parents[: len(file.relative_to(new).parts) - 1]
        blocking = [one for one in above if one.exists() and not one.is_dir()]
        if blocking or place.is_dir():
            raise UserError(
                f"{(blocking or [place])[0]} is in the way: move it, or give the "
                "command another folder."
            )


def _remove(path: Path, name: str) -> None:
    """Removes a file, and the folders above it that become empty."""
    (path / name).unlink(missing_ok=True)
    for parent in list((path / name).parents)[: len(PurePosixPath(name).parts) - 1]:
        try:
            parent.rmdir()
        except OSError:  # it holds other files, or is gone
            break


def _remove_temporaries(path: Path, names: Sequence[str]) -> None:
    """Removes temporary files of processes that were killed while they wrote."""
    own = "|".join(re.escape(name[:NAME_LENGTH]) for name in names)
    pattern = re.compile(rf"(?:\.(?:{own}))?{_TEMPORARY}|{_OLDER_VERSIONS}")
    for left in path.iterdir():
        if pattern.fullmatch(left.name):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _lies_inside(name: str) -> bool:
    """Whether a name, which a file told, is that of something below the folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts
