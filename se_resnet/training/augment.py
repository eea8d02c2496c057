"""Augmentation of a whole batch inside the jitted step, in plain JAX.

Histology has no up and no left, so flips and right-angle rotations lose nothing. Stain strength and
scanner settings differ between laboratories, so colours are jittered in haematoxylin-eosin-DAB
space.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.errors import UserError
from se_resnet.training.arguments import is_on, register

# Optical densities of haematoxylin, eosin and DAB per RGB channel (Ruifrok & Johnston 2001).
_RGB_OF_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)


@register(switches=("translate", "zoom", "stain", "brightness", "contrast"))
@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image. False or 0 switches a change off.

    Attributes:
        flip: mirror along either axis, each with probability 1/2.
        rotate: turn by 90 degrees with probability 1/2 (square images only; with ``flip`` this
            reaches all eight dihedral views).
        translate: largest shift along each axis, as a fraction of the image side.
        zoom: largest relative change of scale, the same on both axes.
        stain: largest relative change of the strength of each stain (Tellez et al. 2018).
        brightness: largest shift, as a fraction of the range 0 to 255.
        contrast: largest relative change of the distance from the mean of the image.
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
        """Augments each image of a batch independently.

        Args:
            key: random key; the same key gives the same batch.
            images: ``float32 [B, H, W, 3]``, RGB, 0 to 255.

        Returns:
            ``float32 [B, H, W, 3]``, RGB, 0 to 255.
        """
        keys = iter(jax.random.split(key, 4))
        # A plane for each colour: XLA on a CPU vectorises over the last axis, which must be long.
        planes = images.transpose(0, 3, 1, 2)
        if self.flip or self.rotate or is_on(self.translate) or is_on(self.zoom):
            planes = self._move(next(keys), planes)
        if is_on(self.stain):
            planes = _stain_jitter(next(keys), planes, self.stain)
        if is_on(self.contrast):
            factor = 1 + _uniform(next(keys), planes, self.contrast)
            mean = planes.mean(axis=(1, 2, 3), keepdims=True)
            planes = mean + (planes - mean) * factor
        if is_on(self.brightness):
            planes = planes + 255 * _uniform(next(keys), planes, self.brightness)
        return jnp.clip(planes, 0, 255).transpose(0, 2, 3, 1)

    def _move(self, key: jax.Array, planes: jax.Array) -> jax.Array:
        """Turns, zooms, shifts and mirrors by one lookup of positions, so mirroring is free."""
        keys = iter(jax.random.split(key, 6))
        coin = (len(planes), 1)
        turn = jnp.zeros(coin, bool)
        square = planes.shape[2] == planes.shape[3]
        if self.rotate and square:
            turn = jax.random.bernoulli(next(keys), 0.5, coin)
        scale = 1 + _uniform(next(keys), planes, self.zoom)[:, 0, 0]
        shifts, mirrors = [], []
        for _ in ("height", "width"):
            shifts.append(_uniform(next(keys), planes, self.translate)[:, 0, 0])
            mirrors.append(self.flip & jax.random.bernoulli(next(keys), 0.5, coin))
        mirrors[0] ^= turn  # a quarter turn is a transposition, mirrored
        for along, across in ((0, 1), (1, 0)):
            shift = jnp.where(turn, shifts[across], shifts[along])
            mirror = jnp.where(turn, mirrors[across], mirrors[along])
            # Whole rows are looked up, so the axes change places in between.
            planes = _resample_rows(planes, scale, shift, mirror).swapaxes(2, 3)
        return jnp.where(turn[..., None, None], planes.swapaxes(2, 3), planes) if square else planes


def make_block_augmenter(augment: Augmentation, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that augments one block of images after another, for pixels to be kept.

    Returns:
        A function from ``uint8 [B, H, W, 3]`` to ``float32 [B, H, W, 3]``, RGB, 0 to 255. The seed
        and the number of previous calls decide the random changes.
    """
    root = jax.random.key(seed)
    calls = itertools.count()
    apply = jax.jit(augment)

    def augment_block(images: np.ndarray) -> np.ndarray:
        key = jax.random.fold_in(root, next(calls))
        return np.asarray(apply(key, images.astype(np.float32)))

    return augment_block


def _uniform(key: jax.Array, planes: jax.Array, limit: float) -> jax.Array:
    return jax.random.uniform(key, (len(planes), 1, 1, 1), minval=-limit, maxval=limit)


def _resample_rows(
    planes: jax.Array, scale: jax.Array, shift: jax.Array, mirror: jax.Array
) -> jax.Array:
    """Zooms, shifts and mirrors along the height; bilinear, reflected at the borders.

    Args:
        planes: ``float32 [B, 3, H, W]``.
        scale: ``float32 [B, 1]``.
        shift: ``float32 [B, 1]``, as a fraction of the height.
        mirror: ``bool [B, 1]``.
    """
    size = planes.shape[2]
    positions = jnp.arange(size, dtype=jnp.float32)
    centre = (size - 1) / 2
    source = (positions - centre) / scale + centre + shift * size
    source = jnp.where(mirror, size - 1 - source, source)
    period = max(1, 2 * (size - 1))  # one pixel mirrors onto itself
    source = jnp.abs(source) % period
    source = jnp.minimum(source, period - source)
    below = jnp.floor(source).astype(jnp.int32)
    above = jnp.minimum(below + 1, size - 1)
    share = (source - below)[:, None, :, None]
    take = jax.vmap(lambda image, index: jnp.take(image, index, axis=1, mode="clip"))
    mixed = (1 - share) * take(planes, below) + share * take(planes, above)
    return jax.lax.optimization_barrier(mixed)  # XLA would repeat the computation for each use


def _stain_jitter(key: jax.Array, planes: jax.Array, limit: float) -> jax.Array:
    strength = 1 + jax.random.uniform(key, (len(planes), 1, 3, 1), minval=-limit, maxval=limit)
    # One 3x3 matrix per image: to stains, new strengths, and back. Written as sums, because XLA on
    # a CPU is 25 times slower at such narrow matrix products.
    to_stains = np.linalg.inv(_RGB_OF_HED).astype(np.float32)
    change = (to_stains[:, :, None] * strength * _RGB_OF_HED).sum(axis=2)[..., None, None]
    logarithm = jnp.log((planes + 1) / 256)
    mixed = [sum(logarithm[:, i] * change[:, i, j] for i in range(3)) for j in range(3)]
    return 256 * jnp.exp(jnp.stack(mixed, axis=1)) - 1
