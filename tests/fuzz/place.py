"""Where a case happens: what it may read, what it may write, and what must stay as it is."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

SECRET = "secret.txt"


@dataclasses.dataclass(frozen=True)
class Place:
    """The folders of one case.

    Attributes:
        input: what the case is about; must not change.
        work: the only folder in which the case may write.
        elsewhere: the current directory, with a file in it; must not change.
        run: a finished run of a tiny network, shared by all cases; None where no target needs it.
    """

    input: Path
    work: Path
    elsewhere: Path
    run: Path | None

    @classmethod
    def make(cls, root: Path, run: Path | None) -> Place:
        """Makes the folders below ``root``, which must be empty."""
        place = cls(*(root / name for name in ("input", "work", "elsewhere")), run)
        for folder in (place.input, place.work, place.elsewhere):
            folder.mkdir(parents=True)
        (place.elsewhere / SECRET).write_text("never to be read or replaced")
        return place

    def snapshot(self) -> dict[str, str]:
        """Type, permissions and content of all that must stay as it is, by path."""
        found = {}
        for root in (self.input, self.elsewhere):
            for folder, folders, files in os.walk(root):
                for path in (os.path.join(folder, name) for name in (*folders, *files)):
                    found[path] = _content(path)
        return found


_BLOCK = 1 << 20

# Makes a case: writes its input and returns what a command would call.
Target = Callable[[Random, Place], Callable[[], object]]


def _content(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"link to {os.readlink(path)!r}"
    if not stat.S_ISREG(mode):
        return oct(mode)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start in _written(file.fileno()):
            file.seek(start)
            if (block := file.read(_BLOCK)).strip(b"\0"):
                digest.update(start.to_bytes(8, "little") + block)
    return f"{oct(mode)} {os.path.getsize(path)} {digest.hexdigest()}"


def _written(file: int) -> Iterator[int]:
    """Where the blocks begin that are not holes: a case may hold a file of terabytes."""
    start = 0
    while True:
        try:
            start = os.lseek(file, start, os.SEEK_DATA) // _BLOCK * _BLOCK
        except OSError:  # nothing but a hole is left
            return
        yield start
        start += _BLOCK
