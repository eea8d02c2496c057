"""How a network's gates are distributed over the images of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from se_resnet import explain
from se_resnet.classifier import Classifier

_BATCH = 16


def describe(
    classifier: Classifier,
    variables: Mapping[str, Any],
    pixels: np.ndarray,
    rows: np.ndarray,
    label: np.ndarray,
    *,
    limit: int = 64,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Summarises the gates of a random part of the images.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        pixels: RGB ``uint8 [M, H, W, 3]``; only the images that are drawn are read.
        rows: ``int [N]``, N >= 1, where the evaluated images lie in ``pixels``.
        label: ``int [N]``, 0 benign and 1 malignant.
        limit: at most so many images are drawn, all alike.
        seed: of the draw.

    Returns:
        ``blocks`` and ``stages``, see :func:`se_resnet.explain.gate_summary`; empty lists where the
        network has no gates.
    """
    count = min(limit, len(rows))
    drawn = np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))
    # Whole batches only, so that one compilation serves them all.
    filled = np.resize(rows[drawn], -(-count // _BATCH) * _BATCH)
    parts = [
        explain.gates(classifier, variables, pixels[filled[start : start + _BATCH]])
        for start in range(0, len(filled), _BATCH)
    ]
    gates = {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
    return {f"{by}s": explain.gate_summary(gates, label[drawn], by=by) for by in ("block", "stage")}
