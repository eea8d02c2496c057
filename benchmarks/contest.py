"""Times contenders at the same work, in turn.

Only one contender works at a time. Every round gives each contender a turn, so that other load of
the machine affects all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.contenders import CONTENDERS, OURS, Opponent, Turn, environment
from benchmarks.measuring import finish, in_own_process, parser, table
from benchmarks.peers import Task

CHECKED = 2  # batches whose results are compared; the first also compiles
# Allowed differences from ours, in the first and the second batch, by the type of the features.
Tolerance = Mapping[str, tuple[float, float]]


def contest(
    role: str,
    names: Sequence[str],
    task: Task,
    variables: Mapping[str, str],
    options: argparse.Namespace,
    tolerance: Tolerance,
) -> list[dict]:
    """Returns one row per contender. The others are compared with the first, which is ours."""
    batches = max(1, round(options.images / task.batch_size))
    # Not timed: the system took memory back while others worked, and ours folds in each call.
    warm_up = 1
    turns: dict[str, list[Turn]] = {}
    with contextlib.ExitStack() as stack:
        opponents = []
        for name in names:
            opponent = Opponent(name, role, task, options.threads, variables)
            stack.callback(opponent.close)
            turns[name] = [opponent.turn(CHECKED)]
            opponents.append(opponent)
            check(name, tolerance[task.dtype], turns[name][0], turns[names[0]][0])
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


def differences(turn: Turn, ours: Turn) -> list[float]:
    """Returns the largest difference in each checked batch."""
    return np.abs(turn.values - ours.values).reshape(CHECKED, -1).max(axis=1).tolist()


def check(name: str, allowed: tuple[float, float], turn: Turn, ours: Turn) -> None:
    """Ends the process if a contender computes other values."""
    first, second = differences(turn, ours)
    if not (first <= allowed[0] and second <= allowed[1]):
        raise SystemExit(f"{name} computes other values: {first:.2g} and {second:.2g} off")


def row(name: str, rates: Mapping[str, list[float]], turns: Mapping[str, list[Turn]]) -> dict:
    ours = next(iter(rates))
    ratios = [mine / peer for mine, peer in zip(rates[ours], rates[name], strict=True)]
    first, second = differences(turns[name][0], turns[ours][0])
    return {
        "contender": name,
        "images/s": statistics.median(rates[name]),
        f"{ours}: times as fast": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "first batch, s": turns[name][0].first,
        "peak, MB": max(turn.peak_bytes for turn in turns[name][1:]) / 1e6,
        "difference": first,
        "in the second batch": second,
        "CPU while waiting, %": 100 * max(turn.idle for turn in turns[name][1:]),
    }


def run(
    role: str, description: str, peers: Sequence[str], tolerance: Tolerance, images: int
) -> None:
    """Runs the command: parses the options, runs all contests and reports.

    Args:
        role: ``'trainer'`` or ``'predictor'``.
        description: of the command, for ``--help``.
        peers: names of contenders, the default of ``--peers``.
        tolerance: allowed differences from ours; its keys are the choices of ``--dtype``.
        images: default number of images in a turn.
    """
    flags = parser(description)
    flags.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="images in a batch")
    flags.add_argument("--dtype", nargs="+", choices=list(tolerance), default=["float32"])
    flags.add_argument("--memory", nargs="+", choices=["default", "huge"], default=["huge"])
    flags.add_argument("--peers", nargs="*", choices=peers, default=peers)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument(
        "--images", type=int, default=images, help="images in a turn, at least one batch"
    )
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
            task = Task(batch, dtype, *shape)
            variables = environment(memory, options.threads, folder)
            if not written:
                in_own_process(prepare, task)
            case = {"batch": batch, "dtype": dtype, "memory": memory}
            rows += [case | r for r in contest(role, names, task, variables, options, tolerance)]
            print(table(rows[-len(names) :]), flush=True)
    finish(rows, options.out, *(f"{name}: {why}" for name, why in absent.items() if why))


def prepare(task: Task) -> None:
    """Writes the tensors of a task; runs in a separate process because it imports JAX."""
    from benchmarks.peers.ours import write_tensors

    write_tensors(task)
