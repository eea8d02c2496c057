"""Simple features of an image of the network's size: tissue, sharpness, stain and scale.

They need no network, so that a reason such as "out of focus" can be given. Sharpness and scale are
ratios of neighbouring bands of a Laplacian pyramid (Burt and Adelson 1983): a blur removes the
finest band first, and another magnification shifts the energy from band to band.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from se_resnet.runtime.parallel import parallel_map

BLANK, BLURRED, COLOURS, SCALE, OTHER = "blank", "out of focus", "colours", "scale", "other"
REASONS = (BLANK, BLURRED, COLOURS, SCALE, OTHER)

# The features in order, each with the reason that a low and a high value stand for.
FEATURES = {
    "tissue": (BLANK, OTHER),
    "contrast": (BLANK, OTHER),
    "colourfulness": (COLOURS, COLOURS),
    "density": (COLOURS, COLOURS),
    "red_share": (COLOURS, COLOURS),
    "green_share": (COLOURS, COLOURS),
    "fine": (BLURRED, SCALE),
    "medium": (SCALE, SCALE),
    "coarse": (SCALE, SCALE),
}
_COLOURED = 20  # difference of the largest and the smallest channel of a stained pixel, of 255
_SIGMAS = (1.0, 2.0, 4.0, 8.0)  # pixels
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_FLAT = 2.0  # of the contrast, a standard deviation of 2.7 of 255; real images have 4.6 and more
# Optical density by grey value, float32 [256].
_DENSITY = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
_NOISE = 0.05  # variance of a band that rounding to 8 bits causes


def simple_features(images: np.ndarray) -> np.ndarray:
    """Computes the features of :data:`FEATURES`.

    ``tissue``: share of the pixels that have a colour. ``contrast``: logarithm of the variance of
    the luminance. ``colourfulness``: logarithm of the mean difference of the largest and the
    smallest channel. ``density``: mean optical density. ``red_share`` and ``green_share``: shares
    of the channels in the optical density, which the stain determines. ``fine``, ``medium`` and
    ``coarse``: logarithms of the ratios of the variances of neighbouring bands, the finest first.

    Args:
        images: RGB ``uint8 [N, H, W, 3]``.

    Returns:
        ``float64 [N, 9]``, all finite.
    """
    rows = list(parallel_map(_of_image, images))
    return np.array(rows).reshape(len(images), len(FEATURES))


def is_flat(features: np.ndarray) -> np.ndarray:
    """Returns ``bool [N]``: the luminance of an image hardly varies.

    Args:
        features: ``float64 [N, 9]``, result of :func:`simple_features`.
    """
    return features[:, list(FEATURES).index("contrast")] < _FLAT


def _of_image(image: np.ndarray) -> list[float]:
    pixels = image.astype(np.float32)
    luminance = pixels @ _LUMINANCE
    by_channel = _DENSITY[image].mean(axis=(0, 1))
    shares = (by_channel + 0.01) / (by_channel.sum() + 0.03)
    blurred = [luminance, *(cv2.GaussianBlur(luminance, (0, 0), sigma) for sigma in _SIGMAS)]
    bands = [float((fine - coarse).var()) for fine, coarse in itertools.pairwise(blurred)]
    energy = np.log(np.array(bands) + _NOISE)
    red, green, blue = (image[..., channel] for channel in range(3))
    # np.ptp(image, axis=-1) takes twenty times as long.
    colour = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return [
        float((colour >= _COLOURED).mean()),
        float(np.log(luminance.var() + _NOISE)),
        float(np.log(colour.mean() + 1)),
        float(by_channel.mean()),
        float(shares[0]),
        float(shares[1]),
        *(energy[:-1] - energy[1:]).tolist(),
    ]
