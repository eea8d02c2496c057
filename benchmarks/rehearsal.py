"""A full-size rehearsal without the data: 7,909 generated images under the official names.

    python benchmarks/rehearsal.py [--folder=DIR]

Generates 700x460 PNGs (about 4 GB), then runs each stage of the data path in a process of its own
and prints wall time and peak memory: resident without mapped files, so that the pages of the cache
that the operating system keeps are not counted. The pixels are synthetic: only sizes and times
mean anything.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data import balance, protocols
from data.cache import Cache, open_cache
from data.filenames import parse
from data.official import official_names

SIZE = (224, 224)
BATCH = 32


def generate(tree: Path) -> None:
    """Smooth colour fields with grain: PNGs of about half a megabyte, like the real ones."""

    def write(index: int) -> None:
        name = official_names()[index]
        rng = np.random.default_rng(index)
        field = cv2.resize(rng.integers(60, 230, (12, 18, 3), np.uint8), (700, 460))
        grain = rng.integers(0, 6, field.shape, np.uint8)
        folder = tree / parse(name).folder
        folder.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(folder / name), field + grain):
            raise OSError(f"{folder / name} could not be written")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        total = len(official_names())
        list(tqdm(pool.map(write, range(total)), total=total, desc="generating", disable=None))


def prepare(folder: Path) -> None:
    from data import breakhis

    breakhis.prepare(folder / "tree", folder / "cache")


def cache(folder: Path) -> None:
    from data.loading import load

    load(str(folder / "tree"), size=SIZE, cache_dir=str(folder / "cache"))


def _training_plan(folder: Path) -> tuple[Cache, balance.Plan]:
    (path,) = (folder / "cache" / "pixels").iterdir()
    opened = open_cache(path)
    roles = protocols.assign_roles(opened.records, "strict", folds=5, fold=0, val_folds=5, seed=0)
    training = opened.records.take(roles == protocols.TRAIN)
    return opened, balance.make_plan(training, opened.images, method="smote")


def plan(folder: Path) -> None:
    _, made = _training_plan(folder)
    np.savez(folder / "plan.npz", **{k: v for k, v in vars(made).items() if k != "notes"})


def _batches(folder: Path) -> Iterator[dict]:
    from data import pipeline, schedule
    from se_resnet.training import batch_sharding, data_mesh

    (path,) = (folder / "cache" / "pixels").iterdir()
    made = balance.Plan(**np.load(folder / "plan.npz"))
    return pipeline.train_batches(
        open_cache(path).images,
        made,
        batch_size=BATCH,
        seed=0,
        start=0,
        stop=schedule.steps_per_epoch(made, BATCH),
        sharding=batch_sharding(data_mesh(), BATCH),
    )


def first_batch(folder: Path) -> None:
    next(_batches(folder))["image"].block_until_ready()


def epoch(folder: Path) -> None:
    """Every batch of one epoch, thrown away."""
    for batch in _batches(folder):
        batch["image"].block_until_ready()


def measured(stage: Callable[[Path], None], folder: Path, answer) -> None:
    """Runs one stage in this process and sends seconds and peak bytes."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.monotonic()
    try:
        stage(folder)
    finally:
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    answer.send((seconds, peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="kept afterwards; default: a temporary one")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    try:
        generate(folder / "tree")
        shutil.rmtree(folder / "cache", ignore_errors=True)  # a reused cache would take no time
        results = {}
        print("| stage | seconds | peak memory, GB |\n|---|---|---|")
        for stage in (prepare, cache, plan, first_batch, epoch):
            receive, send = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(
                target=measured, args=(stage, folder, send)
            )
            process.start()
            send.close()
            try:
                seconds, peak = receive.recv()
            except EOFError:
                raise SystemExit(f"the stage {stage.__name__} failed") from None
            process.join()
            name = stage.__name__.replace("_", " ")
            results[name] = {"seconds": seconds, "peak_bytes": peak}
            print(f"| {name} | {seconds:.1f} | {peak / 1e9:.2f} |", flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2))
    finally:
        if not options.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
