"""Prepares variables for many batches in evaluation mode, in which they do not change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from se_resnet.models.layers import FOLDED, TRANSFORMED, normalisation
from se_resnet.models.resnet import ResNet


def fold(
    model: ResNet, variables: Mapping[str, Any], size: tuple[int, int]
) -> dict[str, Mapping[str, Any]]:
    """Folds the batch normalisations into the convolutions before them.

    With fixed statistics a normalisation is ``x * factor + offset`` for each channel, so its factor
    can multiply the convolution's kernel (Jacob et al. 2018, "Quantization and training of neural
    networks for efficient integer-arithmetic-only inference"). In the fast formulation the kernels
    are also transformed for :mod:`se_resnet.models.winograd` and become four times as large.

    Args:
        model: any :class:`ResNet`.
        variables: its ``{'params', 'batch_stats'}``.
        size: height and width of the images, for the choice of algorithms.

    Returns:
        Variables for ``model.apply`` with ``train=False``. The logits stay the same up to rounding,
        for images of any size. The function is pure and can be jitted.
    """
    params, stats = (dict(flatten_dict(variables[name])) for name in ("params", "batch_stats"))
    offsets = {}
    # Normalisations inside attention modules have no convolution before them.
    in_attention = {path for path in (*params, *stats) if "attention" in path}
    norms = [path[:-1] for path in params if path[-1] == "scale" and path not in in_attention]
    for norm in norms:
        conv = (*norm[:-1], norm[-1].replace("norm", "conv"), "kernel")
        factor, offsets[*norm, "offset"] = normalisation(
            params.pop((*norm, "scale")),
            params.pop((*norm, "bias")),
            stats[*norm, "mean"],
            stats[*norm, "var"],
            model.bn_epsilon,
        )
        params[conv] = params[conv] * factor
    folded = {"params": unflatten_dict(params), FOLDED: unflatten_dict(offsets)}
    if kept := {path: value for path, value in stats.items() if path in in_attention}:
        folded["batch_stats"] = unflatten_dict(kept)
    # Each convolution by Winograd's algorithm adds its transformed kernel.
    images = jnp.zeros((1, *size, 3))
    _, transformed = model.apply(folded, images, train=False, mutable=[TRANSFORMED])
    return {**folded, **transformed}
