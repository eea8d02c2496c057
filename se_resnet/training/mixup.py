"""Mixes the images of a batch and their labels, inside the jitted step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from se_resnet.training.arguments import is_on, register


@register(switches=("mixup", "cutmix"))
@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019). 0 switches a method off.

    Attributes:
        mixup: alpha of Beta(alpha, alpha), the distribution of the share that an image keeps. Its
            partner gets the rest.
        cutmix: alpha of Beta(alpha, alpha), the distribution of the area that an image keeps. A
            box of its partner covers the rest. With both on, a coin decides for each image.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, key: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Mixes image ``i`` of the batch with its partner, image ``B - 1 - i``.

        Batches are shuffled, so the partner is random. Losses are linear in the label. The mixed
        label and importance give ``share`` times the importance-weighted loss of the first label
        plus ``1 - share`` times the importance-weighted loss of the label of the partner.

        Args:
            key: random key.
            batch: ``image float32 [B, H, W, 3]``, ``label float32 [B]`` in [0, 1] and
                ``importance float32 [B]``.

        Returns:
            The same entries, mixed.
        """
        if not (is_on(self.mixup) or is_on(self.cutmix)):
            return dict(batch)
        images, label, importance = (batch[name] for name in ("image", "label", "importance"))
        pixel_share = self._share(key, images.shape)
        share = pixel_share.mean((1, 2))

        def mix(values: jax.Array, share: jax.Array) -> jax.Array:
            return share * values + (1 - share) * values[::-1]

        weight = mix(importance, share)
        return {
            "image": mix(images, pixel_share[..., None]),
            "label": mix(importance * label, share) / jnp.maximum(weight, 1e-12),
            "importance": weight,
        }

    def _share(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Returns the share of its value that each pixel keeps, ``[B, H, W]`` in [0, 1]."""
        count, height, width = shape[:3]
        mixup_key, cutmix_key, centre_key, coin_key = jax.random.split(key, 4)
        mixed = cut = jnp.zeros(())
        if is_on(self.mixup):
            mixed = jax.random.beta(mixup_key, self.mixup, self.mixup, (count, 1, 1))
        if is_on(self.cutmix):
            side = jnp.sqrt(1 - jax.random.beta(cutmix_key, self.cutmix, self.cutmix, (count, 1)))
            centre = jax.random.uniform(centre_key, (2, count, 1))
            inside = (
                # Pixel centres, as a fraction of the image.
                jnp.abs((jnp.arange(size) + 0.5) / size - middle) < side / 2
                for size, middle in zip((height, width), centre, strict=True)
            )
            rows, columns = inside
            cut = 1.0 - (rows[:, :, None] & columns[:, None, :])
        coin = jnp.full((count, 1, 1), is_on(self.cutmix))
        if is_on(self.mixup) and is_on(self.cutmix):
            coin = jax.random.bernoulli(coin_key, 0.5, (count, 1, 1))
        return jnp.broadcast_to(jnp.where(coin, cut, mixed), (count, height, width))
