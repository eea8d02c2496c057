"""Decodes BMP and WebP with Pillow."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import BmpImagePlugin, ImageFile, WebPImagePlugin

from se_resnet.images import exif, pixels
from se_resnet.images.pixels import ImageError

# The exceptions of Pillow on a broken file.
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error)


def decode_bmp(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a BMP file.

    Raises:
        ImageError: the file cannot be decoded or is too large.
    """
    return _decode(BmpImagePlugin.BmpImageFile, content, "BMP")


def decode_webp(content: bytes) -> np.ndarray:
    """Returns ``uint8 [h, w, 3]`` RGB of a WebP file.

    Raises:
        ImageError: the file cannot be decoded, is too large, is an animation or ends in zeros.
    """
    return _decode(WebPImagePlugin.WebPImageFile, content, "WebP image")


def _decode(kind: type[ImageFile.ImageFile], content: bytes, name: str) -> np.ndarray:
    try:
        # Not Image.open, which has another limit of size.
        image = kind(io.BytesIO(content))
    except _FAULTS as error:
        raise ImageError(f"is a broken {name} or of a rare kind ({error})") from error
    pixels.check_size(*image.size)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"is an animation of {frames} frames: save one frame")
    if kind is WebPImagePlugin.WebPImageFile:
        _check_tail(content, image.width * image.height)
    try:
        image.load()
        alpha = image.has_transparency_data
        samples = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    except _FAULTS as error:
        raise ImageError(f"is a broken {name} ({error})") from error
    if alpha:
        samples = pixels.on_white(samples[..., :3], samples[..., 3])
    return pixels.to_rgb(exif.turn(samples, exif.orientation(image.info.get("exif", b""))))


def _check_tail(content: bytes, pixels: int) -> None:
    """Refuses a file whose lost data are zeros, which libwebp decodes without an error.

    A valid image of one colour also ends in zeros: one byte for 10,000 pixels.
    """
    zeros = len(content) - len(content.rstrip(b"\0"))
    if zeros > 64 + pixels // 4000:
        raise ImageError(
            f"is a broken WebP image (its last {zeros:,} bytes are zeros, as of a copy that broke "
            "off): copy it again"
        )
