"""Overlays of heat maps on images."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from se_resnet.images.resize import seen_region

_LEVELS = 256  # of the colour map


def spread(heat: np.ndarray, shape: tuple[int, int], rule: str) -> np.ndarray:
    """Brings the heat map of a network's input to the image that the input was made from.

    Args:
        heat: ``float32 [H, W]``, of the input.
        shape: height and width of the image.
        rule: rule that resized the image, see :func:`se_resnet.images.resize.resize`.

    Returns:
        ``float32 [height, width]``; 0 where the rule left out the image.
    """
    spread_heat = np.zeros(shape, np.float32)
    height, width = heat.shape
    region = spread_heat[seen_region(shape, (height, width), rule)]
    region[:] = cv2.resize(heat, region.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return spread_heat


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Overlays an image with a heat map.

    The colours are the map inferno of matplotlib. Its lightness rises evenly, so it is readable
    under every colour blindness and in grey. The opacity is proportional to the heat: pixels
    without heat keep their colour.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        heat: ``[H, W]``; values are clipped to [0, 1].
        opacity: opacity of the hottest pixels, from 0 to 1.

    Returns:
        RGB ``uint8 [H, W, 3]``.
    """
    heat = np.clip(heat, 0, 1)
    colours = _colours()[np.minimum((heat * _LEVELS).astype(np.intp), _LEVELS - 1)]
    alpha = (opacity * heat)[..., None]
    return np.rint((1 - alpha) * image + alpha * colours).astype(np.uint8)


def beside(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns an image and, to its right, the same image under a heat map: ``uint8 [H, 2W, 3]``."""
    return np.hstack([image, overlay(image, heat)])


@functools.cache
def _colours() -> np.ndarray:
    """Returns the colours of all levels of heat, ``float64 [256, 3]`` in [0, 255]."""
    # A run that only predicts images must not import a plotting library.
    import matplotlib

    return 255 * matplotlib.colormaps["inferno"](np.arange(_LEVELS))[:, :3]
