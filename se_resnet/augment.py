"""Augmentation of a whole batch inside the jitted step, in plain JAX.

Histology has no up and no left, so flips and right-angle rotations lose nothing; stain strength
and scanner settings differ between laboratories, so colours are jittered where they come from, in
haematoxylin-eosin-DAB space.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.errors import UserError

# Optical densities of haematoxylin, eosin and DAB per RGB channel (Ruifrok & Johnston 2001).
_RGB_OF_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; False or 0 switches a part off.

    Attributes:
        flip: mirror along either axis, each with probability 1/2.
        rotate: turn by 90 degrees with probability 1/2 (square images only; with ``flip`` this
            reaches all eight dihedral views).
        translate: largest shift along each axis, as a fraction of the image side.
        zoom: largest relative change of scale, the same on both axes.
        stain: largest relative change of each stain's strength (Tellez et al. 2018).
        brightness: largest shift, as a fraction of the range 0 to 255.
        contrast: largest relative change of the distance from the image's mean.
    """

    flip: bool = True
    rotate: bool = True
    translate: float = 0.0
    zoom: float = 0.0
    stain: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1 or (value == 1 and field.name == "zoom"):
                raise UserError(
                    f"config.augment.{field.name} = {value} is out of range: give 0 to 1"
                    f"{', less than 1' if field.name == 'zoom' else ''}."
                )

    def __call__(self, key: jax.Array, images: jax.Array) -> jax.Array:
        """Augments each image of a batch on its own.

        Args:
            key: decides everything: the same key gives the same batch.
            images: ``float32 [B, H, W, 3]``, RGB, 0 to 255.

        Returns:
            ``float32 [B, H, W, 3]``, RGB, 0 to 255.
        """
        keys = iter(jax.random.split(key, 8))
        if self.flip:
            images = _sometimes(next(keys), images, images[:, ::-1])
            images = _sometimes(next(keys), images, images[:, :, ::-1])
        if self.rotate and images.shape[1] == images.shape[2]:
            images = _sometimes(next(keys), images, images.transpose(0, 2, 1, 3)[:, ::-1])
        if self.translate or self.zoom:
            images = _translate_and_zoom(next(keys), images, self.translate, self.zoom)
        if self.stain:
            images = _stain_jitter(next(keys), images, self.stain)
        if self.contrast:
            factor = 1 + _uniform(next(keys), images, self.contrast)
            mean = images.mean(axis=(1, 2, 3), keepdims=True)
            images = mean + (images - mean) * factor
        if self.brightness:
            images = images + 255 * _uniform(next(keys), images, self.brightness)
        return jnp.clip(images, 0, 255)


def drawn_once(augment: Augmentation, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """For pixels that are augmented once and kept: a function to call on one block after another.

    Returns:
        ``uint8 [B, H, W, 3]`` to ``float32 [B, H, W, 3]``, RGB, 0 to 255; what it draws is decided
        by the seed and by how often it has been called before.
    """
    root = jax.random.key(seed)
    number = itertools.count()
    apply = jax.jit(augment)

    def draw(images: np.ndarray) -> np.ndarray:
        key = jax.random.fold_in(root, next(number))
        return np.asarray(apply(key, images.astype(np.float32)))

    return draw


def _uniform(key: jax.Array, images: jax.Array, limit: float) -> jax.Array:
    return jax.random.uniform(key, (len(images), 1, 1, 1), minval=-limit, maxval=limit)


def _sometimes(key: jax.Array, images: jax.Array, changed: jax.Array) -> jax.Array:
    chosen = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(chosen, changed, images)


def _translate_and_zoom(
    key: jax.Array, images: jax.Array, translate: float, zoom: float
) -> jax.Array:
    """Bilinear, mirrored at the borders: one small matrix product per axis."""
    key_y, key_x, key_zoom = jax.random.split(key, 3)
    scale = 1 + _uniform(key_zoom, images, zoom)[:, 0, 0]
    rows = _sampling_matrix(images.shape[1], scale, _uniform(key_y, images, translate)[:, 0, 0])
    columns = _sampling_matrix(images.shape[2], scale, _uniform(key_x, images, translate)[:, 0, 0])
    return jnp.einsum("byh,bhwc,bxw->byxc", rows, images, columns)


def _sampling_matrix(size: int, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """``float32 [B, size, size]``: each output position as a mix of two input positions."""
    positions = jnp.arange(size, dtype=jnp.float32)
    centre = (size - 1) / 2
    source = (positions - centre) / scale + centre + shift * size
    period = max(1, 2 * (size - 1))  # one pixel mirrors onto itself
    source = jnp.abs(source) % period
    source = jnp.minimum(source, period - source)
    return jnp.maximum(0.0, 1 - jnp.abs(source[:, :, None] - positions))


def _stain_jitter(key: jax.Array, images: jax.Array, limit: float) -> jax.Array:
    density = -jnp.log((images + 1) / 256)
    stains = density @ np.linalg.inv(_RGB_OF_HED).astype(np.float32)
    change = jax.random.uniform(key, (len(images), 1, 1, 3), minval=-limit, maxval=limit)
    return 256 * jnp.exp(-(stains * (1 + change)) @ _RGB_OF_HED) - 1
