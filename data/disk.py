"""Checks free disk space, and builds folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from se_resnet.errors import UserError

_BUILDING = ".building"  # the end of the name of an incomplete folder


@contextlib.contextmanager
def unfinished(path: Path, needed: int, *, purpose: str, remedy: str) -> Iterator[Path]:
    """Creates a folder beside ``path``. The block fills it and renames it to ``path``.

    The folder is removed at the end of the block unless it was renamed. Until then the process
    holds a lock file beside the folder. The operating system releases the lock when the process
    ends in any way, so the next process can remove folders of killed processes.

    Args:
        path: final path of the folder.
        needed: number of bytes that the block will write.
        purpose: name of the work, as the beginning of a sentence.
        remedy: remedy for a full disk besides making room, as the end of a sentence.

    Raises:
        UserError: too little space is free.
        OSError: the folder cannot be created.
    """
    make_room(path.parent, f".*{_BUILDING}", needed, purpose=purpose, remedy=remedy)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_BUILDING}")
    lock = _lock_of(folder)
    try:
        lock.acquire(blocking=False)  # before other processes can see the folder
    except (OSError, NotImplementedError):  # the file system has no locks
        Path(lock.lock_file).unlink(missing_ok=True)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def make_room(folder: Path, leftovers: str, needed: int, *, purpose: str, remedy: str) -> None:
    """Creates a folder, removes unfinished folders of killed processes, checks the free space.

    Removes an unfinished folder if it has a lock file that no process holds. A folder without a
    lock file is kept: it may belong to a living process on a file system without locks.

    Args:
        folder: folder that the work will write to.
        leftovers: glob pattern of unfinished folders, relative to ``folder``.
        needed: number of bytes that the work will write.
        purpose: name of the work, as the beginning of a sentence.
        remedy: remedy for a full disk besides making room, as the end of a sentence.

    Raises:
        UserError: too little space is free.
        OSError: the folder cannot be created or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(leftovers):
        lock = _lock_of(leftover)
        if not Path(lock.lock_file).exists():
            continue
        with (
            contextlib.suppress(OSError, NotImplementedError),  # its process is alive, or no locks
            lock.acquire(blocking=False),
        ):
            shutil.rmtree(leftover, ignore_errors=True)
            if not leftover.exists():
                Path(lock.lock_file).unlink()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{purpose} needs {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free: "
            f"make room or {remedy}."
        )


def _lock_of(folder: Path) -> FileLock:
    return FileLock(f"{folder}.lock")
