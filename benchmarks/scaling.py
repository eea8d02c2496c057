"""Measures time and memory of each stage of data preparation, by the number of images.

    python -m benchmarks.scaling [--counts 1000 8000 80000]
    python -m benchmarks.scaling --counts 7909 --width 700 --height 460 --side 224

Generates PNG files with BreaKHis names (after 7,909 images with new accession numbers). Then runs
each stage in a separate process: ``prepare`` validates, hashes and stores. ``cache`` decodes and
resizes. ``plan`` is SMOTE for the training set of fold 0 under ``strict``. ``epoch`` makes every
batch of 32 and drops it. Memory is anonymous memory with the imports, without the pages of mapped
files. The default images are thumbnails. The second command is BreaKHis at its full size, with
about 4 GB of files.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.generate import names, write_tree
from benchmarks.measuring import finish, in_own_process, parser, table
from data import balance
from data.cache import open_cache
from data.protocols.roles import assign_roles
from se_resnet.runs.run_files import TRAIN
from se_resnet.runtime.cli import exit_on_user_error

BATCH = 32


def prepare(folder: Path, side: int) -> None:
    from data.breakhis import preparation

    preparation.prepare(folder / "tree", folder / "cache")


def cache(folder: Path, side: int) -> None:
    from data.dataset import load_dataset

    load_dataset(str(folder / "tree"), size=(side, side), cache_dir=str(folder / "cache"))


def plan(folder: Path, side: int) -> None:
    (path,) = (folder / "cache" / "pixels").iterdir()
    opened = open_cache(path)
    roles = assign_roles(opened.records, "strict", folds=5, fold=0, val_folds=5, seed=0)
    training = opened.records.take(roles == TRAIN)
    training_plan = balance.make_plan(training, opened.images, method="smote")
    np.savez(folder / "plan.npz", **{k: v for k, v in vars(training_plan).items() if k != "notes"})


def _batches(folder: Path) -> Iterator[dict]:
    from data.feed import batch_order, host
    from se_resnet.runtime.mesh import batch_sharding, data_mesh

    (path,) = (folder / "cache" / "pixels").iterdir()
    stored = balance.Plan(**np.load(folder / "plan.npz"))
    return host.train_batches(
        open_cache(path).images,
        stored,
        batch_size=BATCH,
        seed=0,
        start=0,
        stop=batch_order.steps_per_epoch(stored, BATCH),
        sharding=batch_sharding(data_mesh(), BATCH),
    )


def first_batch(folder: Path, side: int) -> None:
    next(_batches(folder))["image"].block_until_ready()


def epoch(folder: Path, side: int) -> None:
    for batch in _batches(folder):
        batch["image"].block_until_ready()


STAGES = (prepare, cache, plan, first_batch, epoch)


def growth(rows: list[dict]) -> list[dict]:
    """Returns per stage a constant, a slope through the smallest and largest count, an exponent.

    The exponent is the growth of time, less the constant, between the two largest counts: 1 is
    linear. It is None if most of the time is constant. Imports count as constant.
    """
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        counts, seconds = zip(
            *((row["images"], row["seconds"]) for row in rows if row["stage"] == stage), strict=True
        )
        slope = (seconds[-1] - seconds[0]) / (counts[-1] - counts[0])
        constant = max(0.0, seconds[0] - slope * counts[0])
        grown = (seconds[-1] - constant) / max(seconds[-2] - constant, 1e-3)
        lines.append(
            {
                "stage": stage,
                "constant, s": constant,
                "ms an image": 1000 * slope,
                "exponent": math.log(max(grown, 1e-3)) / math.log(counts[-1] / counts[-2])
                if constant < seconds[-1] / 2
                else None,
            }
        )
    return lines


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--counts", type=int, nargs="+", default=[1000, 4000, 8000])
    flags.add_argument("--width", type=int, default=64, help="width of the PNG files")
    flags.add_argument("--height", type=int, default=64)
    flags.add_argument("--side", type=int, default=64, help="side of the decoded images")
    options = flags.parse_args()
    rows = []
    for count in sorted(options.counts):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_tree(folder / "tree", names(count), options.width, options.height)
            for stage in STAGES:
                done = in_own_process(stage, folder, options.side)
                rows.append(
                    {
                        "images": count,
                        "stage": stage.__name__.replace("_", " "),
                        "seconds": done.seconds,
                        "peak, GB": done.peak_bytes / 1e9,
                    }
                )
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    finish(rows, options.out, **({"growth": growth(rows)} if len(options.counts) > 1 else {}))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
