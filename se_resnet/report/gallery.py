"""Images worth a look: the most confident errors and random correct calls, each with its reasons.

Errors show where a network fails most surely; the correct ones are drawn at random, so that nobody
mistakes a fine selection for the rule.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from se_resnet import explain
from se_resnet.metrics.predictions import Predictions
from se_resnet.models.classifier import Classifier
from se_resnet.runtime.batches import batch_count, batch_positions

_LONGEST = 256  # pixels of a picture's longer side, which is enough for a column of a page
_QUALITY = 85
_BATCH = 6


@dataclasses.dataclass(frozen=True)
class Group:
    """Images of one true class that were called alike.

    Attributes:
        label: 0 benign, 1 malignant.
        correct: whether they were called what they are.
        total: how many such images there are.
        index: ``int [K]``, those to show, in order, as positions among the predictions.
    """

    label: int
    correct: bool
    total: int
    index: np.ndarray


def select(
    predictions: Predictions,
    threshold: float = 0.5,
    *,
    errors: int = 6,
    correct: int = 3,
    seed: int = 0,
) -> list[Group]:
    """Chooses the images to show.

    Args:
        predictions: N images.
        threshold: probability from which an image is called malignant.
        errors: at most so many of each class, the farthest on the wrong side first.
        correct: at most so many of each class, at random, the most malignant first.
        seed: of the draw.

    Returns:
        Malignant called benign, benign called malignant, malignant and benign called right; a group
        may be empty.
    """
    rng = np.random.default_rng(seed)
    malignant = predictions.label == 1
    called = predictions.probability >= threshold
    groups = []
    for is_correct in (False, True):
        for label in (1, 0):
            found = np.flatnonzero((malignant == label) & ((malignant == called) == is_correct))
            shown = found
            if is_correct:
                shown = rng.choice(found, min(correct, len(found)), replace=False)
            # The most malignant first, but of missed ones the most benign.
            sign = 1 if label and not is_correct else -1
            order = np.lexsort((shown, sign * predictions.probability[shown]))
            groups.append(
                Group(
                    label, is_correct, len(found), shown[order[: correct if is_correct else errors]]
                )
            )
    return groups


def make(
    classifier: Classifier,
    variables: Mapping[str, Any],
    pixels: np.ndarray,
    rows: np.ndarray,
    predictions: Predictions,
    *,
    threshold: float = 0.5,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Selects, explains and encodes, ready for :func:`se_resnet.report.report.write_report`.

    Args:
        classifier: the network and its preprocessing.
        variables: ``{'params', 'batch_stats'}`` of the network.
        pixels: RGB ``uint8 [M, H, W, 3]``; only the images that are shown are read.
        rows: ``int [N]``, where the images of ``predictions`` lie in ``pixels``.
        predictions: N images.
        threshold: probability from which an image is called malignant.
        seed: of the random choice.

    Returns:
        For every group of :func:`select` its ``label``, ``correct``, ``total`` and ``pictures``,
        each with ``file``, ``accession``, ``magnification``, ``probability``, and the data URIs
        ``image`` and ``overlay``: Grad-CAM of the last stage for the class that was called.
    """
    groups = select(predictions, threshold, seed=seed)
    shown = np.concatenate([group.index for group in groups])
    images = np.asarray(pixels[rows[shown]])
    called = predictions.probability[shown] >= threshold
    heats = np.zeros(images.shape[:3], np.float32)
    for target in (0, 1):
        if (called == target).any():
            heats[called == target] = _explain(
                classifier, variables, images[called == target], target
            )
    pictures = iter(zip(shown.tolist(), images, heats, strict=True))
    return [
        {
            "label": group.label,
            "correct": group.correct,
            "total": group.total,
            "pictures": [
                {
                    "file": str(predictions.file[i]),
                    "accession": str(predictions.accession[i]),
                    "magnification": int(predictions.magnification[i]),
                    "probability": float(predictions.probability[i]),
                    "image": data_uri(image),
                    "overlay": data_uri(explain.overlay(image, heat)),
                }
                for i, image, heat in (next(pictures) for _ in group.index)
            ],
        }
        for group in groups
    ]


def _explain(
    classifier: Classifier, variables: Mapping[str, Any], images: np.ndarray, target: int
) -> np.ndarray:
    """Grad-CAM in batches of one size, so that one compilation serves every evaluation."""
    count = len(images)
    batches = [batch_positions(count, _BATCH, n)[0] for n in range(batch_count(count, _BATCH))]
    maps = [
        explain.grad_cam(classifier, variables, images[batch], target=target) for batch in batches
    ]
    return np.concatenate(maps)[:count]


def data_uri(image: np.ndarray) -> str:
    """A JPEG of an RGB image, for the ``src`` of an ``img``."""
    scale = _LONGEST / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
