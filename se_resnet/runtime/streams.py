"""Makes standard input, output and error safe: a failed write does not end the work."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from se_resnet.errors import UserError


class _Output(io.FileIO):
    """A stream that drops data it cannot write, and keeps the error.

    Attributes:
        failure: the first error, or None.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes


def make_safe() -> None:
    """Opens closed streams on the null device, and keeps all streams from raising.

    Otherwise the next opened file would take the number of a closed stream, and log messages of a
    library would be written into that file. A reader that went away, a full disk or a character
    that the encoding lacks must not end a training.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is sys.__stdout__ and _raw(sys.stdout) is None:
        sys.stdout = _opened(1, sys.stdout)
    if sys.stderr is sys.__stderr__ and _raw(sys.stderr) is None:
        sys.stderr = _opened(2, sys.stderr)


def require_written() -> None:
    """Checks that all printed text was written.

    A reader that went away, as ``head`` does, is no error.

    Raises:
        UserError: text could not be written, for example on a full disk.
    """
    if (raw := _raw(sys.stdout)) is not None:
        sys.stdout.flush()
        if raw.failure is not None and raw.failure.errno != errno.EPIPE:
            raise UserError(
                f"standard output could not be written ({raw.failure.strerror}): the printed text "
                "is lost, the files of the command are complete."
            )


def _opened(descriptor: int, before: Any) -> io.TextIOWrapper:
    if before is not None:
        before.flush()
    unbuffered = getattr(before, "write_through", False)  # python -u
    buffer = io.BufferedWriter(_Output(descriptor, "w", closefd=False))
    return io.TextIOWrapper(
        buffer,
        encoding=getattr(before, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=descriptor == 2 or buffer.raw.isatty() or unbuffered,
    )


def _raw(stream: Any) -> _Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Output) else None
