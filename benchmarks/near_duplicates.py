"""Measures how well the perceptual hash of the audit separates near-duplicates.

    python -m benchmarks.near_duplicates --data_dir=/path/to/BreaKHis_v1
    python -m benchmarks.near_duplicates --data_dir=/path/to/BreaKHis_v1 --size=32

Compares every image with altered copies of the image and with the other images, at the 224x224 of
training or at ``--size``. Two hashes of 256 bits take part: ``dct``, from
``data/protocols/near_duplicates.py``, and ``difference``, which compares each cell of a 16x16 grid
with its right neighbour. A distance is the least over the 8 dihedral views, of two images also the
least over both orders. A good hash leaves a wide gap between the farthest copy and the nearest pair
of different accessions. The nearest pairs of different images are listed for inspection, because
some fields of view were photographed twice.

At the end, times the check that a run makes before training.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import cv2
import numpy as np

from data.dataset import Dataset, load_dataset
from data.protocols.near_duplicates import (
    HASH_BITS,
    NEAR_DISTANCE,
    least_distances,
    near_duplicates,
    perceptual_hash,
    view_hashes,
)
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.runtime.cli import exit_on_user_error, path_option

_BLOCK = 64
_LISTED = 5
_WHOLE = 7909  # images of BreaKHis
_ROUNDS = 5


def difference_hash(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    grid = cv2.resize(grey, (17, 16), None, 0, 0, cv2.INTER_AREA)
    return np.packbits(grid[:, :-1] < grid[:, 1:]).view(np.uint64)


def views(image: np.ndarray) -> list[np.ndarray]:
    """Returns the 8 dihedral views, first the image itself."""
    turned = [np.rot90(image, turns) for turns in range(4)]
    return turned + [view[:, ::-1] for view in turned]


def difference_view_hashes(image: np.ndarray) -> np.ndarray:
    return np.stack([difference_hash(view) for view in views(image)])


def reencoded(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 1)


def halved_and_back(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    half = cv2.resize(image, (width // 2, height // 2), None, 0, 0, cv2.INTER_AREA)
    return cv2.resize(half, (width, height), None, 0, 0, cv2.INTER_LINEAR)


def cropped(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    top, left = round(height / 100), round(width / 100)
    return cv2.resize(image[top : height - top, left : width - left], (width, height))


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(int) + 13, 0, 255).astype(np.uint8)


def shifted(image: np.ndarray, across: float, down: float = 0) -> np.ndarray:
    """Moves the image by shares of its sides. The strip that becomes free mirrors its neighbour."""
    height, width = image.shape[:2]
    move = np.array([[1, 0, round(across * width)], [0, 1, round(down * height)]], np.float32)
    return cv2.warpAffine(image, move, (width, height), borderMode=cv2.BORDER_REFLECT_101)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG of quality 80": reencoded,
    "half the size and back": halved_and_back,
    "2 % cropped": cropped,
    "5 % brighter": brighter,
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 90 degrees": lambda image: np.rot90(image),
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
    "turned by 270 degrees": lambda image: np.rot90(image, 3),
    "mirrored, JPEG of quality 80": lambda image: reencoded(np.ascontiguousarray(image[:, ::-1])),
    "turned by 90 degrees, 2 % cropped": lambda image: cropped(np.rot90(image)),
    "shifted by 2 %": lambda image: shifted(image, 0.02),
    "shifted by 2 % across and down": lambda image: shifted(image, 0.02, 0.02),
    "shifted by 3 %": lambda image: shifted(image, 0.03),
    "shifted by 5 %": lambda image: shifted(image, 0.05),
}
# Each with the hash of an image and the hashes of its views.
HASHES = {
    "dct": (perceptual_hash, view_hashes),
    "difference": (difference_hash, difference_view_hashes),
}


def different_images(
    records: Records, hashes: np.ndarray, views: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Counts distances in one slide and across accessions, ``int [257]``; lists nearest pairs."""
    slide, accessions = np.zeros((2, HASH_BITS + 1), int)
    nearest: list[tuple[int, int, int]] = []
    for start in range(0, len(records), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(records)))
        found = np.minimum(
            least_distances(views[rows], hashes), least_distances(views, hashes[rows]).T
        )
        pair = rows[:, None] < np.arange(len(records))
        pair &= records.digest[rows, None] != records.digest[None]
        same_slide = pair & (records.slide[rows, None] == records.slide[None])
        same_accession = records.accession[rows, None] == records.accession[None]
        slide += np.bincount(found[same_slide], minlength=HASH_BITS + 1)
        accessions += np.bincount(found[pair & ~same_accession], minlength=HASH_BITS + 1)
        closest = np.argsort(np.where(pair, found, HASH_BITS + 1), axis=None)[:_LISTED]
        left, right = np.unravel_index(closest, found.shape)
        nearest += zip(
            found[left, right].tolist(), rows[left].tolist(), right.tolist(), strict=True
        )
        nearest = sorted(nearest)[:_LISTED]
    return slide, accessions, nearest


