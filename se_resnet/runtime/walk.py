"""Lists the files below a folder and accounts for what was not looked at."""

from __future__ import annotations

import errno
import os
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

HIDDEN = "hidden"
UNREADABLE = "folders that cannot be read"
TOO_DEEP = "folders nested too deeply"
VISITED = "links to folders that were looked at"
OTHER_SUFFIX = "other suffixes"
NOT_REGULAR = "pipes, sockets and devices"

MAX_DEPTH = 40  # of folders; paths of file systems end soon after
# What macOS, Synology and Windows put beside a user's files, thumbnails and deleted images too.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_TOLD, _SUFFIXES_TOLD = 3, 6
_REMEMBERED = 20


class PassedOver:
    """Counts what a walk did not look at, by reason, with a few examples of each."""

    def __init__(self) -> None:
        self._examples: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, reason: str, example: str) -> None:
        """Counts one file or folder; ``example`` is its path, or what it shares with others."""
        self._counts[reason] += 1
        examples = self._examples[reason]
        if example in examples or len(examples) < _REMEMBERED:
            examples[example] += 1

    def clear(self) -> None:
        """Forgets everything, before a second walk."""
        self._examples.clear()
        self._counts.clear()

    def add_suffix(self, path: str) -> None:
        """Counts one file as of another suffix."""
        self.add(OTHER_SUFFIX, PurePosixPath(path).suffix.lower()[:20] or "no suffix")

    def describe(self) -> str:
        """One line without a line break, or an empty string where nothing was passed over.

        For example ``hidden 2 (.DS_Store, a/._b.png); other suffixes 5 (.txt 3, .csv 2)``.
        """
        return "; ".join(
            f"{reason} {count:,} ({self._describe_examples(reason)})"
            for reason, count in self._counts.items()
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """``count`` and some ``examples`` by reason, as JSON takes them."""
        return {
            reason: {"count": count, "examples": [printable(one) for one in self._examples[reason]]}
            for reason, count in self._counts.items()
        }

    def _describe_examples(self, reason: str) -> str:
        suffixes = reason == OTHER_SUFFIX
        examples = self._examples[reason].most_common(_SUFFIXES_TOLD if suffixes else _TOLD)
        parts = [printable(name) + (f" {count:,}" if suffixes else "") for name, count in examples]
        more = self._counts[reason] - sum(count for _, count in examples)
        return ", ".join(parts) + (f" and {more:,} more" if more else "")


@dataclass(frozen=True)
class Listing:
    """What lies below a folder.

    Attributes:
        files: paths relative to the folder, with ``/`` between folders, sorted. Everything that is
            no folder is among them, also pipes and links that lead nowhere.
        folders: the folders that were looked into, likewise.
    """

    files: list[str]
    folders: list[str]


def walk(root: Path, passed_over: PassedOver) -> Listing:
    """Lists everything below a folder.

    Links to folders are followed. Each folder is listed once, by its path without links where it
    has one. Hidden files and folders, and those that systems put beside a user's files, are passed
    over.

    Args:
        root: the folder.
        passed_over: takes what was not looked at.

    Raises:
        OSError: ``root`` cannot be read, or too many files are open.
    """
    files: list[str] = []
    folders: list[str] = []
    seen: set[str] = set()
    waiting, linked = deque([""]), deque[str]()
    while waiting or linked:
        follows_link = not waiting
        relative = (waiting or linked).popleft()
        place = os.path.join(root, relative)
        if (real := os.path.realpath(place)) in seen:
            if follows_link:
                passed_over.add(VISITED, relative)
            continue
        seen.add(real)
        if relative.count("/") >= MAX_DEPTH:
            passed_over.add(TOO_DEEP, relative)
            continue
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not relative or error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            passed_over.add(UNREADABLE, f"{relative}: {error.strerror}")
            continue
        if relative:
            folders.append(relative)
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if is_hidden(entry.name):
                passed_over.add(HIDDEN, path)
            elif _is_folder(entry):
                (linked if entry.is_symlink() else waiting).append(path)
            else:
                files.append(path)
    return Listing(sorted(files), sorted(folders))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not the user's own, by its name."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def printable(path: str) -> str:
    """A path that need not be text, as text of one line."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False
