"""Test-time augmentation: the mean logit over several views of one image.

A tumour has no up and no left, so the eight dihedral views (four turns, each mirrored or not) are
as good images as the one that was taken. Tiles look at all of an image that is longer than the
network's input is, each at the scale of ``crop``: a 700x460 image gives its left, middle and right
square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.images.resize import TILE_RULES


def resize_rules(tta: str, rule: str) -> tuple[str, ...]:
    """How one image is brought to the network's size, once for every tile.

    Args:
        tta: one of ``imaging.TTA``.
        rule: the rule of the network's training, which is the only one where no tiles are asked.
    """
    return TILE_RULES if tta in ("tiles", "both") else (rule,)


def dihedral_views(images: jax.Array) -> list[jax.Array]:
    """The eight views of ``[B, H, W, C]``, the first as it came; a quarter turn swaps H and W."""
    return [
        jnp.rot90(mirrored, turns, axes=(1, 2))
        for mirrored in (images, images[:, :, ::-1])
        for turns in range(4)
    ]


def mean_logits(
    predict: Callable[[Mapping, Iterable[Mapping]], np.ndarray],
    variables: Mapping[str, Any],
    batches: Iterable[Mapping[str, jax.Array]],
    tta: str,
) -> np.ndarray:
    """The logit of malignant of every image, averaged over its views.

    Args:
        predict: see :meth:`se_resnet.models.classifier.Classifier.make_predict`.
        variables: of the network.
        batches: each with ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``.
        tta: one of ``imaging.TTA``; the tiles of ``tiles`` and ``both`` are images of their own
            here.

    Returns:
        ``float64 [M]``, for every image whose mask is true.
    """
    if tta not in ("dihedral", "both"):
        return predict(variables, batches)
    means = [
        np.mean(
            [
                predict(variables, [{**batch, "image": view}])
                for view in dihedral_views(jnp.asarray(batch["image"]))
            ],
            axis=0,
        )
        for batch in batches
    ]
    return np.concatenate(means or [np.zeros(0)])