def row(name: str, counts: np.ndarray) -> str:
    bits = np.arange(HASH_BITS + 1)
    total = counts.sum()
    if not total:
        return f"| {name} | 0 | | | | | |"
    present = bits[counts > 0]
    mean = (bits * counts).sum() / total
    deviation = np.sqrt(((bits - mean) ** 2 * counts).sum() / total)
    near = counts[: NEAR_DISTANCE + 1].sum()
    cells = [name, f"{total:,}", str(present[0]), f"{mean:.1f}", f"{deviation:.1f}"]
    return f"| {' | '.join([*cells, str(present[-1]), f'{near:,}'])} |"


def seconds(records: Records, images: np.ndarray) -> float:
    """Returns the least CPU time of the check of a run, of several rounds."""
    settings = {"folds": 5, "fold": 0, "val_folds": 5, "seed": 0}
    roles = assign_roles(records, "strict", **settings)
    times = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        near_duplicates(records, roles, images)
        times.append(time.process_time() - start)
    return min(times)


def time_check(dataset: Dataset) -> None:
    """Prints the CPU time for these images, and for 7,909 as BreaKHis has, by repeating these."""
    records = dataset.records
    print("\nCPU time of the check of a run")
    print(f"{len(records):,} images: {seconds(records, dataset.images):.2f} s")
    repeated = records.take(np.arange(_WHOLE) % len(records))
    # Copies of the same content would not be divided.
    digest = np.arange(_WHOLE).astype(str)
    repeated = dataclasses.replace(repeated, digest=digest)
    print(f"{_WHOLE:,} images, these repeated: {seconds(repeated, dataset.images):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=path_option, default="sample")
    parser.add_argument("--cache_dir", type=path_option, default="")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    options = parser.parse_args()

    size = (options.size, options.size)
    dataset = load_dataset(options.data_dir, size=size, cache_dir=options.cache_dir)
    records = dataset.records
    print(dataset.description)
    for hash_name, (make_hash, make_view_hashes) in HASHES.items():
        hashes = np.stack([make_hash(dataset.images[k]) for k in records.row])
        of_views = np.stack([make_view_hashes(dataset.images[k]) for k in records.row])
        print(f"\n{hash_name}: bits of {HASH_BITS} that differ\n")
        print(f"| | pairs | least | mean | SD | most | at most {NEAR_DISTANCE} |")
        print("|---|---|---|---|---|---|---|")
        for name, alter in COPIES.items():
            altered = np.stack(
                [make_hash(np.ascontiguousarray(alter(dataset.images[k]))) for k in records.row]
            )
            found = np.bitwise_count(of_views ^ altered[:, None]).sum(axis=-1).min(axis=-1)
            print(row(f"image and copy: {name}", np.bincount(found, minlength=HASH_BITS + 1)))
        slide, accessions, nearest = different_images(records, hashes, of_views)
        print(row("different images of one slide", slide))
        print(row("different accessions", accessions))
        print()
        for distance, left, right in nearest:
            print(f"{distance}: {records.file[left]} {records.file[right]}")
    time_check(dataset)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
