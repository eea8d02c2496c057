"""Mixing the images of a batch and their labels, inside the jitted step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019); 0 switches a part off.

    Attributes:
        mixup: alpha of Beta(alpha, alpha), from which each image's own share is drawn; the rest
            is its partner's.
        cutmix: alpha of Beta(alpha, alpha), from which the area that an image keeps is drawn; a
            box of its partner covers the rest. With both on, a coin decides for each image.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, key: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Mixes each image with its partner, the image as far from the batch's other end.

        Batches are shuffled, so the partner is random. Losses are linear in the label: the mixed
        label and importance give ``share`` times the importance-weighted loss of the own label
        plus ``1 - share`` times that of the partner's.

        Args:
            key: decides everything.
            batch: ``image float32 [B, H, W, 3]``, ``label float32 [B]`` in [0, 1] and
                ``importance float32 [B]``.

        Returns:
            The same, mixed.
        """
        if not (self.mixup or self.cutmix):
            return dict(batch)
        images, label, importance = (batch[name] for name in ("image", "label", "importance"))
        of_pixel = self._share(key, images.shape)
        share = of_pixel.mean((1, 2))

        def mix(values: jax.Array, share: jax.Array) -> jax.Array:
            return share * values + (1 - share) * values[::-1]

        weight = mix(importance, share)
        return {
            "image": mix(images, of_pixel[..., None]),
            "label": mix(importance * label, share) / jnp.maximum(weight, 1e-12),
            "importance": weight,
        }

    def _share(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """How much of its own each pixel keeps, ``[B, H, W]`` in [0, 1]."""
        count, height, width = shape[:3]
        of_mixup, of_cutmix, of_place, of_coin = jax.random.split(key, 4)
        mixed = cut = jnp.zeros(())
        if self.mixup:
            mixed = jax.random.beta(of_mixup, self.mixup, self.mixup, (count, 1, 1))
        if self.cutmix:
            side = jnp.sqrt(1 - jax.random.beta(of_cutmix, self.cutmix, self.cutmix, (count, 1)))
            centre = jax.random.uniform(of_place, (2, count, 1))
            inside = (
                # Pixel centres, as a fraction of the image.
                jnp.abs((jnp.arange(size) + 0.5) / size - place) < side / 2
                for size, place in zip((height, width), centre, strict=True)
            )
            rows, columns = inside
            cut = 1.0 - (rows[:, :, None] & columns[:, None, :])
        coin = jnp.full((count, 1, 1), bool(self.cutmix))
        if self.mixup and self.cutmix:
            coin = jax.random.bernoulli(of_coin, 0.5, (count, 1, 1))
        return jnp.broadcast_to(jnp.where(coin, cut, mixed), (count, height, width))
