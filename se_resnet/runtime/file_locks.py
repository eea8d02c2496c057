"""Whether a file system has the locks that keep two processes apart."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path


def why_missing(folder: Path) -> str:
    """Returns the operating system's reason for having no locks in a folder, or an empty string.

    Network file systems and containers can lack them, and say so by many errors. ``filelock`` then
    raises, takes another process for the holder, or puts a file in their place that outlives a
    process that is killed.

    Args:
        folder: can be written.

    Raises:
        OSError: no file can be made in the folder.
    """
    if importlib.util.find_spec("fcntl") is None:  # Windows has others, always
        return ""
    import fcntl

    probe = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("wb") as file:
            try:  # nobody else knows the file, so it is not that another process holds it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return error.strerror or str(error)
    finally:
        probe.unlink(missing_ok=True)
    return ""
