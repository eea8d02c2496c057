"""Lock on the folder of a run: one process at a time."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from se_resnet.errors import UserError
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.file_locks import lock_error
from se_resnet.runtime.files import read_json, reason, writable_folder, write_json
from se_resnet.runtime.processes import is_primary
from se_resnet.runtime.times import now


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Makes the folder of a run and holds it for the block.

    The operating system locks the file ``lock``, so the lock ends with its process in any case.
    ``lock.json`` names the process that holds it. Process 0 holds it for all processes of a run. On
    a file system without locks a warning is printed instead.

    Raises:
        UserError: the folder or its lock cannot be written, or another process holds it.
    """
    if not is_primary():
        yield
        return
    workdir = run.path
    writable_folder(workdir, "choose another --workdir")
    if missing := lock_error(workdir):
        print(
            f"warning: the file system of --workdir={workdir} has no locks ({missing}): start no "
            "second command on this folder while this one runs.",
            file=sys.stderr,
        )
        yield
        return
    lock, owner = FileLock(run.lock_path, blocking=False), run.owner_path
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"--workdir={workdir} is in use by {_describe(owner)}: wait until that ends, or choose "
            "another --workdir."
        ) from error
    except OSError as error:  # as where another user of the same group began the run
        raise UserError(
            f"{run.lock_path} cannot be locked ({reason(error)}): let this user write it, or "
            "choose another --workdir."
        ) from error
    try:
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "started": now()})
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_running(run: RunFolder) -> bool:
    """Returns true if a process holds the lock of a run.

    The lock is tried only where ``lock.json`` names a process, which a killed process leaves
    behind. On a file system without locks that file counts.
    """
    if not run.owner_path.exists():
        return False
    lock = FileLock(run.lock_path, blocking=False)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _describe(owner: Path) -> str:
    try:
        facts = read_json(owner, {"pid": int, "host": str, "started": str})
        return f"process {facts['pid']} on {facts['host']}, started {facts['started']}"
    except (OSError, ValueError):  # it holds the lock, but has not said so yet
        return "another process"
