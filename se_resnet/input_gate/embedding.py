"""The pooled features of a network, which the input gate compares."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.models.classifier import Classifier
from se_resnet.runtime.batches import batch_positions


def embed(
    classifier: Classifier, variables: Mapping[str, Any], images: np.ndarray, batch_size: int
) -> np.ndarray:
    """Returns the features of images before the last layer, of length 1.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [N, H, W, 3]`` of the network's size.
        batch_size: images per batch.

    Returns:
        ``float32 [N, D]``. Features that are not finite, or all 0, are returned as 0.
    """
    parts = [
        np.asarray(_pooled(classifier, variables, batch))[mask]
        for batch, mask in _batches(images, batch_size)
    ]
    features = np.concatenate(parts)
    features = np.where(np.isfinite(features).all(axis=1, keepdims=True), features, 0)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def _batches(images: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(images), size):
        part = np.asarray(images[start : start + size])
        positions, mask = batch_positions(len(part), size)
        yield part[positions], mask


@functools.partial(jax.jit, static_argnames="classifier")
def _pooled(classifier: Classifier, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
    inputs = classifier.preprocessing(images)
    model = classifier.model
    output: Any = model.apply(variables, inputs, train=False, return_stages=True)
    _, stages = output
    return stages[model.stage_names[-1]].astype(jnp.float32).mean(axis=(1, 2))
