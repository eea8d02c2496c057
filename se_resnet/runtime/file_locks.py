"""Tests whether a file system supports the locks that keep two processes apart."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path


def lock_error(folder: Path) -> str:
    """Returns the operating system's error if a folder does not support locks, or an empty string.

    Network file systems and containers can lack locks, which they report by many errors.
    ``filelock`` then raises, or reports that another process holds the lock, or writes a lock file
    that stays behind when the process is killed.

    Args:
        folder: a folder that can be written.

    Raises:
        OSError: no file can be created in the folder.
    """
    if importlib.util.find_spec("fcntl") is None:  # Windows always has other locks
        return ""
    import fcntl

    probe = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("wb") as file:
            try:  # nobody else knows the file, so no other process can hold its lock
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return error.strerror or str(error)
    finally:
        probe.unlink(missing_ok=True)
    return ""
