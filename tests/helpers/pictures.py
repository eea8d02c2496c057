"""Smooth random pictures and altered copies, for perceptual hashes."""

from __future__ import annotations

import cv2
import numpy as np


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, ``uint8 [N, 96, 96, 3]``, as different as micrographs are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 12, 12, 3), np.uint8)
    return np.stack([cv2.resize(one, (96, 96), interpolation=cv2.INTER_CUBIC) for one in coarse])


def altered(image: np.ndarray) -> np.ndarray:
    """The same picture re-encoded, brighter and moved by a pixel."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return np.roll(np.clip(cv2.imdecode(data, 1).astype(int) + 12, 0, 255).astype(np.uint8), 1, 1)
