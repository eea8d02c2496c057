"""Encoded images, also as data URIs for pages that load nothing from elsewhere."""

from __future__ import annotations

import base64

import cv2
import numpy as np

JPEG, PNG = "jpeg", "png"


def data_uri(image: np.ndarray, kind: str, quality: int = 95) -> str:
    """Encodes an image for the ``src`` of an ``img`` element.

    Args:
        image: ``uint8 [H, W, 3]`` RGB, or ``uint8 [H, W, 4]`` RGBA for ``PNG``.
        kind: ``JPEG`` or ``PNG``.
        quality: of a JPEG, from 0 to 100.
    """
    content = base64.b64encode(encode(image, kind, quality)).decode()
    return f"data:image/{kind};base64,{content}"


def encode(image: np.ndarray, kind: str, quality: int = 95) -> bytes:
    """Returns the content of an image file; takes the arguments of :func:`data_uri`."""
    swapped = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == JPEG else []
    _, encoded = cv2.imencode(f".{kind}", swapped, options)
    return encoded.tobytes()
