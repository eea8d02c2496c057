"""Handles signals that ask a process to end: Ctrl-C, and SIGTERM before a preemption."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# 75 is EX_TEMPFAIL of sysexits.h: the same command may succeed later.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Args:
        signum: number of the signal.
        progress: what was saved before, for the message.
    """

    def __init__(self, signum: int, progress: str = ""):
        super().__init__(progress)
        self.exit_code = EXIT_CODES[signal.Signals(signum)]


@dataclasses.dataclass
class Pending:
    """The signal that arrived in the block of :func:`deferred`, or None."""

    signum: int | None = None


@contextmanager
def raised() -> Iterator[None]:
    """Lets SIGTERM raise :class:`Interrupted` in the block, as Ctrl-C raises KeyboardInterrupt."""

    def stop(signum: int, _frame: object) -> None:
        raise Interrupted(signum)

    with _handled([signal.SIGTERM], stop):
        yield


@contextmanager
def deferred() -> Iterator[Pending]:
    """Only records the first signal in the block. A second signal ends the process at once.

    Does nothing outside the main thread, because only the main thread may handle signals.
    """
    pending = Pending()

    def note(signum: int, _frame: object) -> None:
        pending.signum = signum
        for handled in EXIT_CODES:  # no long computation delays the default handler
            signal.signal(handled, signal.SIG_DFL)

    with _handled(list(EXIT_CODES), note):
        yield pending


@contextmanager
def postponed() -> Iterator[None]:
    """Delivers a signal that arrives in the block after the block.

    For work in which an exception would do harm: imports of libraries written in C++, which it can
    abort, and libraries whose threads would continue.
    """
    with deferred() as pending:
        yield
    if pending.signum is not None:
        os.kill(os.getpid(), pending.signum)


@contextmanager
def _handled(signums: Sequence[signal.Signals], handler: Callable) -> Iterator[None]:
    before = {}
    try:
        for signum in signums:
            before[signum] = signal.signal(signum, handler)
    except ValueError:  # not in the main thread
        before = {}
    try:
        yield
    finally:
        for signum, previous in before.items():
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)
