"""Explanations by changing the image: occlusion, and insertion and deletion of pixels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from se_resnet.errors import UserError
from se_resnet.explain.target import check_target, sign_of
from se_resnet.metrics.predictions import probability_of
from se_resnet.models.classifier import Classifier
from se_resnet.runtime.batches import batch_positions

_BATCH = 32
# Standard deviation of the blur, as a share of the image's longer side, that hides what an image
# shows: at 224 pixels it is wider than a nucleus at every magnification of BreaKHis.
_BLUR = 0.05


def occlusion(
    classifier: Classifier,
    variables: Mapping[str, Any],
    images: np.ndarray,
    *,
    patch: int = 32,
    stride: int = 16,
    target: int | None = None,
    fill: Sequence[float] | None = None,
) -> np.ndarray:
    """How much the target's probability drops when a part is covered (Zeiler and Fergus 2014).

    A square is moved over the image. A pixel's value is the mean drop over the squares that covered
    it. For each image the network runs on as many covered ones as there are squares,
    ``(ceil((H - patch) / stride) + 1) * (ceil((W - patch) / stride) + 1)``, in batches of 32.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.
        patch: side of the square in pixels; cut to the image's size.
        stride: step of the square in pixels, at most ``patch``, so that every pixel is covered.
        target: 0 for benign, 1 for malignant, None for each image's predicted class.
        fill: RGB colour of the square, 0 to 255; None takes each image's own mean colour.

    Returns:
        float32 ``[B, H, W]`` in [-1, 1]; negative where covering speaks for the target.

    Raises:
        UserError: ``target`` is unknown, or not ``1 <= stride <= patch``.
    """
    check_target(target)
    if not 1 <= stride <= patch:
        raise UserError(
            f"occlusion needs 1 <= stride <= patch, not stride {stride} and patch {patch}: "
            "choose a patch of at least the stride"
        )
    count, height, width = images.shape[:3]
    squares = [
        (slice(top, top + patch), slice(left, left + patch))
        for top, left in itertools.product(
            _offsets(height, patch, stride), _offsets(width, patch, stride)
        )
    ]

    def cover(image: np.ndarray, square: tuple[slice, slice]) -> np.ndarray:
        covered = image.copy()
        covered[square] = np.rint(image.mean(axis=(0, 1)) if fill is None else fill)
        return covered

    before = _logits(classifier, variables, images)
    sign = np.asarray(sign_of(before, target))[:, None]
    after = _logits(
        classifier, variables, (cover(image, square) for image in images for square in squares)
    ).reshape(count, len(squares))
    drops = probability_of(sign * before[:, None]) - probability_of(sign * after)
    total, covers = np.zeros((count, height, width)), np.zeros((height, width))
    for square, drop in zip(squares, drops.T, strict=True):
        total[:, *square] += drop[:, None, None]
        covers[square] += 1
    return (total / covers).astype(np.float32)


def insertion_deletion(
    classifier: Classifier,
    variables: Mapping[str, Any],
    image: np.ndarray,
    heat: np.ndarray,
    steps: int = 20,
    target: int | None = None,
) -> dict[str, Any]:
    """How faithful a heat map is to the network (Petsiuk et al. 2018, "RISE").

    Pixels are taken by falling heat, an equal number at each step. Deletion replaces them by the
    image's mean colour, and a faithful map lets the target's probability fall early; insertion
    gives them back to a blurred image, and a faithful map lets it rise early.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        image: RGB ``uint8 [H, W, 3]``.
        heat: ``[H, W]``; only its order matters. Equal values are taken from the top left on.
        steps: number of steps, at least 1.
        target: 0 for benign, 1 for malignant, None for the predicted class of the whole image.

    Returns:
        ``insertion`` and ``deletion``, the areas under the two curves, in [0, 1] (more is better
        for the first and less for the second), and ``curves``: ``fraction`` of the pixels taken,
        from 0 to 1, with the target's probability under ``insertion`` and ``deletion``, each
        float64 ``[steps + 1]``.

    Raises:
        UserError: ``target`` is unknown or ``steps`` is less than 1.
    """
    check_target(target)
    if steps < 1:
        raise UserError(f"insertion and deletion need at least 1 step, not {steps}")
    sigma = _BLUR * max(image.shape[:2])
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    mean = np.broadcast_to(np.rint(image.mean(axis=(0, 1))).astype(np.uint8), image.shape)
    rank = np.empty(heat.size, int)
    rank[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    fraction = np.linspace(0, 1, steps + 1)
    taken = [rank.reshape(heat.shape)[..., None] < round(f * heat.size) for f in fraction]
    logits = _logits(
        classifier,
        variables,
        itertools.chain(
            (np.where(mask, image, blurred) for mask in taken),
            (np.where(mask, mean, image) for mask in taken),
        ),
    ).reshape(2, -1)
    whole = logits[1, 0]
    insertion, deletion = probability_of(float(sign_of(whole, target)) * logits)
    return {
        "insertion": float(np.trapezoid(insertion, fraction)),
        "deletion": float(np.trapezoid(deletion, fraction)),
        "curves": {"fraction": fraction, "insertion": insertion, "deletion": deletion},
    }


def _offsets(length: int, patch: int, stride: int) -> list[int]:
    """Where squares start along an axis; the last one ends with the axis."""
    last = max(0, length - patch)
    return [*range(0, last, stride), last]


# Building it anew would compile the network at every call.
@functools.cache
def _predict(classifier: Classifier) -> Any:
    return classifier.make_predict()


def _logits(
    classifier: Classifier, variables: Mapping[str, Any], images: Iterable[np.ndarray]
) -> np.ndarray:
    """The logit of malignant for each image, float64 ``[N]``, with few images at once in memory."""
    images = iter(images)

    def batches() -> Iterable[dict[str, np.ndarray]]:
        while chunk := list(itertools.islice(images, _BATCH)):
            positions, mask = batch_positions(len(chunk), _BATCH)
            yield {"image": np.stack([chunk[i] for i in positions]), "mask": mask}

    return _predict(classifier)(variables, batches())
