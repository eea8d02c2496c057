"""Room on the disk, and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from se_resnet.errors import UserError

_BUILDING = ".building"  # ends the name of a folder that is not whole yet


@contextlib.contextmanager
def unfinished(path: Path, needed: int, *, purpose: str, remedy: str) -> Iterator[Path]:
    """Makes a folder beside ``path`` for the block to fill and rename to ``path``.

    The folder is removed at the end of the block unless it was renamed. Until then the process
    holds a lock beside it, which the operating system releases however the process ends. So the
    next builder knows which folders belong to nobody, and removes them.

    Args:
        path: the folder to be.
        needed: bytes that the block is going to write.
        purpose: what needs them, as the beginning of a sentence.
        remedy: what a user whose disk is too small can do besides making room.

    Raises:
        UserError: too little space is free.
        OSError: the folder cannot be made.
    """
    make_room(path.parent, f".*{_BUILDING}", needed, purpose=purpose, remedy=remedy)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_BUILDING}")
    lock = _lock_of(folder)
    try:
        lock.acquire(blocking=False)  # before the folder is there to be found
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
    """Makes a folder, removes what killed processes left in it, and checks the free space.

    A leftover is removed if it has a lock file that no process holds. One without a lock file may
    belong to a living process whose file system has no locks, so it stays.

    Args:
        folder: where the work is going to write.
        leftovers: glob pattern, from ``folder``, of the unfinished folders of that work.
        needed: bytes that the work is going to write.
        purpose: what needs them, as the beginning of a sentence.
        remedy: what a user whose disk is too small can do besides making room.

    Raises:
        UserError: too little space is free.
        OSError: the folder cannot be made or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(leftovers):
        lock = _lock_of(leftover)
        if not Path(lock.lock_file).exists():
            continue
        with (
            contextlib.suppress(OSError, NotImplementedError),  # its builder lives, or no locks
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
