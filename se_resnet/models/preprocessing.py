"""Maps RGB pixels to the input of a network, in the way that its weights were trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from se_resnet.errors import UserError

CHANNEL_ORDERS = ("RGB", "BGR")
# The form of as_dict(), for se_resnet.runtime.schema.
FORM = {"channel_order": str, "mean": [float] * 3, "std": [float] * 3, "scale": float}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Computes ``(scale * pixels - mean) / std`` in the channel order of the weights.

    Attributes:
        channel_order: order of the input channels of the network, ``'RGB'`` or ``'BGR'``.
        mean: mean of each channel, in the order of the network and after scaling.
        std: standard deviation of each channel, likewise.
        scale: factor on pixel values of 0..255.

    Raises:
        UserError: a value is of the wrong kind.
    """

    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float

    def __post_init__(self) -> None:
        if self.channel_order not in CHANNEL_ORDERS:
            raise UserError(
                f"unknown channel order {self.channel_order!r}: choose one of "
                f"{', '.join(CHANNEL_ORDERS)}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise UserError(
                f"preprocessing needs three means and three positive standard deviations, "
                f"not {self.mean!r} and {self.std!r}"
            )
        if not np.isfinite([*self.mean, *self.std, self.scale]).all():
            raise UserError(f"preprocessing needs finite numbers, not {self!r}")

    def __call__(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Maps RGB images ``[B, H, W, 3]``, uint8 or float in 0..255, to float32 of that shape."""
        pixels = jnp.asarray(images).astype(jnp.float32)
        if self.channel_order == "BGR":
            pixels = jnp.flip(pixels, -1)
        mean, std = jnp.asarray(self.mean), jnp.asarray(self.std)
        return (self.scale * pixels - mean) / std

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes as JSON values; :meth:`from_dict` reads them back."""
        return {
            "channel_order": self.channel_order,
            "mean": list(self.mean),
            "std": list(self.std),
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Builds a preprocessing from the values of :meth:`as_dict`.

        Raises:
            UserError: a value is missing, unknown or of the wrong kind.
        """
        try:
            return cls(
                **{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])},
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                "preprocessing needs channel_order, mean, std and scale, "
                f"not {dict(values)!r}: restore the file that it came from"
            ) from error


# The preprocessing that Keras calls 'caffe', and that of torchvision, timm and transformers.
CAFFE = Preprocessing("BGR", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), scale=1.0)
IMAGENET = Preprocessing(
    "RGB", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1 / 255
)
