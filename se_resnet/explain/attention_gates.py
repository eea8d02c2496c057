"""Gate values of the attention modules, per image and summarised over an evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.models.classifier import Classifier, Forward
from se_resnet.runtime.batches import batches

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def gates(
    classifier: Classifier, variables: Mapping[str, Any], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the channel factors of the attention modules (Hu et al. 2018, section 7.2).

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.

    Returns:
        float32 ``[B, C]`` for every attention module that sows gates, in the order of the network.
        The key is the name of the block (``'stage1/block2'``), or of the stage for attention after
        a stage. The result is empty for a network without gates, and for attention that does not
        gate whole channels: ``coord``, ``gc`` and ``simam``.
    """
    return _gates(classifier.make_predict(), variables, images, np.ones(len(images), bool))


def gate_summary(
    gates: Mapping[str, np.ndarray], label: np.ndarray, by: str = "stage"
) -> list[dict[str, Any]]:
    """Summarises the distribution of the gate values in each stage or block, by class.

    Args:
        gates: result of :func:`gates`.
        label: int ``[B]``, 0 benign and 1 malignant.
        by: ``'stage'`` pools the gates of all blocks of a stage, ``'block'`` does not.

    Returns:
        One row for every stage or block and every class with images. Its entries are ``stage`` or
        ``block`` (the name), ``class``, ``images``, ``mean``, and the quantiles ``q05``, ``q25``,
        ``q50``, ``q75`` and ``q95``.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for name, values in gates.items():
        parts.setdefault(name.split("/")[0] if by == "stage" else name, []).append(values)
    rows = []
    for part, blocks in parts.items():
        for value, name in enumerate(CLASS_NAMES):
            of_class = np.asarray(label) == value
            if not of_class.any():
                continue
            pooled = np.concatenate([values[of_class] for values in blocks], axis=1)
            quantiles = np.quantile(pooled, QUANTILES)
            rows.append(
                {by: part, "class": name, "images": int(of_class.sum())}
                | {"mean": float(pooled.mean(dtype=np.float64))}
                | {f"q{100 * q:02.0f}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
            )
    return rows


def describe(
    forward: Forward,
    variables: Mapping[str, Any],
    pixels: np.ndarray,
    rows: np.ndarray,
    label: np.ndarray,
    *,
    batch_size: int,
    limit: int = 64,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Summarises the gates of a random subset of the images.

    Args:
        forward: the forward pass of the network.
        variables: ``{'params', 'batch_stats'}`` of the network.
        pixels: RGB ``uint8 [M, H, W, 3]``; only the sampled images are read.
        rows: ``int [N]``, N >= 1, positions of the evaluated images in ``pixels``.
        label: ``int [N]``, 0 benign and 1 malignant.
        batch_size: images in a batch of the forward pass.
        limit: maximum number of sampled images, regardless of class.
        seed: seed of the random choice.

    Returns:
        ``blocks`` and ``stages``, see :func:`se_resnet.explain.gate_summary`. The lists are empty
        for a network without gates.
    """
    count = min(limit, len(rows))
    sampled = np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))
    parts = [
        _gates(forward, variables, pixels[rows[sampled][positions]], mask)
        for positions, mask in batches(count, batch_size)
    ]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {f"{by}s": gate_summary(values, label[sampled], by=by) for by in ("block", "stage")}


def _gates(
    forward: Forward, variables: Mapping[str, Any], images: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the result of :func:`gates` for the images of a batch whose mask is true."""
    by_module = forward.gates(variables, {"image": images, "mask": mask})
    # A jitted function sorts keys as text: block10 comes before block2.
    by_position = sorted(by_module, key=lambda path: [int(n) for n in re.findall(r"\d+", path)])
    return {path.removesuffix("/attention"): by_module[path] for path in by_position}
