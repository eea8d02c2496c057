"""Compares SMOTE as a plan with imbalanced-learn on flattened pixels: time, memory, result.

    python -m benchmarks.smote [--data_dir=/path/to/BreaKHis_v1] [--full]

Both over-sample benign to malignant in all magnifications together, with 224x224x3 pixels per
image, in the proportions of BreaKHis. The plan reads the memory-mapped image cache.
imbalanced-learn gets the same pixels as float32. Each run has a separate process. Time starts with
the mapped pixels and ends with the plan, or with the array of imbalanced-learn. Memory excludes the
imports. Then every synthetic image of the plan is compared with that of imbalanced-learn. Without
``--data_dir`` the pixels are generated. imbalanced-learn needs 18 GB for all 7,909 images: without
``--full`` its values for that size are extrapolated from the smaller sizes.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks import generate
from benchmarks.measuring import Measurement, finish, in_own_process, parser, table
from data import balance
from data.breakhis.filenames import parse
from data.dataset import load_dataset
from data.records import Records
from se_resnet.runtime.cli import exit_on_user_error, path_option

SEED = 0
FULL = 7909


def generated(folder: Path, count: int, side: int) -> Records:
    """Writes ``count`` generated images; returns their records, spread over the official list."""
    names = generate.names(count)
    images = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.uint8, (count, side, side, 3)
    )
    rows = []
    for row, name in enumerate(names):
        images[row] = generate.picture(row, side, side)
        parsed = parse(name)
        facts = {key: getattr(parsed, key) for key in ("slide", "accession", "magnification")}
        facts |= {"subtype": parsed.subtype, "label": parsed.label, "digest": name}
        rows.append({"file": name, "row": row, **facts})
    images.flush()
    return Records.from_rows(rows)


def by_plan(pixels: Path, records: Records, out: Path) -> None:
    plan = balance.make_plan(
        records,
        np.load(pixels, mmap_mode="r"),
        method="smote",
        within_magnification=False,
        seed=SEED,
    )
    np.savez(out, base=plan.base, neighbour=plan.neighbour, weight=plan.weight)


def by_imbalanced_learn(pixels: Path, records: Records, out: Path) -> None:
    from imblearn.over_sampling import SMOTE

    images = np.load(pixels, mmap_mode="r")
    flat = images[records.row].reshape(len(records), -1).astype(np.float32)
    resampled, _ = SMOTE(random_state=SEED).fit_resample(flat, records.label)
    np.save(out, resampled[len(records) :])


def largest_difference(pixels: Path, num_real: int, plan: Path, peer: Path) -> float:
    """Returns the largest difference in grey values over all synthetic images."""
    images, expected = np.load(pixels, mmap_mode="r"), np.load(peer, mmap_mode="r")
    with np.load(plan) as arrays:
        base, neighbour, weight = (arrays[name] for name in ("base", "neighbour", "weight"))
    worst = 0.0
    assert len(base) == num_real + len(expected)
    for row, other in enumerate(expected, start=num_real):
        mixed = (1 - weight[row]) * images[base[row]] + weight[row] * images[neighbour[row]]
        worst = max(worst, float(np.abs(mixed.ravel() - other).max()))
    return worst


def extrapolated(sizes: list[int], values: list[float], degree: int) -> float:
    """Returns the value at the full size, by a polynomial without constant through the values.

    Minimises relative errors, so that the largest size does not dominate. No coefficient is
    negative, because work does not decrease with more images.
    """
    powers = np.arange(1, degree + 1)
    terms = (np.array(sizes, float)[:, None] / FULL) ** powers / np.array(values)[:, None]
    return float(nnls(terms, np.ones(len(sizes)))[0].sum())


def row_of(size: int | str, ours: tuple[float, float], theirs: tuple[float, float], difference):
    return {
        "images": size,
        "plan, s": ours[0],
        "imbalanced-learn, s": theirs[0],
        "times faster": theirs[0] / ours[0],
        "plan, MB": ours[1] / 1e6,
        "imbalanced-learn, MB": theirs[1] / 1e6,
        "times smaller": theirs[1] / max(ours[1], resource.getpagesize()),
        "largest difference, grey values": difference,
    }


def median(runs: list[Measurement]) -> tuple[float, float]:
    """Returns medians of seconds and of bytes without imports."""
    return (
        statistics.median(run.seconds for run in runs),
        statistics.median(run.added_bytes for run in runs),
    )


def measure(folder: Path, everything: Records, sizes: list[int], repeats: int, full: bool) -> list:
    """Returns one row per size, then one row for all 7,909 images if available."""
    pixels, plan, peer = (folder / name for name in ("images.npy", "plan.npz", "peer.npy"))
    rows: list[dict] = []
    peers: list[tuple[float, float]] = []
    for size in sizes:
        records = everything.take(np.linspace(0, len(everything) - 1, size).astype(int))
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(in_own_process(by_plan, pixels, records, plan))
            theirs.append(in_own_process(by_imbalanced_learn, pixels, records, peer))
        peers.append(median(theirs))
        difference = largest_difference(pixels, size, plan, peer)
        rows.append(row_of(size, median(ours), peers[-1], difference))
        print(table(rows[-1:]), flush=True)
    if len(everything) == FULL and not full:
        ours = [in_own_process(by_plan, pixels, everything, plan) for _ in range(repeats)]
        seconds, memory = ([values[i] for values in peers] for i in range(2))
        theirs = extrapolated(sizes, seconds, 2), extrapolated(sizes, memory, 1)
        rows.append(row_of(f"{FULL} (extrapolated)", median(ours), theirs, None))
    return rows


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument(
        "--data_dir", type=path_option, help="BreaKHis or a part of it; default: generated pixels"
    )
    flags.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000])
    flags.add_argument("--images", type=int, default=FULL, help="to generate")
    flags.add_argument("--side", type=int, default=224, help="pixels")
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--full", action="store_true", help="imbalanced-learn on all 7,909 too")
    options = flags.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data_dir:
            dataset = load_dataset(options.data_dir, size=(options.side, options.side))
            everything = dataset.records
            (folder / "images.npy").symlink_to(dataset.images.filename)
        else:
            everything = generated(folder, options.images, options.side)
        sizes = sorted({min(size, len(everything)) for size in options.sizes})
        sizes += [FULL] if options.full else []
        rows = measure(folder, everything, sizes, options.repeats, options.full)
    finish(rows, options.out, f"pixels: {options.data_dir or 'generated'}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
