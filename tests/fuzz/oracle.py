"""What every case must do: succeed, or refuse in a sentence, and leave the rest alone.

A command may end in success or in a :class:`UserError`, which it tells with exit code 2. It may not
raise anything else, work for more than 10 s or wait for more than 60 s, need more than 1 GiB of
memory above what it started with, write outside its own folders, change what it reads, or unpickle.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from se_resnet.errors import UserError
from tests.fuzz.place import Place

SECONDS = 10.0
PATIENCE = 60.0  # of whoever waits for a case: a busy machine is slow
MEMORY = 1 << 30
ADDRESS_SPACE = 4 << 30  # beyond this the operating system refuses
SUCCESS, REFUSED = "success", "refused"

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events whose arguments so many first are paths that change.
_CHANGES = {
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.chmod": 1,
    "os.truncate": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
}
# Those whose last argument is the open folder that a path starts from, or -1: shutil.rmtree's.
_IN_FOLDER = ("os.remove", "os.rmdir", "os.mkdir")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a case ended.

    Attributes:
        outcome: ``success`` or ``refused``; empty where ``problem`` says what went wrong.
        problem: what the case must not do and did, or an empty string.
        told: the refusal's sentence.
        seconds: of processor time.
    """

    outcome: str
    problem: str
    told: str
    seconds: float


class Watch:
    """Notes forbidden events while it is on; Python never forgets an audit hook."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] = ()
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "pickle.find_class":
            self.seen.append(f"unpickled {arguments}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self._note(event, arguments[0])
        else:
            folder = arguments[-1] if event in _IN_FOLDER else -1
            for path in arguments[: _CHANGES.get(event, 0)]:
                self._note(event, path, folder)

    def _note(self, event: str, path: object, folder: int = -1) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            start = "" if folder == -1 else os.readlink(f"/proc/self/fd/{folder}")
            absolute = os.path.abspath(os.path.join(start, os.fsdecode(path)))
            if not absolute.startswith(self.allowed):
                self.seen.append(f"{event} of {absolute}")


_watch: list[Watch] = []


def judge(make: Callable[[], Callable[[], object]], place: Place) -> Verdict:
    """Makes a case and runs it.

    Args:
        make: writes the input and returns the action; what it raises is a mistake in the target.
        place: the case's folders.
    """
    action = make()
    before = place.snapshot()
    outcome, problem, told = "", "", ""
    with _surroundings(place) as forbidden, _address_space():
        memory = _reset_peak()
        started = time.process_time()
        try:
            action()
            outcome = SUCCESS
        except UserError as error:
            outcome, told = REFUSED, str(error)
        except SystemExit as error:
            outcome = REFUSED if error.code == 2 else ""
            problem = "" if outcome else f"exit code {error.code}"
        except BaseException:
            problem = traceback.format_exc()
        seconds = time.process_time() - started
        used = _peak() - memory
    if outcome == REFUSED and told and "Traceback" in told:
        problem = f"a traceback instead of a sentence: {told}"
    if seconds > SECONDS:
        problem = problem or f"{seconds:.0f} s of work"
    if used > MEMORY:
        problem = problem or f"{used / 1e6:,.0f} MB of memory"
    if forbidden:
        problem = problem or "; ".join(forbidden)
    if (after := place.snapshot()) != before:
        changed = {path for path, _ in before.items() ^ after.items()}
        problem = problem or f"changed {', '.join(sorted(changed))}"
    return Verdict("" if problem else outcome, problem, told, seconds)


@contextmanager
def _surroundings(place: Place) -> Iterator[list[str]]:
    """The process in the case's folders; gives the list of forbidden events to come."""
    if not _watch:
        _watch.append(Watch())
    watch = _watch[0]
    work, temporary = str(place.work), place.work / "tmp"
    temporary.mkdir()
    here = os.getcwd()
    environment = {
        "HOME": str(place.work / "home"),  # libraries keep settings there
        "SE_RESNET_CACHE": str(place.work / "cache"),
        "XDG_CACHE_HOME": str(place.work / "xdg"),
    }
    xla = os.environ.get("SE_RESNET_CACHE", work)  # JAX keeps what it compiled there
    os.chdir(place.elsewhere)
    watch.seen, watch.allowed, watch.on = [], (work, xla, os.devnull, "/dev/fd", "/proc/self"), True
    try:
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(tempfile, "tempdir", str(temporary)),
        ):
            yield watch.seen
    finally:
        watch.on = False
        os.chdir(here)


@contextmanager
def _address_space() -> Iterator[None]:
    """A soft limit, so that a case that asks for all memory fails without taking the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _reset_peak() -> int:
    """Forgets the peak of resident memory; returns the bytes of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
