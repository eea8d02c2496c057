"""Kills trainings at random moments and compares the results with an undisturbed training.

    python -m benchmarks.kill_test --kills 30 --seed 0

A tiny network trains on generated images (moving averages, two phases, SMOTE, augmentation) with a
checkpoint at every log line. ``train.py`` is started, killed and started again until it finishes.
Then a new run begins, until the number of kills is reached. Every second kill is a SIGKILL that
waits until a checkpoint is being written. The other kills come at any moment, half of them by
SIGTERM or SIGINT. A finished run must equal the undisturbed run: metrics.jsonl, test predictions
and test metrics byte for byte, parameters, optimizer state, statistics and averages bit for bit.
Ends with exit code 1 if anything differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from tqdm import tqdm

from benchmarks.generate import names, picture
from benchmarks.measuring import ROOT, finish, parser
from data.breakhis.filenames import parse
from data.cache import write_cache
from se_resnet.runs.integrity import facts_of
from se_resnet.runs.run_files import METRICS
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.signals import EXIT_CODES

SIZE = 16
FILES = ("metrics.jsonl", "metrics.csv", "eval/test/predictions.csv", "eval/test/metrics.json")
FLAGS = {
    "data.size": f"({SIZE},{SIZE})",
    "model.stage_sizes": "(1,1)",
    "model.width": "4",
    "batch_size": "8",
    "epochs": "6",
    "log_every_steps": "3",
    "checkpoint_minutes": "0",
    "permutations": "20",
    "optim.ema_decay": "0.9",
    "optim.head_epochs": "1",
}
TIMEOUT = 600


def make_images(folder: Path, count: int = 160) -> None:
    """Writes a cache of decoded images, which ``train.py`` can open."""
    files = names(count)

    def fill(array: np.ndarray) -> tuple[list[dict], dict]:
        rows = []
        for row, file in enumerate(files):
            array[row] = picture(row, SIZE, SIZE)
            name = parse(file)
            columns = ("slide", "accession", "magnification", "subtype", "label")
            described = {column: getattr(name, column) for column in columns}
            rows.append({**described, "file": file, "digest": f"{row:064d}", "row": row})
        return rows, {"fingerprint": "generated", "size": [SIZE, SIZE], "resize": "squash"}

    write_cache(folder, (count, SIZE, SIZE, 3), fill, remedy="set TMPDIR")


@dataclasses.dataclass
class Trainings:
    """Trainings on the same images, inside one folder."""

    folder: Path
    placement: str

    def start(self, workdir: Path) -> subprocess.Popen:
        """Starts or resumes the training of this workdir."""
        settings = {**FLAGS, "data.placement": self.placement}
        flags = [f"--config.{name}={value}" for name, value in settings.items()]
        images = f"--config.data.dir={self.folder / 'images'}"
        command = ["train.py", "--config=configs/smoke.py", f"--workdir={workdir}", images, *flags]
        with (self.folder / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "SE_RESNET_CACHE": str(self.folder / "cache")},
            )

    def finish(self, workdir: Path) -> None:
        """Runs the training of this workdir to its end."""
        if self.start(workdir).wait(TIMEOUT):
            raise SystemExit(f"the training failed:\n{(self.folder / 'log.txt').read_text()}")


def unfinished(workdir: Path) -> set[tuple[Path, int]]:
    """Returns unfinished checkpoints, of a running or a killed process.

    Each comes with the time of its last change, because a new checkpoint may have the name and
    inode of an old one.
    """
    found = set()
    for path in RunFolder(workdir).checkpoints.folder.glob("*/.[0-9]*"):
        with contextlib.suppress(FileNotFoundError):  # finished meanwhile
            found.add((path, path.stat().st_mtime_ns))
    return found


def kill(trainings: Trainings, workdir: Path, kind: str, rng: random.Random, life: float):
    """Starts a training and kills it at some moment.

    Args:
        trainings: the trainings.
        workdir: workdir of the training.
        kind: ``SIGKILL``, ``SIGTERM`` or ``SIGINT`` at any moment, or ``saving``.
        rng: chooses the moment.
        life: duration of such a process in seconds.

    Returns:
        A description of the kill, or None if the training had ended before.
    """
    left = unfinished(workdir)  # from the kill before, until this process saves
    process = trainings.start(workdir)
    try:
        if kind == "saving":
            for _ in range(rng.randrange(1, 6)):
                while process.poll() is None and unfinished(workdir) - left:
                    time.sleep(0.0005)
                while process.poll() is None and not unfinished(workdir) - left:
                    time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.03))
        else:
            end = time.monotonic() + rng.uniform(0, life)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.002)
        signum = signal.SIGKILL if kind == "saving" else signal.Signals[kind]
        process.send_signal(signum)
        code = process.wait(TIMEOUT)
    finally:
        process.kill()
    if code == 0:
        return None
    # The default exit code means that the command did not handle signals yet.
    if code not in (-signum, EXIT_CODES.get(signum)):
        raise SystemExit(f"{signum.name} ended the training with {code}")
    if signum == signal.SIGKILL:
        saving = unfinished(workdir) - left
        return f"SIGKILL {'while saving' if saving else 'at another moment'}"
    return f"{signum.name}, exit code {code}"


def _content(path: Path) -> Any:
    """Returns the content of a file; of metrics.json without date, duration and command."""
    if path.name != METRICS:
        return path.read_bytes()
    metrics = json.loads(path.read_text())
    metrics.pop("provenance", None)
    return json.dumps(metrics)


def differences(workdir: Path, whole: Path) -> list[str]:
    """Returns the differences between a finished training and the undisturbed training."""
    different = [name for name in FILES if _content(workdir / name) != _content(whole / name)]
    for kind in ("latest", "best"):
        sides = []
        for side in (workdir, whole):
            checkpoints = RunFolder(side).checkpoints
            step = (checkpoints.folder / kind / str(checkpoints.steps(kind)[-1])).absolute()
            tree = ocp.StandardCheckpointer().restore(step / "tree")
            leaves = ocp.tree.to_flat_dict(tree)
            values = {path: np.asarray(leaf).tobytes() for path, leaf in leaves.items()}
            sides.append({"step": step.name, "facts": facts_of(step), **values})
        keys = {*sides[0], *sides[1]}
        different += [f"{kind} {key}" for key in keys if sides[0].get(key) != sides[1].get(key)]
    return different


def rehearse(kills: int, seed: int, placement: str = "device") -> list[dict[str, object]]:
    """Kills trainings a number of times.

    Args:
        kills: number of kills.
        seed: seed of the moments.
        placement: placement of the pixels; ``'device'`` starts sooner, without TensorFlow.

    Returns:
        Rows with the counts of kills and comparisons.
    """
    rng, counted, compared = random.Random(seed), Counter[str](), 0
    kinds = ("saving", "SIGKILL", "saving", "SIGTERM", "saving", "SIGKILL", "saving", "SIGINT")
    with tempfile.TemporaryDirectory() as name, tqdm(total=kills, disable=None) as progress:
        trainings = Trainings(Path(name), placement)
        make_images(trainings.folder / "images")
        for whole in ("compiling", "whole"):
            start = time.monotonic()
            trainings.finish(trainings.folder / whole)
            life = time.monotonic() - start
        while True:
            workdir = trainings.folder / f"run{compared}"
            finished = False
            while not finished and counted.total() < kills:
                kind = kinds[counted.total() % len(kinds)]
                happened = kill(trainings, workdir, kind, rng, life)
                finished = happened is None
                if happened:
                    counted[happened] += 1
                    progress.update()
            if not finished:
                trainings.finish(workdir)
            compared += 1
            if found := differences(workdir, trainings.folder / "whole"):
                raise SystemExit(f"after {counted.total()} kills these differ: {', '.join(found)}")
            if counted.total() >= kills:
                break
    rows: list[dict[str, object]] = [{"what": what, "count": n} for what, n in counted.items()]
    return [
        *sorted(rows, key=str),
        {"what": "runs equal to the undisturbed run", "count": compared},
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=30)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--placement", choices=("device", "host"), default="device")
    given = options.parse_args()
    start = time.monotonic()
    rows = rehearse(given.kills, given.seed, given.placement)
    finish(rows, given.out, f"{given.kills} kills in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
