"""Overlays of heat maps on images."""

from __future__ import annotations

import numpy as np


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
    # A run that only explains images must not import a plotting library.
    import matplotlib

    heat = np.clip(heat, 0, 1)
    colours = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    alpha = (opacity * heat)[..., None]
    return np.rint((1 - alpha) * image + alpha * colours).astype(np.uint8)
