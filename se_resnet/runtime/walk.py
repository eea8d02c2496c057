"""Lists the files below a folder and counts the files and folders that it skips."""

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
VISITED = "links to folders that were read already"
OTHER_SUFFIX = "other suffixes"
NOT_REGULAR = "pipes, sockets and devices"

MAX_DEPTH = 40  # nested folders; file systems limit paths to little more
# macOS, Synology and Windows create these; they may hold thumbnails and deleted images.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_SHOWN_EXAMPLES, _SHOWN_SUFFIXES = 3, 6
_KEPT_EXAMPLES, _KEPT_NAMES = 20, 100_000


class PassedOver:
    """Counts the files and folders that a walk skipped, by reason, with a few examples.

    Attributes:
        root: folder below which the paths lie that are added next.
        named: path and reason of everything that was skipped, if ``keep_names``; at most 100,000.

    Args:
        keep_names: True to list everything in ``named``.
    """

    def __init__(self, keep_names: bool = False) -> None:
        self.root = Path()
        self.named: list[tuple[str, str]] = []
        self._keep_names = keep_names
        self._examples: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, reason: str, example: str) -> None:
        """Counts one file or folder. ``example`` is its path."""
        self._name(example, reason)
        self._count(reason, example)

    def _name(self, path: str, reason: str) -> None:
        if self._keep_names and len(self.named) < _KEPT_NAMES:
            self.named.append((str(self.root / path), reason))

    def _count(self, reason: str, example: str) -> None:
        self._counts[reason] += 1
        examples = self._examples[reason]
        if example in examples or len(examples) < _KEPT_EXAMPLES:
            examples[example] += 1

    def clear(self) -> None:
        """Forgets everything, before a second walk."""
        self.named.clear()
        self._examples.clear()
        self._counts.clear()

    def add_suffix(self, path: str) -> None:
        """Counts one file with another suffix."""
        self._name(path, OTHER_SUFFIX)
        self._count(OTHER_SUFFIX, PurePosixPath(path).suffix.lower()[:20] or "no suffix")

    def describe(self) -> str:
        """Returns the counts on one line, or an empty string if nothing was skipped.

        For example ``hidden 2 (.DS_Store, a/._b.png); other suffixes 5 (.txt 3, .csv 2)``.
        """
        return "; ".join(
            f"{reason} {count:,} ({self._describe_examples(reason)})"
            for reason, count in self._counts.items()
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Returns ``count`` and some ``examples`` by reason, for JSON."""
        return {
            reason: {
                "count": count,
                "examples": [printable(name) for name in self._examples[reason]],
            }
            for reason, count in self._counts.items()
        }

    def _describe_examples(self, reason: str) -> str:
        suffixes = reason == OTHER_SUFFIX
        examples = self._examples[reason].most_common(
            _SHOWN_SUFFIXES if suffixes else _SHOWN_EXAMPLES
        )
        parts = [printable(name) + (f" {count:,}" if suffixes else "") for name, count in examples]
        more = self._counts[reason] - sum(count for _, count in examples)
        return ", ".join(parts) + (f" and {more:,} more" if more else "")


@dataclass(frozen=True)
class Listing:
    """The files and folders below a folder.

    Attributes:
        files: paths relative to the folder, with ``/`` between folders, sorted. Everything but a
            folder counts as a file, also a pipe or a broken link.
        folders: paths of the folders that were read, in the same form.
    """

    files: list[str]
    folders: list[str]


def walk(root: Path, passed_over: PassedOver) -> Listing:
    """Lists everything below a folder.

    Follows links to folders. Lists each folder once, by its path without links if it has one.
    Skips hidden files and folders, and folders that operating systems create.

    Args:
        root: the folder.
        passed_over: counts what is skipped.

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
        folder = os.path.join(root, relative)
        if (real := os.path.realpath(folder)) in seen:
            if follows_link:
                passed_over.add(VISITED, relative)
            continue
        seen.add(real)
        if relative.count("/") >= MAX_DEPTH:
            passed_over.add(TOO_DEEP, relative)
            continue
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
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
    """Returns whether the name is that of a hidden file or a folder of the system."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def printable(path: str) -> str:
    """Returns a path, which need not be valid text, as text on one line."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False
