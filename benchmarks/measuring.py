"""Measures work in a separate process, prints tables, writes JSON, describes the machine."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import multiprocessing
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_resnet.runtime.cli import path_argument
from se_resnet.runtime.files import write_json

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One call of a function in a separate process.

    Attributes:
        seconds: wall time of the call, without the start of the process and imports.
        peak_bytes: peak of anonymous memory. Pages of mapped files do not count, because the
            operating system can drop them.
        start_bytes: anonymous memory before the call, of the interpreter and its imports.
        value: return value of the function.
    """

    seconds: float
    peak_bytes: int
    start_bytes: int
    value: Any

    @property
    def added_bytes(self) -> int:
        """Peak memory of the call without the memory before."""
        return self.peak_bytes - self.start_bytes


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Measurement:
    """Measures ``work(*arguments)``. All must be picklable. Linux only.

    Raises:
        SystemExit: the process failed; its traceback is on standard error.
    """
    receive, send = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_measure, args=(work, arguments, send))
    process.start()
    send.close()
    try:
        measurement = receive.recv()
    except EOFError:
        raise SystemExit(f"{work.__name__}{arguments} failed") from None
    process.join()
    return measurement


class Staged:
    """A generator in a separate process, which advances on request.

    A contender prepares itself before the first value, while others do the same, and measures one
    round for each further value, while the others wait.
    """

    def __init__(self, work: Callable[..., Iterator[Any]], *arguments: Any):
        """Starts the process, which prepares the first value at once. All must be picklable."""
        self._name = f"{work.__name__}{arguments}"
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_advance, args=(work, arguments, theirs))
        self._process.start()
        theirs.close()

    def ready(self, seconds: float) -> bool:
        """Returns whether the value is there, after waiting at most so long."""
        return self._pipe.poll(seconds)

    def value(self) -> Any:
        """Waits for the value that is being made, and returns it.

        Raises:
            SystemExit: the process failed; its traceback is on standard error.
        """
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self._name} failed") from None

    def next(self) -> Any:
        """Asks for the next value, waits for it and returns it; raises as :meth:`value`."""
        self._pipe.send(True)
        return self.value()

    def close(self) -> None:
        """Ends the process, which frees the memory of its device."""
        with contextlib.suppress(OSError):
            self._pipe.send(False)
        self._process.join(10)
        self._process.kill()  # a process that still prepares a value
        self._process.join()
        self._pipe.close()


def _advance(work: Callable[..., Iterator[Any]], arguments: tuple, pipe: Any) -> None:
    values = work(*arguments)
    pipe.send(next(values))
    while pipe.recv():
        pipe.send(next(values))


def _measure(work: Callable[..., Any], arguments: tuple, answer: Any) -> None:
    start_bytes = peak = _anonymous_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, _anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.monotonic()
    try:
        value = work(*arguments)
    finally:
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    answer.send(Measurement(seconds, peak, start_bytes, value))


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon: benchmarks of memory need Linux")


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the option ``--out``, for :func:`finish`."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=path_argument, help="JSON file to write")
    return options


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows of equal keys as a Markdown table, floats with three significant digits."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def finish(
    rows: Sequence[Mapping[str, Any]], out: Path | None, *notes: str, **further: Sequence[Mapping]
) -> None:
    """Prints tables, notes and machine. Writes them as JSON if ``out`` is given."""
    facts = machine()
    tables = [text for part in (rows, *further.values()) for text in ("", table(part))]
    print("\n".join([*tables, *notes, ", ".join(f"{k} {v}" for k, v in facts.items())]))
    if out:
        write_json(out, {"rows": list(rows), **further, "notes": notes, "machine": facts})


def machine() -> dict[str, Any]:
    """Returns the facts about the machine that affect measurements."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if "model name" in line), model)
    return {
        **_gpu(),
        "CPU": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "Python": platform.python_version(),
        **_versions("jax", "tensorflow-cpu", "torch", "onnxruntime", "openvino"),
        "date": datetime.date.today().isoformat(),
    }


def _gpu() -> dict[str, str]:
    """Returns names and driver of the NVIDIA cards, if there are any."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"GPU": "; ".join(answer.splitlines())}


def _versions(*names: str) -> dict[str, str]:
    """Returns the versions of the installed packages among these."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
