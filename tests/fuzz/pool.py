"""Runs cases in processes of their own, so that a hang or a crash is told with its case."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random

from tests.fuzz import targets
from tests.fuzz.oracle import PATIENCE, Verdict, judge
from tests.fuzz.place import Place

_START = 180.0  # seconds in which a process must have imported JAX and TensorFlow


@dataclasses.dataclass(frozen=True)
class Case:
    """One case: the same three values give the same input, wherever and after whatever it runs.

    Attributes:
        target: a module of ``tests.fuzz.targets``, or the full name of a module.
        seed, number: of the case.
    """

    target: str
    seed: int
    number: int

    def __str__(self) -> str:
        return f"--seed={self.seed} --target={self.target} --case={self.number}"

    def run(self, folder: Path, run: Path | None) -> Verdict:
        """Runs the case in this process, in a folder of its own below ``folder``."""
        make = targets.load(self.target).case
        root = Path(tempfile.mkdtemp(prefix="case-", dir=folder)).resolve()
        place = Place.make(root, run)
        rng = Random(f"{self.target} {self.seed} {self.number}")
        try:
            return judge(lambda: make(rng, place), place)
        finally:
            shutil.rmtree(root, ignore_errors=True)


class _Worker:
    """A process with the case that it is at."""

    def __init__(self, folder: Path, run: Path | None, names: Sequence[str]):
        context = multiprocessing.get_context("spawn")
        self.folder = Path(tempfile.mkdtemp(prefix="worker-", dir=folder))
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.folder, run, names), daemon=True
        )
        self.process.start()
        theirs.close()
        self.case: Case | None = None
        self.deadline = time.monotonic() + _START

    def give(self, case: Case) -> None:
        self.case, self.deadline = case, time.monotonic() + PATIENCE
        self.pipe.send(case)

    def end(self) -> str:
        """Kills the process; returns what it last wrote to standard error."""
        self.process.kill()
        self.process.join()
        if not self.pipe.closed:
            self.pipe.close()
        log = (
            (self.folder / "log").read_text(errors="replace")
            if (self.folder / "log").exists()
            else ""
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        return log[-3000:]


def run_cases(
    cases: Sequence[Case], folder: Path, run: Path | None, workers: int
) -> Iterator[tuple[Case, Verdict]]:
    """Runs cases in several processes, in any order; a process that hangs or dies is replaced."""
    waiting = iter(cases)
    names = sorted({case.target for case in cases})
    crew = [_Worker(folder, run, names) for _ in range(workers)]
    try:
        while crew:
            readable = wait([worker.pipe for worker in crew], timeout=0.5)
            for worker in list(crew):
                case, verdict = worker.case, None
                if worker.pipe in readable:
                    try:
                        verdict = worker.pipe.recv()  # None when it is ready for its first case
                    except (EOFError, OSError):
                        worker.process.join()
                        code = worker.process.exitcode
                        verdict = Verdict("", f"the process died ({code}):\n{worker.end()}", "", 0)
                elif time.monotonic() > worker.deadline:
                    verdict = Verdict("", f"no end after {PATIENCE:.0f} s:\n{worker.end()}", "", 0)
                else:
                    continue
                crew.remove(worker)
                if case is None and verdict is not None:
                    raise RuntimeError(f"a process did not start: {verdict.problem}")
                if case and verdict:
                    yield case, verdict
                following = next(waiting, None)
                if following is None:
                    worker.end()
                    continue
                if worker.process.is_alive():
                    worker.give(following)
                    crew.append(worker)
                else:
                    waiting = _before(following, waiting)
                    crew.append(_Worker(folder, run, names))
    finally:
        for worker in crew:
            worker.end()


def _before(first: Case, rest: Iterator[Case]) -> Iterator[Case]:
    yield first
    yield from rest


def _serve(pipe: Connection, folder: Path, run: Path | None, names: Sequence[str]) -> None:
    """The work of a process: one case after another."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import faulthandler

    faulthandler.enable(sys.__stderr__)
    for name in names:  # their seconds are no case's
        targets.load(name)
    pipe.send(None)
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        os.truncate(folder / "log", 0)
        pipe.send(case.run(folder, run))
