"""Runs each contender in a process that stays alive between its turns.

All processes have the same cores, threads and environment. A waiting process sleeps on a pipe.
``Turn.idle`` shows its CPU time in the meantime.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.peers import Batch, Task
from se_resnet.runtime.interpreter import with_huge_pages


@dataclasses.dataclass(frozen=True)
class Contender:
    """A contender.

    Attributes:
        module: module in ``benchmarks.peers``.
        options: options of its ``trainer`` or ``predictor``.
        needs: required packages.
        compiles: whether it needs a C++ compiler.
    """

    module: str
    options: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    compiles: bool = False

    def absent(self) -> str | None:
        """Returns a sentence about a missing requirement, or None."""
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed: the extra bench has it."
        compilers = (os.environ.get("CXX", "g++"), "clang++")
        if self.compiles and not any(map(shutil.which, compilers)):
            return "there is no C++ compiler."
        return None


OURS = "ours, fast"
CONTENDERS = {
    OURS: Contender("ours", {"formulation": "fast"}),
    "ours, plain": Contender("ours", {"formulation": "plain"}),
    "torch": Contender("torch_resnet", {}, ("torch",)),
    "torch.compile": Contender("torch_resnet", {"compiled": True}, ("torch",), True),
    "torch.compile, frozen": Contender(
        "torch_resnet", {"compiled": True, "frozen": True}, ("torch",), True
    ),
    "keras": Contender("keras_resnet", {}, ("keras", "tensorflow")),
    "onnxruntime": Contender(
        "onnx_resnet", {"runtime": "onnxruntime"}, ("tf2onnx", "onnx", "onnxruntime")
    ),
    **{
        name: Contender("onnx_resnet", {"runtime": name}, ("tf2onnx", "onnx", "openvino"))
        for name in ("openvino", "openvino, streams")
    },
}


@dataclasses.dataclass(frozen=True)
class Turn:
    """The result of one turn.

    Attributes:
        values: losses or logits, in order.
        first: seconds until the first batch was finished.
        durations: seconds of each batch.
        idle: CPU seconds per second since the turn before.
        peak_bytes: peak memory since the first turn, without mapped files.
    """

    values: np.ndarray
    first: float
    durations: list[float]
    idle: float
    peak_bytes: int


class Opponent:
    """A contender's process."""

    def __init__(self, name: str, role: str, task: Task, threads: int, environment: Mapping):
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, theirs) = name, context.Pipe()
        arguments = (CONTENDERS[name], role, task, threads, theirs)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with mock.patch.dict(os.environ, environment, clear=True):
            self.process.start()
        theirs.close()

    def turn(self, batches: int) -> Turn:
        """Runs some batches while all other contenders wait."""
        try:
            self.pipe.send(batches)
            return self.pipe.recv()
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"{self.name} failed") from None

    def close(self) -> None:
        """Ends the process."""
        self.pipe.close()
        self.process.join()


def _serve(contender: Contender, role: str, task: Task, threads: int, pipe: Any) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if "torch" in contender.needs:
        import torch

        torch.set_num_threads(threads)  # torch would count hyper-threads as one
    module = importlib.import_module(f"benchmarks.peers.{contender.module}")
    work = getattr(module, role)(task, **contender.options)
    batch, first_turn = task.batch(), True
    waiting = time.monotonic(), time.process_time()
    with contextlib.suppress(EOFError):
        while batches := pipe.recv():
            stamps: list[float] = []
            start = time.monotonic()
            idle = (time.process_time() - waiting[1]) / (start - waiting[0])
            values = np.asarray(work(_stamped(batch, batches, stamps)))
            stamps.append(time.monotonic())
            waiting = time.monotonic(), time.process_time()
            if first_turn:
                Path("/proc/self/clear_refs").write_text("5")  # resets the peak
                first_turn = False
            durations = np.diff(stamps).tolist()
            pipe.send(Turn(values, stamps[1] - start, durations, idle, _peak_bytes()))


def _stamped(batch: Batch, count: int, stamps: list[float]) -> Iterator[Batch]:
    for _ in range(count):
        stamps.append(time.monotonic())
        yield batch


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    facts = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return 1024 * (int(facts["VmHWM"]) - int(facts["RssFile"]))


def environment(memory: str, threads: int, folder: Path) -> dict[str, str]:
    """Returns the environment of every process, without compiled programs of earlier runs."""
    base = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    return {
        **(with_huge_pages(base) if memory == "huge" else base),
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TORCHINDUCTOR_CACHE_DIR": tempfile.mkdtemp(dir=folder),
    }
