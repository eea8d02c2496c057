"""The pooled features of a network as the input gate compares them."""

from __future__ import annotations

import numpy as np


def unit_length(features: np.ndarray) -> np.ndarray:
    """Returns features of length 1.

    Args:
        features: ``float32 [N, D]``, of
            :meth:`se_resnet.models.classifier.Forward.with_features`.

    Returns:
        ``float32 [N, D]``. Features that are not finite, or all 0, are returned as 0.
    """
    features = np.where(np.isfinite(features).all(axis=1, keepdims=True), features, 0)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)
