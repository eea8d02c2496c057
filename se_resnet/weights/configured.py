"""Initial weights as ``config.model`` describes them: their name, pixels and accepted licence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from se_resnet.errors import UserError
from se_resnet.models.preprocessing import IMAGENET, Preprocessing
from se_resnet.weights import hub, pretrained
from se_resnet.weights.declaration import standardisation
from se_resnet.weights.licences import Licence, require_accepted
from se_resnet.weights.record import Pretrained


def check(model: Any) -> None:
    """Checks ``config.model`` as far as possible without reading or downloading weights.

    Args:
        model: the fields ``pretrained``, ``mean``, ``std`` and ``accept_licence``.

    Raises:
        UserError: the weights are unknown, mean and std cannot be those of pixels from 0 to 1 or
            are stated for weights whose preprocessing is recorded, or a licence is not accepted.
    """
    name = model.pretrained
    pretrained.check_name(name)
    if configured_pixels(model.mean, model.std) is not None and name in pretrained.RECORDS:
        raise pretrained.recorded_pixels(name)
    if name in hub.KNOWN:
        require_accepted(name, hub.KNOWN[name].licence, model.accept_licence)


def published_licence(name: str) -> Licence | None:
    """Returns the licence of weights known by name, before they are downloaded; else None."""
    return hub.KNOWN[name].licence if name in hub.KNOWN else None


def load(model: Any) -> Pretrained:
    """Loads the weights that ``config.model`` names; :func:`check` runs first.

    Args:
        model: as for :func:`check`.

    Raises:
        UserError: :func:`check` or :func:`se_resnet.weights.pretrained.load` fails, or the licence
            that lies beside the weights is not accepted.
    """
    check(model)
    weights = pretrained.load(model.pretrained, pixels=configured_pixels(model.mean, model.std))
    require_accepted(weights.name, weights.terms(), model.accept_licence)
    return dataclasses.replace(weights, accepted_licence=model.accept_licence)


def configured_pixels(mean: Sequence[float], std: Sequence[float]) -> Preprocessing | None:
    """Returns the preprocessing of ``config.model.mean`` and ``config.model.std``.

    Args:
        mean: mean of red, green and blue over pixels from 0 to 1, as in timm and torchvision; empty
            if it is not stated.
        std: standard deviation, likewise.

    Returns:
        The preprocessing of RGB pixels, or None if mean and std are empty.

    Raises:
        UserError: one of the two is empty, or pixels from 0 to 1 cannot have these values.
    """
    if not mean and not std:
        return None
    if not mean or not std:
        missing, stated = ("mean", "std") if not mean else ("std", "mean")
        raise UserError(
            f"config.model.{stated} is set and config.model.{missing} is empty: set both, or "
            "neither."
        )
    try:
        return standardisation(list(mean), list(std), IMAGENET.scale)
    except ValueError as error:
        raise UserError(
            f"config.model.mean = {tuple(mean)} and config.model.std = {tuple(std)} cannot be "
            f"used ({error}): give three numbers each, of red, green and blue pixels from 0 to 1, "
            "for example 0.7,0.54,0.66."
        ) from error
