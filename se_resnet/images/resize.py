"""Resizes an image to the size of the network's input, for training and prediction alike."""

from __future__ import annotations

import cv2
import numpy as np

from se_resnet.errors import UserError

# Crops at the start, the centre and the end of the longer side.
TILE_RULES = ("crop_start", "crop", "crop_end")
RESIZE_RULES = ("squash", *TILE_RULES, "none")
# Choices of test-time augmentation, see se_resnet.predict.tta.
TTA = ("none", "dihedral", "tiles", "both")


def resize(image: np.ndarray, size: tuple[int, int], rule: str) -> np.ndarray:
    """Resizes one image.

    Args:
        image: ``uint8 [h, w, 3]``.
        size: wanted height and width in pixels.
        rule: ``squash`` scales each axis by itself, so the aspect ratio changes (as in the
            original notebook). ``crop`` scales both axes alike until the image covers the wanted
            size, and cuts out the centre. ``crop_start`` cuts out the upper or left end, and
            ``crop_end`` the other end. ``none`` requires an image of the wanted size.

    Returns:
        ``uint8 [height, width, 3]``. Shrinking averages over areas, without aliasing. Enlarging
        interpolates linearly.

    Raises:
        UserError: the sizes differ under ``none``, or the rule is unknown.
    """
    height, width = size
    if rule == "none":
        if image.shape[:2] != (height, width):
            raise UserError(
                f"the image is {image.shape[1]}x{image.shape[0]} pixels but {width}x{height} is "
                "configured: set config.data.size to the images' size or config.data.resize to "
                "'squash' or 'crop'."
            )
        return image
    if rule == "squash":
        return resample(image, height, width)
    if rule in TILE_RULES:
        scale = max(height / image.shape[0], width / image.shape[1])
        scaled = resample(
            image,
            max(height, round(image.shape[0] * scale)),
            max(width, round(image.shape[1] * scale)),
        )
        tile = TILE_RULES.index(rule)
        top, left = tile * (scaled.shape[0] - height) // 2, tile * (scaled.shape[1] - width) // 2
        return scaled[top : top + height, left : left + width]
    raise UserError(
        f"config.data.resize = {rule!r} is unknown: choose from {', '.join(RESIZE_RULES)}."
    )


def seen_region(shape: tuple[int, int], size: tuple[int, int], rule: str) -> tuple[slice, slice]:
    """Returns the rows and columns of an image that :func:`resize` keeps.

    Args:
        shape: height and width of the image in pixels.
        size: height and width that it is resized to.
        rule: see :func:`resize`.

    >>> seen_region((460, 700), (224, 224), "crop")
    (slice(0, 460, None), slice(120, 580, None))
    """
    if rule not in TILE_RULES:
        return slice(0, shape[0]), slice(0, shape[1])
    scale = max(size[0] / shape[0], size[1] / shape[1])
    lengths = [min(whole, round(kept / scale)) for whole, kept in zip(shape, size, strict=True)]
    tile = TILE_RULES.index(rule)
    starts = [tile * (whole - kept) // 2 for whole, kept in zip(shape, lengths, strict=True)]
    rows, columns = (
        slice(start, start + kept) for start, kept in zip(starts, lengths, strict=True)
    )
    return rows, columns


def reduce(image: np.ndarray, largest: int) -> np.ndarray:
    """Reduces ``uint8 [h, w, 3]`` to about ``largest`` pixels at most, in the same shape."""
    height, width = image.shape[:2]
    scale = (largest / (height * width)) ** 0.5
    if scale >= 1:
        return image
    return resample(image, max(1, int(height * scale)), max(1, int(width * scale)))


def resample(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resamples ``uint8 [h, w, 3]`` to ``uint8 [height, width, 3]``, each axis by itself.

    Shrinking averages over areas, without aliasing. Enlarging interpolates linearly. An image of
    the wanted size is returned as it is.
    """
    if image.shape[:2] == (height, width):
        return image
    # In two steps, because OpenCV averages over areas only if no axis grows.
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
