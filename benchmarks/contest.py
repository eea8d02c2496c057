"""Contenders that do the same work in turn, each in a process that stays alive between its turns.

Only one works at a time, and every round gives each a turn, so that whatever else the machine does
hits all alike. All have the same cores, threads and environment.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.util
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.measuring import finish, in_own_process, parser, table
from benchmarks.peers import Batch, Task
from se_resnet.process import with_huge_pages

CHECKED = 2  # batches whose results are compared; the first also compiles
# Largest difference of a result from ours that is not an error; bfloat16 has 8 bits.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "bn_epsilon": 1e-3}


@dataclasses.dataclass(frozen=True)
class Contender:
    """Who takes part.

    Attributes:
        module: in ``benchmarks.peers``.
        options: of its ``trainer`` or ``predictor``.
        needs: packages.
        compiles: whether it needs a C++ compiler.
    """

    module: str
    options: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    compiles: bool = False

    def absent(self) -> str | None:
        """What is missing, in a sentence, or None."""
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
}


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a process answers.

    Attributes:
        values: losses or logits, one after another.
        first: seconds until the first batch was done.
        durations: of each batch, in seconds.
        idle: CPU seconds per second since the turn before.
        peak_bytes: most memory since the first turn, without mapped files.
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
        """Lets it work while all others wait."""
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

        torch.set_num_threads(threads)  # it would count hyper-threads as one
    module = importlib.import_module(f"benchmarks.peers.{contender.module}")
    work = getattr(module, role)(task, **contender.options)
    batch, first_turn = task.batch(), True
    waiting = time.monotonic(), time.process_time()
    with contextlib.suppress(EOFError):
        while batches := pipe.recv():
            start, stamps = time.monotonic(), []
            idle = (time.process_time() - waiting[1]) / (start - waiting[0])
            values = np.asarray(work(_stamped(batch, batches, stamps)))
            stamps.append(time.monotonic())
            waiting = time.monotonic(), time.process_time()
            if first_turn:
                Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
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


def environments(memory: str, threads: int, folder: Path) -> dict[str, str]:
    """The environment of every process; nobody finds programs of an earlier run."""
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


def contest(
    role: str,
    names: Sequence[str],
    task: Task,
    environment: Mapping[str, str],
    options: argparse.Namespace,
) -> list[dict]:
    """One row per contender; the first name is ours, with which the others are compared."""
    batches = max(1, round(options.images / task.batch_size))
    warm_up = 1 if role == "predictor" else 0  # each call of ours folds, and may be asynchronous
    turns: dict[str, list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        opponents = []
        for name in names:
            opponent = Opponent(name, role, task, options.threads, environment)
            stack.callback(opponent.close)
            turns[name] = [opponent.turn(CHECKED)]
            opponents.append(opponent)
            difference = np.abs(turns[name][0].values - turns[names[0]][0].values).max()
            if not difference <= TOLERANCE[task.dtype]:
                raise SystemExit(f"{name} computes something else: {turns[name][0].values}")
        for _ in range(options.rounds):
            for opponent in opponents:
                turns[opponent.name].append(opponent.turn(batches + warm_up))
    rates = {
        name: [
            task.batch_size * batches / sum(turn.durations[warm_up:]) for turn in turns[name][1:]
        ]
        for name in names
    }
    return [row(name, rates, turns) for name in names]


def row(name: str, rates: Mapping[str, list[float]], turns: Mapping[str, list[Turn]]) -> dict:
    ours = next(iter(rates))
    ratios = [mine / peer for mine, peer in zip(rates[ours], rates[name], strict=True)]
    return {
        "contender": name,
        "images/s": statistics.median(rates[name]),
        f"{ours}: times as fast": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "first batch, s": turns[name][0].first,
        "peak, MB": max(turn.peak_bytes for turn in turns[name][1:]) / 1e6,
        "difference": float(np.abs(turns[name][0].values - turns[ours][0].values).max()),
        "CPU while waiting, %": 100 * max(turn.idle for turn in turns[name][1:]),
    }


def run(role: str, description: str, peers: Sequence[str], images: int) -> None:
    """The command: reads the options, holds all contests and finishes."""
    flags = parser(description)
    flags.add_argument("--batch", type=int, nargs="+", default=[1, 16, 32], help="images in a batch")
    flags.add_argument("--dtype", nargs="+", choices=list(TOLERANCE), default=["float32"])
    flags.add_argument("--memory", nargs="+", choices=["default", "huge"], default=["huge"])
    flags.add_argument("--peers", nargs="*", choices=peers, default=peers)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--images", type=int, default=images, help="of a turn, at least one batch")
    flags.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    flags.add_argument("--size", type=int, default=224, help="pixels")
    flags.add_argument("--width", type=int, default=64, help="channels of the stem")
    flags.add_argument("--stage_sizes", type=int, nargs="+", default=[3, 4, 6, 3])
    options = flags.parse_args()
    absent = {name: CONTENDERS[name].absent() for name in options.peers}
    names = [OURS, *(name for name in peers if name in absent and not absent[name])]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = options.size, tuple(options.stage_sizes), options.width, folder / "tensors.npz"
        for written, (batch, dtype, memory) in enumerate(
            (b, d, m) for b in options.batch for d in options.dtype for m in options.memory
        ):
            task = Task(batch, dtype, *shape, **IMAGENET)
            environment = environments(memory, options.threads, folder)
            if not written:
                in_own_process(write_tensors, task)
            case = {"batch": batch, "dtype": dtype, "memory": memory}
            rows += [case | r for r in contest(role, names, task, environment, options)]
            print(table(rows[-len(names) :]), flush=True)
    finish(rows, options.out, *(f"{name}: {why}" for name, why in absent.items() if why))


def write_tensors(task: Task) -> None:
    from benchmarks.peers.ours import write_tensors

    write_tensors(task)
