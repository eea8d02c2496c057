"""The log of a command on the screen and in a file."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from se_resnet.errors import UserError, one_line
from se_resnet.runtime.times import now

_open_files: set[str] = set()  # absolute paths of the files of log_file() that are open


def log(topic: str, text: str) -> None:
    """Prints a paragraph with its topic in front of the first line."""
    print(f"{topic:<10}" + text.replace("\n", "\n" + " " * 10), flush=True)


def screen(stream: Any) -> Any:
    """Returns the stream without the copies to files that :func:`log_file` makes."""
    while isinstance(stream, _Copied):
        stream = stream.stream
    return stream


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copies the lines that the block prints to the end of a file, each with its time.

    Standard output and standard error are copied, without the bars of
    :mod:`se_resnet.runtime.progress_bar`. The error that ends the block is added. A file that
    cannot be written, as on a full disk, is reported once on standard error and does not end the
    work. A block inside another block on the same file changes nothing.

    Args:
        path: the file, in a folder that exists.
    """
    name = os.path.abspath(path)
    if name in _open_files:
        yield
        return
    file = _LogFile(path, sys.stderr)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Copied(sys.stdout, file), _Copied(sys.stderr, file)
    _open_files.add(name)
    try:
        yield
    except BaseException as error:
        file.write(_describe(error))
        raise
    finally:
        _open_files.discard(name)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Copied):
                stream.end_line()
        sys.stdout, sys.stderr = before
        file.close()


def _describe(error: BaseException) -> str:
    """Returns the line for the error that ended the work."""
    text = one_line(error)
    if isinstance(error, UserError):
        return f"error: {text}"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted: {text}" if text else "interrupted"
    return f"error: {type(error).__name__}: {text}"


class _LogFile:
    """A file to which lines are added.

    Args:
        path: the file.
        screen: the stream for the message that the file cannot be written.
    """

    def __init__(self, path: Path, screen: Any):
        self._path, self._screen = path, screen
        self._descriptor: int | None = None
        self._has_failed = False
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Adds a line with its time. An error is reported once."""
        content = f"{now()}  {line}\n".encode(errors="backslashreplace")
        with self._lock:
            try:
                if self._descriptor is None:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                    self._descriptor = os.open(self._path, flags, 0o666)
                os.write(self._descriptor, content)
            except OSError as error:
                self._report(error)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _report(self, error: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            print(
                f"warning: {self._path} cannot be written ({error.strerror}): lines of the log are "
                "only on the screen.",
                file=self._screen,
            )


class _Copied:
    """A stream of text whose whole lines are also added to a file.

    Of a line with carriage returns the text after the last counts, as on a screen. Everything but
    writing is that of the stream.

    Attributes:
        stream: the stream.
    """

    def __init__(self, stream: Any, file: _LogFile):
        self.stream = stream
        self._file, self._line = file, ""

    def write(self, text: str) -> int:
        """Writes text to the stream, and whole lines to the file."""
        written = self.stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if shown := line.rpartition("\r")[2].rstrip():
                self._file.write(shown)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def end_line(self) -> None:
        """Adds text that lacks the end of its line to the file."""
        if shown := self._line.rpartition("\r")[2].rstrip():
            self._file.write(shown)
        self._line = ""

    def __eq__(self, other: object) -> bool:
        """Compares the streams on the screen, for tqdm, which moves a bar below new lines."""
        return screen(self) is screen(other)

    def __hash__(self) -> int:
        return hash(screen(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
