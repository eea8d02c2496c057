"""Room on the disk before work that fills it."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from se_resnet.errors import UserError

_STALE_SECONDS = 24 * 3600  # longer than any work takes, so no living process loses its folder


def make_room(folder: Path, leftovers: str, needed: int, *, purpose: str, remedy: str) -> None:
    """Makes a folder, clears what killed processes left in it, and checks the free space.

    Args:
        folder: where the work is going to write.
        leftovers: glob pattern, from ``folder``, of the unfinished folders of that work; those
            untouched for a day are removed.
        needed: bytes that the work is going to write.
        purpose: what needs them, as the beginning of a sentence.
        remedy: what a user whose disk is too small can do besides making room.

    Raises:
        UserError: too little space is free.
        OSError: the folder cannot be made or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(leftovers):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{purpose} needs {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free: "
            f"make room or {remedy}."
        )
