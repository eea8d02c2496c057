"""Signals that ask a process to end: Ctrl-C, and the SIGTERM before a preemption."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# 75 is EX_TEMPFAIL of sysexits.h: the same command may succeed later.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Args:
        signum: the signal.
        told: what was done before.
    """

    def __init__(self, signum: int, told: str = ""):
        super().__init__(told)
        self.exit_code = EXIT_CODES[signal.Signals(signum)]


@dataclasses.dataclass
class Pending:
    """The signal that arrived in the block of :func:`deferred`, or None."""

    signum: int | None = None


@contextmanager
def raised() -> Iterator[None]:
    """For the block, SIGTERM raises :class:`Interrupted`, as Ctrl-C does KeyboardInterrupt."""

    def stop(signum: int, _frame: object) -> None:
        raise Interrupted(signum)

    with _handled([signal.SIGTERM], stop):
        yield


@contextmanager
def deferred() -> Iterator[Pending]:
    """For the block, the first signal is noted only; a second one ends the process at once.

    Outside the main thread, which alone may handle signals, nothing is changed.
    """
    pending = Pending()

    def note(signum: int, _frame: object) -> None:
        pending.signum = signum
        for each in EXIT_CODES:  # the system's own, which no long computation delays
            signal.signal(each, signal.SIG_DFL)

    with _handled(list(EXIT_CODES), note):
        yield pending


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
