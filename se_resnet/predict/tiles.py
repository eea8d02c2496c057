"""Predicts images that are cut into tiles at a network's scale.

The logit of an image is the mean logit of its tiles, as :mod:`se_resnet.predict.tta` averages the
views of an image. The probability of an image is that of the mean logit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.images.resize import resize
from se_resnet.images.scale import Scale, TiledImage, um_per_px_problem
from se_resnet.metrics.predictions import probability_of
from se_resnet.models.classifier import Classifier
from se_resnet.predict.tta import mean_logits
from se_resnet.runs.workdir import Run
from se_resnet.runtime.batches import batch_positions

MAP_SIDE = 1024  # longest side of a map over a whole image in pixels


def check_views(tta: str, scale: Scale | None) -> None:
    """Validates test-time augmentation for a network with a scale.

    Raises:
        UserError: the views are tiles of an image without a scale, and the network has a scale.
    """
    if scale and tta in ("tiles", "both"):
        raise UserError(
            f"--tta={tta} cuts tiles without a scale, but this run has one "
            f"({scale.describe()}) and averages all tiles of an image in any case: choose "
            "--tta=none or dihedral."
        )


def check_stated_scale(um_per_px: float | None, scale: Scale | None, name: str) -> None:
    """Validates the scale that a user states for images.

    Args:
        um_per_px: micrometres per pixel; None if the user states none.
        scale: scale of the network, or None.
        name: name of the option or argument, for messages.

    Raises:
        UserError: the value is not plausible, or the network has no scale and would ignore it.
    """
    if um_per_px is None:
        return
    if problem := um_per_px_problem(um_per_px):
        raise UserError(f"{name}={um_per_px:g} {problem}.")
    if scale is None:
        raise UserError(
            f"{name}={um_per_px:g} has no effect: the run was trained without "
            f"config.data.um_per_px and resizes whole images of any scale. Leave {name} out, or "
            "train with config.data.um_per_px."
        )


def network_inputs(classifier: Classifier, image: TiledImage) -> Iterator[np.ndarray]:
    """Yields the tiles of an image at the size of the network, ``uint8 [H, W, 3]``."""
    for tile in image:
        yield resize(tile, classifier.size, classifier.resize)


def tile_logits(
    network: Run,
    images: Iterable[TiledImage],
    tta: str = "none",
    *,
    batch_size: int,
    place: Callable[[np.ndarray], Any] = np.asarray,
) -> list[np.ndarray]:
    """Returns the logits of malignant by each network for the tiles of each image.

    An image is taken when its first tile is needed, and released after its last. All batches but
    the last are full, so tiles of several images share a batch.

    Args:
        network: a run whose classifier has a scale.
        images: images at that scale.
        tta: ``none`` or ``dihedral``, applied to each tile.
        batch_size: tiles per batch.
        place: puts a batch on the devices.

    Returns:
        ``float64 [K, T]`` per image.
    """
    counts: list[int] = []

    def inputs() -> Iterator[np.ndarray]:
        for image in images:
            counts.append(len(image))
            yield from network_inputs(network.classifier, image)

    batches = _batches(inputs(), batch_size, place)
    logits = mean_logits(network.predict, network.members, batches, tta)
    return np.split(logits, np.cumsum(counts)[:-1], axis=1) if counts else []


def _batches(
    inputs: Iterator[np.ndarray], batch_size: int, place: Callable[[np.ndarray], Any]
) -> Iterator[Mapping[str, Any]]:
    waiting: list[np.ndarray] = []
    for tile in inputs:
        waiting.append(tile)
        if len(waiting) == batch_size:
            yield _batch(waiting, batch_size, place)
            waiting = []
    if waiting:
        yield _batch(waiting, batch_size, place)


def _batch(
    tiles: list[np.ndarray], batch_size: int, place: Callable[[np.ndarray], Any]
) -> Mapping[str, Any]:
    positions, mask = batch_positions(len(tiles), batch_size)
    return {"image": place(np.stack(tiles)[positions]), "mask": mask}


def probability_map(image: TiledImage, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a picture of a whole image and the probability of malignant in each of its places.

    Args:
        image: the image at the network's scale.
        logits: ``float64 [T]``, of its tiles.

    Returns:
        RGB ``uint8 [H, W, 3]``, no side longer than 1,024 pixels, and ``float64 [H, W]`` in [0, 1].
        A place that several tiles cover has the mean of their probabilities.
    """
    picture = image.shown(MAP_SIDE)
    return picture, image.blend(probability_of(logits), picture.shape[:2])
