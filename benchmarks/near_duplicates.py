"""Measures how well the perceptual hash of the audit separates near-duplicates.

    python -m benchmarks.near_duplicates --data_dir=/path/to/BreaKHis_v1

Hashes every image and altered copies of the image, at the 224x224 of training, and compares two
hashes of 256 bits: ``dct``, from ``data/protocols/near_duplicates.py``, and ``difference``, which
compares each cell of a 16x16 grid with its right neighbour. A good hash leaves a wide gap between
the farthest copy and the nearest pair of different accessions. The nearest pairs of different
images are listed for inspection, because some fields of view were photographed twice.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from data.dataset import load_dataset
from data.protocols.near_duplicates import HASH_BITS, NEAR_DISTANCE, distances, perceptual_hash
from data.records import Records
from se_resnet.runtime.cli import exit_on_user_error

_BLOCK = 64
_LISTED = 5


def difference_hash(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grid = cv2.resize(grey, (17, 16), None, 0, 0, cv2.INTER_AREA)
    return np.packbits(grid[:, :-1] < grid[:, 1:]).view(np.uint64)


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


COPIES = {
    "JPEG of quality 80": reencoded,
    "half the size and back": halved_and_back,
    "2 % cropped": cropped,
    "5 % brighter": brighter,
}
HASHES = {"dct": perceptual_hash, "difference": difference_hash}


def different_images(
    records: Records, hashes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Counts distances in one slide and across accessions, ``int [257]``; lists nearest pairs."""
    slide, accessions = np.zeros((2, HASH_BITS + 1), int)
    nearest: list[tuple[int, int, int]] = []
    for start in range(0, len(records), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(records)))
        found = distances(hashes[rows], hashes)
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
        return f"| {name} | 0 | | | | |"
    present = bits[counts > 0]
    mean = (bits * counts).sum() / total
    deviation = np.sqrt(((bits - mean) ** 2 * counts).sum() / total)
    near = counts[: NEAR_DISTANCE + 1].sum()
    cells = [name, f"{total:,}", str(present[0]), f"{mean:.1f}", f"{deviation:.1f}"]
    return f"| {' | '.join([*cells, str(present[-1]), f'{near:,}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="sample")
    parser.add_argument("--cache_dir", default="")
    options = parser.parse_args()

    dataset = load_dataset(options.data_dir, cache_dir=options.cache_dir)
    records = dataset.records
    print(dataset.description)
    for hash_name, make_hash in HASHES.items():
        hashes = np.stack([make_hash(dataset.images[k]) for k in records.row])
        print(f"\n{hash_name}: bits of {HASH_BITS} that differ\n")
        print(f"| | pairs | least | mean | SD | most | at most {NEAR_DISTANCE} |")
        print("|---|---|---|---|---|---|---|")
        for name, alter in COPIES.items():
            altered = np.stack([make_hash(alter(dataset.images[k])) for k in records.row])
            found = np.bitwise_count(hashes ^ altered).sum(axis=1)
            print(row(f"image and copy: {name}", np.bincount(found, minlength=HASH_BITS + 1)))
        slide, accessions, nearest = different_images(records, hashes)
        print(row("different images of one slide", slide))
        print(row("different accessions", accessions))
        print()
        for distance, left, right in nearest:
            print(f"{distance}: {records.file[left]} {records.file[right]}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
