"""Whether a file system has the locks that keep two processes apart."""

from __future__ import annotations

import errno
import importlib.util
import os
import uuid
from pathlib import Path

_MISSING = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


def why_missing(folder: Path) -> str:
    """Returns the operating system's reason for having no locks in a folder, or an empty string.

    Network file systems and containers can lack them. ``filelock`` then raises, or puts a file in
    their place that outlives a process that is killed.

    Args:
        folder: can be written.

    Raises:
        OSError: the folder cannot be used for another reason.
    """
    if importlib.util.find_spec("fcntl") is None:  # Windows has others, always
        return ""
    import fcntl

    probe = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _MISSING:
            return os.strerror(error.errno)
        raise
    finally:
        probe.unlink(missing_ok=True)
    return ""
