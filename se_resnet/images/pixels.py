"""Steps that the formats share: size limit, 8 bits per sample, transparency on white."""

from __future__ import annotations

import hashlib
import os

import cv2
import numpy as np

from se_resnet import PIXEL_LIMIT


class ImageError(ValueError):
    """The reason why an image is refused, worded to follow the name of the image."""


# Cameras of 8 to 14 bits store samples of 16 bits, often without scaling the values.
_LOW = 2**14 - 1
_FEW = 0.01  # share of samples that camera defects or a scale bar may take


def check_size(width: int, height: int) -> None:
    """Checks the size of an image before its pixels take memory.

    Raises:
        ImageError: the image has no pixels, or more than ``$OPENCV_IO_MAX_IMAGE_PIXELS`` allows.
    """
    if width < 1 or height < 1:
        raise ImageError(f"is broken: it claims {width}x{height} pixels")
    limit = int(os.environ[PIXEL_LIMIT])
    if width * height > limit:
        raise ImageError(f"is larger than the {limit:,} pixels that {PIXEL_LIMIT} allows")


def to_8_bits(samples: np.ndarray, largest: int) -> np.ndarray:
    """Scales samples so that ``largest`` becomes 255, and rounds.

    Args:
        samples: unsigned integers ``[h, w]`` or ``[h, w, 1 to 4]``.
        largest: the value that means white, up to 65,535.

    Returns:
        ``uint8``, same shape.
    """
    if largest == 255:
        return samples.astype(np.uint8, copy=False)
    scaled = cv2.convertScaleAbs(samples.astype(np.uint16, copy=False), alpha=255 / largest)
    return scaled.reshape(samples.shape)


def refuse_low_values(samples: np.ndarray, few: float = _FEW) -> None:
    """Refuses 16-bit colours that hold fewer bits and would look black.

    Args:
        samples: unsigned 16-bit integers.
        few: share of brighter samples that does not prove that all 16 bits are used.

    Raises:
        ImageError: no samples, or only a few, are brighter than a quarter of the range.
    """
    brightest = int(samples.max())
    share_note = ""
    if brightest > _LOW:
        if np.count_nonzero(samples > _LOW) > few * samples.size:
            return
        share_note, brightest = f" in {100 - 100 * few:g} % of them", _LOW
    raise ImageError(
        f"has samples of 16 bits but no value above {brightest:,} of 65,535{share_note}, so that "
        "it would be seen as black: save it with 8 bits per sample, or with values that fill 16"
    )


def on_white(colours: np.ndarray, alpha: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """Lays a transparent image on white, as light shines through glass in a microscope.

    Args:
        colours: ``uint8 [h, w, 1 or 3]``.
        alpha: ``uint8 [h, w]``, 255 is opaque.
        premultiplied: whether the colours were multiplied by alpha already.

    Raises:
        ImageError: the whole image is transparent.
    """
    if (alpha == 255).all():
        return colours
    if not alpha.any():
        raise ImageError(
            "is transparent everywhere, so that nothing is to be seen: save it without alpha"
        )
    share = alpha[..., None].astype(np.uint16)
    product = colours * np.uint16(255) if premultiplied else colours * share
    return np.minimum((product + 255 * (255 - share) + 127) // 255, 255).astype(np.uint8)


def to_rgb(samples: np.ndarray) -> np.ndarray:
    """Returns contiguous ``uint8 [h, w, 3]`` from grey ``[h, w]``, ``[h, w, 1]`` or RGB."""
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.shape[2] == 1:
        samples = samples[..., [0, 0, 0]]
    return np.ascontiguousarray(samples)


def digest(image: np.ndarray) -> str:
    """Returns the SHA-256 of decoded pixels. Equal digests mean the same image.

    Args:
        image: contiguous ``uint8 [h, w, 3]`` RGB.
    """
    height, width, _ = image.shape
    content = hashlib.sha256(f"{height}x{width}x3 ".encode())
    content.update(image.data)
    return content.hexdigest()
