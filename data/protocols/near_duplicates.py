"""Finds the same picture under two names by perceptual hashes, also mirrored or turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from data.protocols.roles import is_seen
from data.records import Records
from se_resnet.runs.run_files import NEAR_DUPLICATES, TEST

HASH_BITS = 256
NEAR_DISTANCE = 72
_BLOCK = 64  # test images compared at once; with 6,300 others about 10 MB
_LOW = 16  # frequencies in each direction
# Mirroring an image changes the sign of every second frequency of its cosine transform.
_SIGN = np.where(np.arange(_LOW) % 2, np.float32(-1), np.float32(1))
_MIRRORS = np.stack(
    [
        rows[:, None] * columns
        for rows in (np.ones_like(_SIGN), _SIGN)
        for columns in (np.ones_like(_SIGN), _SIGN)
    ]
)


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """Returns a hash that changes little when the same picture is saved in another way.

    A bit is set if one of the 16x16 lowest frequencies in the cosine transform of the grey 64x64
    image is above their median (the pHash of Zauner 2010, with 256 bits instead of 64). Unrelated
    images differ in half of the bits. :func:`near_duplicates` states the measured distances of
    altered copies.

    Args:
        image: ``uint8 [H, W, 3]`` RGB.

    Returns:
        ``uint64 [4]``. The distance of two hashes is the number of different bits, 0 to 256.
    """
    return _hash(_low_frequencies(image))


def view_hashes(image: np.ndarray) -> np.ndarray:
    """Returns the hashes of the 8 dihedral views of an image: mirrored, turned, or both.

    The views are not computed. In the cosine transform, mirroring changes signs and the exchange
    of rows and columns is a transpose. The hashes equal those of the views.

    Args:
        image: ``uint8 [H, W, 3]`` RGB.

    Returns:
        ``uint64 [8, 4]``, first of the image itself.
    """
    low = _low_frequencies(image)
    views = np.stack([low, low.T])[:, None] * _MIRRORS
    return _hash(views.reshape(8, _LOW, _LOW))


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns Hamming distances ``uint16 [M, N]`` of hashes ``uint64 [M, 4]`` and ``[N, 4]``."""
    distance = np.zeros((len(left), len(right)), np.uint16)
    for word in range(left.shape[1]):
        distance += np.bitwise_count(left[:, None, word] ^ right[None, :, word])
    return distance


def least_distances(views: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Returns the distance of the nearest view: ``uint16 [M, N]``.

    Args:
        views: ``uint64 [M, 8, 4]``, see :func:`view_hashes`.
        hashes: ``uint64 [N, 4]``, see :func:`perceptual_hash`.
    """
    least = np.full((len(views), len(hashes)), HASH_BITS, np.uint16)
    for view in range(views.shape[1]):
        np.minimum(least, distances(views[:, view], hashes), out=least)
    return least


def near_duplicates(
    records: Records, roles: np.ndarray, images: np.ndarray
) -> list[dict[str, Any]]:
    """Returns pairs of a test image and a training or validation image of nearly the same picture.

    The distance of two images is the least distance over the 8 dihedral views of the test image.
    Two images are near if it is at most ``NEAR_DISTANCE``. Pairs of identical content are left out.

    Measured by ``python -m benchmarks.near_duplicates`` on 944 BreaKHis images at 224x224:

    * Found, every copy: mirrored, upside down, turned by 90, 180 or 270 degrees (0 bits), JPEG of
      quality 80 (up to 8), half the size and back (8), 5 % brighter (18), 2 % cropped (38, turned
      44), shifted by 2 % of the width (54).
    * Found in part: shifted by 2 % in both directions (940 of 944), by 3 % of the width (900).
    * Not found: shifted by 5 % of the width (80 and more).
    * 429,622 pairs of different accessions: none is near. The least distance is 86, the mean 115,
      the standard deviation 5. Images of 16x16, 32x32, 64x64 and 112x112 have least distances from
      86 to 88.
    * 10,597 pairs of one slide: two are near, at 52 and 68. Both show one field of view
      photographed twice.

    A difference hash of the same size separates less: 5 pairs of different accessions are near, the
    nearest at 53.

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
    views = np.array([view_hashes(images[row]) for row in test.row], np.uint64).reshape(-1, 8, 4)
    hashes = np.array([perceptual_hash(images[row]) for row in seen.row], np.uint64).reshape(-1, 4)
    pairs = []
    for start in range(0, len(test), _BLOCK):
        block = slice(start, start + _BLOCK)
        distance = least_distances(views[block], hashes)
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


def count_near_duplicates(pairs: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Counts the test images of pairs that :func:`near_duplicates` returned.

    Returns:
        ``near_duplicate_test_images``: test images with a near-duplicate in training or validation.
        ``near_duplicate_test_images_of_another_accession``: those with one of another accession.
    """
    others = [pair for pair in pairs if not pair["same_accession"]]
    counts = (len({pair["test_file"] for pair in part}) for part in (pairs, others))
    return dict(zip(NEAR_DUPLICATES, counts, strict=True))


def _low_frequencies(image: np.ndarray) -> np.ndarray:
    """Returns the lowest frequencies of an image, ``float32 [16, 16]``."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64), None, 0, 0, cv2.INTER_AREA)
    return cv2.dct(grey.astype(np.float32))[:_LOW, :_LOW]


def _hash(low: np.ndarray) -> np.ndarray:
    """Returns ``uint64 [..., 4]`` for frequencies ``float32 [..., 16, 16]``."""
    flat = low.reshape(*low.shape[:-2], HASH_BITS)
    bits = flat > np.median(flat, axis=-1, keepdims=True)
    return np.packbits(bits, axis=-1).view(np.uint64)
