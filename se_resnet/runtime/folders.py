"""Replaces the content of a folder as a whole: a reader finds the old files or the new files.

The new files are written to ``.unfinished/new`` inside the folder, so that all renames stay on one
disk. When they are complete, ``new`` is renamed to ``whole``. From then on ``whole`` is the content
of the folder. Four steps follow: the old files are removed, ``whole`` is renamed to ``placing``,
its files are moved to their final paths, and ``.unfinished`` is removed. If a process is killed,
the next process finishes these steps. Other files in the folder are left alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from se_resnet.errors import UserError
from se_resnet.runtime.file_locks import lock_error
from se_resnet.runtime.files import (
    NAME_LENGTH,
    read_json,
    report_full_disk,
    writable_folder,
    write_json,
)

UNFINISHED = ".unfinished"

_NEW, _WHOLE, _PLACING = "new", "whole", "placing"
_LOCK, _PLAN = "lock", "plan.json"
_PLAN_FORM = {"old": [str], "last": str}
_LOCK_SECONDS = 20  # an evaluation writes its files in less
_TEMPORARY = r"\.[0-9a-f]{8}"  # the end of names by atomic_write and writable_folder
_OLDER_VERSIONS = r"\.(?:export|source)-\w{8}"  # temporary folders of older versions


@contextmanager
def whole_folder(
    path: Path, names: Sequence[str], remedy: str, old: Callable[[], Iterable[str]]
) -> Iterator[Path]:
    """Yields an empty folder whose files replace those of ``path`` when the block succeeds.

    A killed process leaves the old content or the new content. The next process removes its
    temporary files. A lock of the operating system lets one process at a time write a folder.

    Args:
        path: the folder, created if missing.
        names: the files and folders that the block may write at the top of the folder. The last
            name marks the content as complete: its file is removed first and placed last.
        remedy: the remedy if the folder cannot be written, as the end of a sentence.
        old: returns the files of the old content, relative to ``path``. It is called before the
            block, after temporary files are removed, and may raise.

    Raises:
        UserError: the folder cannot be written, its disk is full, or another process writes it.
    """
    writable_folder(path, remedy)
    work = path / UNFINISHED
    with report_full_disk(path), _lock(path, remedy):
        _finish_or_discard(path)
        _remove_temporaries(path, names)
        try:
            replaced = sorted(
                (name for name in old() if _lies_inside(name) and not (path / name).is_dir()),
                key=lambda name: name != names[-1],
            )
            (work / _NEW).mkdir()
            yield work / _NEW
            _require_targets(path)
            write_json(work / _PLAN, {"old": replaced, "last": names[-1]})
            (work / _NEW).rename(work / _WHOLE)
        finally:
            _finish_or_discard(path)
            shutil.rmtree(work, ignore_errors=True)


def current(path: Path) -> Path:
    """Returns the path to read a file from, also after a process was killed while placing files."""
    for state in (_WHOLE, _PLACING):
        candidate = path.parent / UNFINISHED / state / path.name
        if candidate.exists():
            return candidate
    return path


@contextmanager
def _lock(path: Path, remedy: str) -> Iterator[None]:
    work = path / UNFINISHED
    lock = FileLock(work / _LOCK)
    while True:
        work.mkdir(exist_ok=True)
        if lock_error(path):  # without locks, assume that no other process writes here
            break
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except FileNotFoundError:  # the process that held the lock has just removed the folder
            continue
        except Timeout as error:
            raise UserError(
                f"{path} is being written by another process: wait until that ends, or {remedy}."
            ) from error
        except (OSError, NotImplementedError):
            pass  # the lock cannot be written: assume the same
        break
    try:
        yield
    finally:
        lock.release()


def _finish_or_discard(path: Path) -> None:
    """Places complete content, if there is any, and removes incomplete content."""
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
            target = path / file.relative_to(placing)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    for left in sorted(work.iterdir(), key=Path.is_file):  # the plan after the files that need it
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != _LOCK:
            left.unlink()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def _require_targets(path: Path) -> None:
    """Raises a UserError if a folder stands where a new file goes, or the reverse."""
    new = path / UNFINISHED / _NEW
    for file in _files(new):
        target = path / file.relative_to(new)
        parents = target.parents[: len(file.relative_to(new).parts) - 1]
        blocking = [parent for parent in parents if parent.exists() and not parent.is_dir()]
        if blocking or target.is_dir():
            raise UserError(
                f"{(blocking or [target])[0]} is in the way: move it, or give the "
                "command another folder."
            )


def _remove(path: Path, name: str) -> None:
    """Removes a file and its parent folders that become empty."""
    (path / name).unlink(missing_ok=True)
    for parent in list((path / name).parents)[: len(PurePosixPath(name).parts) - 1]:
        try:
            parent.rmdir()
        except OSError:  # the folder holds other files or is gone
            break


def _remove_temporaries(path: Path, names: Sequence[str]) -> None:
    """Removes temporary files of killed processes."""
    prefixes = "|".join(re.escape(name[:NAME_LENGTH]) for name in names)
    pattern = re.compile(rf"(?:\.(?:{prefixes}))?{_TEMPORARY}|{_OLDER_VERSIONS}")
    for left in path.iterdir():
        if pattern.fullmatch(left.name):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _lies_inside(name: str) -> bool:
    """Returns whether a name that was read from a file names a path inside the folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts
