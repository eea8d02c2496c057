"""Finds the same picture under two names by perceptual hashes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from data.protocols.roles import is_seen
from data.records import Records
from se_resnet.runs.run_files import TEST

HASH_BITS = 256
NEAR_DISTANCE = 72
_BLOCK = 64  # test images compared at once; with 6,300 others about 10 MB


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """Returns a hash that changes little after re-encoding, resizing and small shifts.

    A bit is set if one of the 16x16 lowest frequencies in the cosine transform of the grey 64x64
    image is above their median (the pHash of Zauner 2010, with 256 bits instead of 64). Unrelated
    images differ in half of the bits. A flip or a rotation of an image counts as unrelated.

    Args:
        image: ``uint8 [H, W, 3]`` RGB.

    Returns:
        ``uint64 [4]``. The distance of two hashes is the number of different bits, 0 to 256.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64), None, 0, 0, cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:16, :16]
    return np.packbits(low > np.median(low)).view(np.uint64)


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns Hamming distances ``uint16 [M, N]`` of hashes ``uint64 [M, 4]`` and ``[N, 4]``."""
    distance = np.zeros((len(left), len(right)), np.uint16)
    for word in range(left.shape[1]):
        distance += np.bitwise_count(left[:, None, word] ^ right[None, :, word])
    return distance


def near_duplicates(
    records: Records, roles: np.ndarray, images: np.ndarray
) -> list[dict[str, Any]]:
    """Returns pairs of a test image and a training or validation image of nearly the same picture.

    Pairs of identical content are left out. Images are compared without turning, so a mirrored or
    turned copy is not found.

    Two images are near if their :func:`perceptual_hash` differs in at most ``NEAR_DISTANCE`` bits.
    Measured by ``benchmarks/near_duplicates.py`` on 944 BreaKHis images at 224x224: an image and
    its copy differ by at most 8 bits after JPEG of quality 80, 8 after halving and back, 18 after 5
    % more brightness and 38 after cropping by 2 %. Of 429,622 pairs of different accessions none is
    below 90 (mean 127, standard deviation 8: the threshold lies 6.9 deviations away). Of 10,597
    pairs of one slide two are below 90, at 52 and 68, and both show one field of view photographed
    twice. A difference hash of the same size leaves no such gap: copies up to 38, photographed
    twice 71, different accessions from 74.

    Args:
        records: N images.
        roles: ``str [N]``.
        images: ``uint8 [*, H, W, 3]`` RGB, the pixel array that ``records.row`` points into.

    Returns:
        ``test_file``, ``file`` and its ``role``, ``distance``, ``same_accession``; the nearest
        first. Besides the result, it takes about 10 MB for 7,909 images.
    """
    test, seen = records.take(roles == TEST), records.take(is_seen(roles))
    role = roles[is_seen(roles)]
    test_hashes, seen_hashes = (
        np.array([perceptual_hash(images[row]) for row in part.row], np.uint64).reshape(-1, 4)
        for part in (test, seen)
    )
    pairs = []
    for start in range(0, len(test), _BLOCK):
        block = slice(start, start + _BLOCK)
        distance = distances(test_hashes[block], seen_hashes)
        near = distance <= NEAR_DISTANCE
        near &= test.digest[block, None] != seen.digest[None]
        for i, j in zip(*np.nonzero(near), strict=True):
            pairs.append(
                {
                    "test_file": str(test.file[start + i]),
                    "file": str(seen.file[j]),
                    "role": str(role[j]),
                    "distance": int(distance[i, j]),
                    "same_accession": bool(test.accession[start + i] == seen.accession[j]),
                }
            )
    return sorted(pairs, key=lambda pair: (pair["distance"], pair["test_file"], pair["file"]))
