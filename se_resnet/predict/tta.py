"""Test-time augmentation: the mean logit over several views of one image.

Tissue has no up and no left, so the eight dihedral views (four rotations, each mirrored or not) are
as valid as the original image. Tiles cover an image whose sides differ in length, each at the scale
of ``crop``: a 700x460 image gives its left, middle and right square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.images.resize import TILE_RULES


def resize_rules(tta: str, rule: str) -> tuple[str, ...]:
    """Returns the rules that resize an image to the network's size, one per tile.

    Args:
        tta: a value of :data:`se_resnet.images.resize.TTA`.
        rule: rule of the network's training, the only one without tiles.
    """
    return TILE_RULES if tta in ("tiles", "both") else (rule,)


def dihedral_views(images: jax.Array) -> list[jax.Array]:
    """Returns the eight views of ``[B, H, W, C]``, original first; quarter turns swap H and W."""
    return [
        jnp.rot90(mirrored, turns, axes=(1, 2))
        for mirrored in (images, images[:, :, ::-1])
        for turns in range(4)
    ]


def mean_logits(
    predict: Callable[[Sequence[Mapping], Iterable[Mapping]], np.ndarray],
    members: Sequence[Mapping[str, Any]],
    batches: Iterable[Mapping[str, jax.Array]],
    tta: str,
) -> np.ndarray:
    """Returns the logits of malignant of each network for every image, averaged over its views.

    Args:
        predict: see :meth:`se_resnet.models.classifier.Classifier.make_predict`.
        members: variables of K networks.
        batches: dicts of ``image uint8 [B, H, W, 3]`` and ``mask bool [B]``.
        tta: a value of :data:`se_resnet.images.resize.TTA`; each tile of ``tiles`` and ``both``
            is a separate image here.

    Returns:
        ``float64 [K, M]``, for every image whose mask is true.
    """
    if tta not in ("dihedral", "both"):
        return predict(members, batches)
    means = [
        np.mean(
            [
                predict(members, [{**batch, "image": view}])
                for view in dihedral_views(jnp.asarray(batch["image"]))
            ],
            axis=0,
        )
        for batch in batches
    ]
    return np.concatenate(means or [np.zeros((len(members), 0))], axis=1)
