"""Heat maps over images."""

from __future__ import annotations

import numpy as np


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Lays a heat map over its image.

    The colours are matplotlib's inferno, whose lightness rises evenly, so that it reads alike under
    every colour blindness and in grey. The heat also makes them opaque: what has none stays as it
    is, and tissue is not tinted where the network did not look.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        heat: ``[H, W]``; values outside of [0, 1] are cut.
        opacity: of the hottest pixels, from 0 to 1.

    Returns:
        RGB ``uint8 [H, W, 3]``.
    """
    # Explaining in a training or prediction run must not cost the import of a plotting library.
    import matplotlib

    heat = np.clip(heat, 0, 1)
    colours = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    share = (opacity * heat)[..., None]
    return np.rint((1 - share) * image + share * colours).astype(np.uint8)
