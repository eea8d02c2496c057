"""Features of the frozen stages, computed once for all trainings and kept in files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import last_stage
from data.dataset import Dataset
from se_resnet import attention as attention_modules
from se_resnet.errors import UserError
from se_resnet.predict.tta import dihedral_views
from se_resnet.runtime.files import atomic_write
from se_resnet.weights import configured, pretrained

VIEWS = 8


@dataclasses.dataclass(frozen=True)
class FrozenStages:
    """The network before the last stage, and the weights of the whole network.

    Attributes:
        compute: pixels ``[B, H, W, 3]``, ``uint8`` or ``float32``, to features
            ``float16 [B, h, w, C]``.
        weights: weights before the training.
    """

    compute: Callable[[np.ndarray], np.ndarray]
    weights: pretrained.Pretrained


def frozen_stages_of(config: ConfigDict) -> FrozenStages:
    """Returns the frozen stages of the configured network, at the configured size."""
    weights = configured.load(config.model)
    model = last_stage.make_model(weights, attention_modules.NONE, architecture(config))
    size = tuple(config.data.size)
    variables = pretrained.initial_variables(model, weights, jax.random.key(0), size)
    return FrozenStages(last_stage.make_frozen(model, variables, weights, size), weights)


def architecture(config: ConfigDict) -> dict[str, Any]:
    """Returns the stage sizes and the width of the configured network."""
    return {name: config.model[name] for name in ("stage_sizes", "width")}


def views(images: np.ndarray) -> np.ndarray:
    """Returns the dihedral views of ``uint8 [N, H, H, 3]``: ``uint8 [N, 8, H, H, 3]``."""
    return np.stack([np.asarray(view) for view in dihedral_views(images)], axis=1)


def stored(
    path: Path,
    images: np.ndarray,
    copies: Callable[[np.ndarray, int], np.ndarray],
    frozen: FrozenStages,
) -> np.ndarray:
    """Computes the features of copies of all images, or reads them from a file.

    Args:
        path: the file.
        images: ``uint8 [N, H, W, 3]``.
        copies: returns the copies ``[B, V, H, W, 3]`` of a block of images ``uint8 [B, H, W, 3]``,
            given the position of its first image.
        frozen: the frozen stages.

    Returns:
        ``float16 [N, V, h, w, C]``, memory-mapped.

    Raises:
        UserError: a feature is too large for float16.
    """
    if not path.exists():
        start, parts = time.monotonic(), []
        for first in range(0, len(images), last_stage.BATCH):
            block = copies(images[first : first + last_stage.BATCH], first)
            features = frozen.compute(block.reshape(-1, *block.shape[2:]))
            if not np.isfinite(features).all():
                raise UserError("a feature is too large for float16: store them as float32.")
            parts.append(features.reshape(*block.shape[:2], *features.shape[1:]))
        path.parent.mkdir(parents=True, exist_ok=True)
        features = np.concatenate(parts)
        with atomic_write(path, "wb") as file:
            np.save(file, features)
        seconds = time.monotonic() - start
        print(f"{path.name}: {len(features)} x {block.shape[1]} in {seconds:.0f} s", flush=True)
    return np.load(path, mmap_mode="r")


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of the images, and the network that they came from.

    Attributes:
        frozen: pixels ``uint8 [B, H, W, 3]`` to features ``float16 [B, h, w, C]``.
        real: ``float16 [N, 8, h, w, C]``, the dihedral views of the images, the original first.
        weights: weights before the training.
    """

    frozen: Any
    real: np.ndarray
    weights: pretrained.Pretrained


def open_features(config: ConfigDict, dataset: Dataset, path: Path) -> Features:
    """Computes the features of the dihedral views, or reads them from a file."""
    frozen = frozen_stages_of(config)
    real = stored(path, dataset.images, lambda block, _: views(block), frozen)
    return Features(frozen.compute, real, frozen.weights)
