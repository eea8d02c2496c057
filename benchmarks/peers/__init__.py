"""One network in several frameworks, for the same work from the same tensors.

Every module has ``trainer(task, ...)`` and ``predictor(task, ...)``. Both return a function of an
iterable of batches, which takes the next batch after the result of the last. A trainer runs a step
on each batch and returns the losses. A predictor returns the logits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.generate import picture

LEARNING_RATE = 1e-4
EPSILON = 1e-8  # of Adam
Batch = tuple[np.ndarray, np.ndarray]
Work = Callable[[Iterable[Batch]], Sequence[float] | np.ndarray]
Channels = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Task:
    """A network and its input.

    Attributes:
        batch_size: number of images in a batch.
        dtype: type of the features, ``'float32'`` or ``'bfloat16'``; parameters are float32.
        size: height and width of the images in pixels.
        stage_sizes: number of bottlenecks in each stage.
        width: channels of the stem.
        tensors: ``.npz`` of our variables by path, ``params/stem/conv/kernel`` and so on.
        mean: mean of the pixels, 0 to 255, per channel.
        std: standard deviation of the pixels, likewise.
        bn_epsilon: added to the variances in batch normalisation.
    """

    batch_size: int
    dtype: str
    size: int
    stage_sizes: tuple[int, ...]
    width: int
    tensors: Path
    mean: Channels = (123.675, 116.28, 103.53)
    std: Channels = (58.395, 57.12, 57.375)
    bn_epsilon: float = 1e-3

    def load(self) -> dict[str, np.ndarray]:
        """Returns the tensors by path."""
        with np.load(self.tensors) as arrays:
            return dict(arrays)

    def batch(self) -> Batch:
        """Returns generated images ``uint8 [B, size, size, 3]`` and labels ``float32 [B]``."""
        images = np.stack([picture(row, self.size, self.size) for row in range(self.batch_size)])
        return images, (np.arange(self.batch_size) % 2).astype(np.float32)
