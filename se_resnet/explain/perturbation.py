"""Explanations by perturbing the image: occlusion, insertion and deletion of pixels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from se_resnet.errors import UserError
from se_resnet.explain.members import Variables, networks_of
from se_resnet.explain.target import check_target, sign_of
from se_resnet.metrics.predictions import probability_of
from se_resnet.models.classifier import Classifier
from se_resnet.runtime.batches import batch_positions

_BATCH = 32
# Standard deviation of the blur, relative to the longer side of the image. At 224 pixels the blur
# is wider than a nucleus at every magnification of BreaKHis.
_BLUR = 0.05


def occlusion(
    classifier: Classifier,
    variables: Variables,
    images: np.ndarray,
    *,
    patch: int = 32,
    stride: int = 16,
    target: int | None = None,
    fill: Sequence[float] | None = None,
) -> np.ndarray:
    """Computes the drop of the target's probability under occlusion (Zeiler and Fergus 2014).

    A square moves over the image. The value of a pixel is the mean drop over the squares that cover
    the pixel. The network runs once per image and square, in batches of 32. The number of squares
    is ``(ceil((H - patch) / stride) + 1) * (ceil((W - patch) / stride) + 1)``.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network, or a sequence of those of the
            members of an ensemble, whose mean logit is explained.
        images: RGB ``uint8 [B, H, W, 3]``, of any size.
        patch: side of the square in pixels, limited to the image size.
        stride: step of the square in pixels, at most ``patch``, to cover every pixel.
        target: 0 for benign, 1 for malignant, None for the predicted class of each image.
        fill: RGB colour of the square, 0 to 255; None means the mean colour of each image.

    Returns:
        float32 ``[B, H, W]`` in [-1, 1]; negative if occlusion raises the probability.

    Raises:
        UserError: ``target`` is unknown, or ``1 <= stride <= patch`` does not hold.
    """
    check_target(target)
    if not 1 <= stride <= patch:
        raise UserError(
            f"occlusion needs 1 <= stride <= patch, not stride {stride} and patch {patch}: "
            "choose a patch that is at least as large as the stride"
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
    total, times_covered = np.zeros((count, height, width)), np.zeros((height, width))
    for square, drop in zip(squares, drops.T, strict=True):
        total[:, *square] += drop[:, None, None]
        times_covered[square] += 1
    return (total / times_covered).astype(np.float32)


def insertion_deletion(
    classifier: Classifier,
    variables: Variables,
    image: np.ndarray,
    heat: np.ndarray,
    steps: int = 20,
    target: int | None = None,
) -> dict[str, Any]:
    """Measures the faithfulness of a heat map to the network (Petsiuk et al. 2018, "RISE").

    Pixels are selected by falling heat, an equal number at each step. Deletion replaces them by the
    mean colour of the image. Insertion restores them in a blurred image. For a faithful map, the
    target's probability falls early under deletion and rises early under insertion.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network, or a sequence of those of the
            members of an ensemble, whose mean logit is explained.
        image: RGB ``uint8 [H, W, 3]``.
        heat: ``[H, W]``; only the order of its values matters. Ties are selected in row order.
        steps: number of steps, at least 1.
        target: 0 for benign, 1 for malignant, None for the predicted class of the whole image.

    Returns:
        ``insertion`` and ``deletion``, the areas under the two curves, in [0, 1]. A larger
        insertion and a smaller deletion are better. ``curves``, each float64 ``[steps + 1]``: the
        ``fraction`` of selected pixels, from 0 to 1, and the target's probability under
        ``insertion`` and ``deletion``.

    Raises:
        UserError: ``target`` is unknown or ``steps`` is less than 1.
    """
    check_target(target)
    if steps < 1:
        raise UserError(
            f"insertion and deletion need at least 1 step, not {steps}: choose steps=1 or more"
        )
    sigma = _BLUR * max(image.shape[:2])
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    mean = np.broadcast_to(np.rint(image.mean(axis=(0, 1))).astype(np.uint8), image.shape)
    rank = np.empty(heat.size, int)
    rank[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    fraction = np.linspace(0, 1, steps + 1)
    selected = [rank.reshape(heat.shape)[..., None] < round(f * heat.size) for f in fraction]
    logits = _logits(
        classifier,
        variables,
        itertools.chain(
            (np.where(mask, image, blurred) for mask in selected),
            (np.where(mask, mean, image) for mask in selected),
        ),
    ).reshape(2, -1)
    unchanged = logits[1, 0]  # deletion of no pixels
    insertion, deletion = probability_of(float(sign_of(unchanged, target)) * logits)
    return {
        "insertion": float(np.trapezoid(insertion, fraction)),
        "deletion": float(np.trapezoid(deletion, fraction)),
        "curves": {"fraction": fraction, "insertion": insertion, "deletion": deletion},
    }


def _offsets(length: int, patch: int, stride: int) -> list[int]:
    """Returns the start of each square along an axis; the last square ends with the axis."""
    last = max(0, length - patch)
    return [*range(0, last, stride), last]


# Without the cache every call would compile the network again.
@functools.cache
def _predict(classifier: Classifier) -> Any:
    return classifier.make_predict()


def _logits(
    classifier: Classifier, variables: Variables, images: Iterable[np.ndarray]
) -> np.ndarray:
    """Returns the logits of malignant, float64 ``[N]``, with few images in memory at a time."""
    images = iter(images)

    def batches() -> Iterable[dict[str, np.ndarray]]:
        while chunk := list(itertools.islice(images, _BATCH)):
            positions, mask = batch_positions(len(chunk), _BATCH)
            yield {"image": np.stack([chunk[i] for i in positions]), "mask": mask}

    return _predict(classifier)(networks_of(variables), batches()).mean(axis=0)
