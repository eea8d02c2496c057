"""Batches of noise that a tiny network learns to divide."""

from __future__ import annotations

import numpy as np

from se_resnet.training.augment import Augmentation

OFF = Augmentation(flip=False, rotate=False)


def make_batch(count: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    image = rng.integers(0, 156, (count, 16, 16, 3)) + 100 * label[:, None, None, None]
    return {
        "image": image.astype(np.uint8),
        "label": label.astype(np.float32),
        "importance": np.ones(count, np.float32),
    }
