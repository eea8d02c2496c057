"""Example images with explanations: the most confident errors and random correct predictions.

The correct examples are chosen at random. A selection of the best ones would look too good.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from se_resnet import explain
from se_resnet.explain.members import Variables, networks_of
from se_resnet.images.data_uri import JPEG, data_uri, encode
from se_resnet.images.decode import decode_image
from se_resnet.images.resize import reduce
from se_resnet.metrics.predictions import Predictions
from se_resnet.models.classifier import Forward
from se_resnet.runtime.batches import batches

GALLERY = "gallery"  # folder of the pictures at full size, beside the report
_ERRORS, _CORRECT = 6, 3  # pictures of a class
_GROUPS = {
    (1, False): "missed",
    (0, False): "false-alarm",
    (1, True): "malignant",
    (0, True): "benign",
}
# All files that a gallery may have written, relative to the folder of the report.
FILES = tuple(
    f"{GALLERY}/{name}-{number}.jpg"
    for (_, correct), name in _GROUPS.items()
    for number in range(1, (_CORRECT if correct else _ERRORS) + 1)
)
_THUMBNAIL = 60_000  # pixels; enough for half a column of the page
_LARGEST = 4_000_000  # pixels of an image at full size; larger images are shown reduced
_QUALITY, _FULL_QUALITY = 85, 92
_COLUMNS, _CHARACTERS = 8, 40  # of the further columns in a caption


@dataclasses.dataclass(frozen=True)
class Group:
    """Images with the same label and the same prediction.

    Attributes:
        label: 0 benign, 1 malignant.
        correct: true if the prediction equals the label.
        total: number of images in the group.
        index: ``int [K]``, positions of the shown images among the predictions, in order.
    """

    label: int
    correct: bool
    total: int
    index: np.ndarray


def select(
    predictions: Predictions,
    threshold: float = 0.5,
    *,
    errors: int = _ERRORS,
    correct: int = _CORRECT,
    seed: int = 0,
) -> list[Group]:
    """Selects the images to show.

    Args:
        predictions: N images.
        threshold: minimum probability of an image that is predicted malignant.
        errors: maximum number of errors per class, the most confident first.
        correct: maximum number of correct predictions per class, chosen at random and sorted by
            falling probability.
        seed: seed of the random choice.

    Returns:
        Four groups: missed malignant images, false alarms, correct malignant images and correct
        benign images. A group may be empty.
    """
    rng = np.random.default_rng(seed)
    malignant = predictions.label == 1
    predicted = predictions.probability >= threshold
    groups = []
    for is_correct in (False, True):
        for label in (1, 0):
            members = np.flatnonzero(
                (malignant == label) & ((malignant == predicted) == is_correct)
            )
            shown = members
            if is_correct:
                shown = rng.choice(members, min(correct, len(members)), replace=False)
            # The highest probability first, but the lowest first among missed malignant images.
            sign = 1 if label and not is_correct else -1
            order = np.lexsort((shown, sign * predictions.probability[shown]))
            limit = correct if is_correct else errors
            groups.append(Group(label, is_correct, len(members), shown[order[:limit]]))
    return groups


def make(
    forward: Forward,
    variables: Variables,
    pixels: np.ndarray,
    rows: np.ndarray,
    predictions: Predictions,
    *,
    batch_size: int,
    threshold: float = 0.5,
    seed: int = 0,
    originals: Callable[[Collection[str]], Mapping[str, bytes]] | None = None,
    rule: str = "squash",
) -> list[dict[str, Any]]:
    """Selects, explains and encodes images for :func:`se_resnet.report.report.write_report`.

    Args:
        forward: the network's pass over batches, of which the explanations are computed.
        variables: ``{'params', 'batch_stats'}`` of the network, or a sequence of those of the
            members of an ensemble.
        pixels: RGB ``uint8 [M, H, W, 3]``; only the shown images are read.
        rows: ``int [N]``, positions of the images of ``predictions`` in ``pixels``.
        predictions: N images.
        batch_size: images per batch of the pass.
        threshold: minimum probability of an image that is predicted malignant.
        seed: seed of the random choice.
        originals: returns the encoded bytes of image files by name, without those that are gone.
            None, or a file that is gone, shows the image as the network sees it.
        rule: rule that resized the files to ``pixels``, see :func:`se_resnet.images.resize.resize`.

    Returns:
        One row per group of :func:`select`, with ``label``, ``correct``, ``total`` and
        ``pictures``. Each picture has ``file``, ``accession``, ``magnification`` (0: not known),
        ``probability``, ``extra`` (the values of further columns, by name), and the data URIs
        ``image`` and ``overlay`` of thumbnails in the shape of the image file. ``full`` is the
        file of :data:`FILES` for the pair at full size, and ``content`` are its bytes; the name is
        empty where the image file is not there. The overlay is the Grad-CAM of the last stage for
        the predicted class.
    """
    groups = select(predictions, threshold, seed=seed)
    shown = np.concatenate([group.index for group in groups])
    images = np.asarray(pixels[rows[shown]])
    predicted = predictions.probability[shown] >= threshold
    targets = predicted.astype(int)
    shown_heats = heats(forward, variables, images, targets, batch_size)
    found = originals(set(predictions.file[shown].tolist())) if originals else {}
    pictures = iter(zip(shown.tolist(), images, shown_heats, strict=True))
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
                    "extra": further_values(predictions, i),
                    **_draw(image, heat, found.get(str(predictions.file[i])), rule, full),
                }
                for full, (i, image, heat) in zip(
                    _names(group), (next(pictures) for _ in group.index), strict=False
                )
            ],
        }
        for group in groups
    ]


def _names(group: Group) -> Iterator[str]:
    """Yields the names of the files of a group."""
    prefix = f"{GALLERY}/{_GROUPS[group.label, group.correct]}-"
    yield from (name for name in FILES if name.startswith(prefix))


def _draw(
    image: np.ndarray, heat: np.ndarray, encoded: bytes | None, rule: str, full: str
) -> dict[str, Any]:
    """Returns the thumbnails of an image and its overlay, and the pair at full size.

    Args:
        image: ``uint8 [H, W, 3]``, the network's input.
        heat: ``float32 [H, W]``.
        encoded: content of the image file, or None.
        rule: rule that resized the file.
        full: name of the file for the pair.
    """
    try:
        original = decode_image(encoded) if encoded else None
    except ValueError:  # the file was changed meanwhile
        original = None
    if original is None:
        full = ""
    else:
        image = reduce(original, _LARGEST)
        heat = explain.spread(heat, image.shape[:2], rule)
    pair = explain.beside(image, heat)
    small = reduce(image, _THUMBNAIL)
    overlay = reduce(pair[:, image.shape[1] :], _THUMBNAIL)
    return {
        "image": data_uri(small, JPEG, _QUALITY),
        "overlay": data_uri(overlay, JPEG, _QUALITY),
        "full": full,
        "content": encode(pair, JPEG, _FULL_QUALITY) if full else b"",
    }


def further_values(predictions: Predictions, row: int) -> dict[str, str]:
    """Returns the values of the further columns of an image that are not empty.

    Of more than 8 columns the first 8 are returned. A value is cut to 40 characters.
    """
    values = {name: str(column[row]) for name, column in predictions.extra.items()}
    known = [(name, value) for name, value in values.items() if value][:_COLUMNS]
    return {
        name: value if len(value) <= _CHARACTERS else f"{value[: _CHARACTERS - 1]}…"
        for name, value in known
    }


def heats(
    forward: Forward,
    variables: Variables,
    images: np.ndarray,
    target: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Computes Grad-CAM of the last stage from the pass that predicts, ``float32 [B, H, W]``.

    Args:
        forward: the pass, which is compiled for this batch size where it predicted before.
        variables: see :func:`make`.
        images: ``uint8 [B, H, W, 3]``.
        target: ``int [B]``, the explained class of each image.
        batch_size: images per batch.
    """
    found = [np.zeros((0, *images.shape[1:3]), np.float32)]
    networks = networks_of(variables)
    for positions, mask in batches(len(images), batch_size):
        *_, maps = forward.with_maps(networks, {"image": images[positions], "mask": mask})
        of_batch = explain.grad_cam_of_maps(variables, maps, images.shape[1:3], target[positions])
        found.append(of_batch[mask])
    return np.concatenate(found)
