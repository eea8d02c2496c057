"""The layers of a ResNet for images ``[B, H, W, C]``: convolution, normalisation, pooling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from se_resnet.models import ops_fast, ops_fused, ops_plain, winograd

FORMULATIONS = ("auto", "plain", "fast", "fused")
AUTO = {"cpu": "fast", "gpu": "plain"}  # by platform; plain elsewhere
# Collections of variables that se_resnet.models.folding creates; they replace other variables.
TRANSFORMED = "transformed"  # kernels ready for Winograd's algorithm
FOLDED = "folded"  # offsets of normalisations whose factors are part of the kernels
MOMENTUM = 0.9  # share of the old running statistics that a step keeps; torch calls it 0.1


def chosen(formulation: str) -> str:
    """Returns ``'plain'``, ``'fast'`` or ``'fused'``; for ``'auto'`` that of the platform.

    They stand for :mod:`se_resnet.models.ops_plain`, :mod:`se_resnet.models.ops_fast` and
    :mod:`se_resnet.models.ops_fused`.
    """
    return AUTO.get(jax.default_backend(), "plain") if formulation == "auto" else formulation


def is_fast(formulation: str) -> bool:
    """Returns whether to use :mod:`se_resnet.models.ops_fast`; ``'auto'`` does so on CPUs."""
    return chosen(formulation) == "fast"


def is_fused(formulation: str) -> bool:
    """Returns whether to use :mod:`se_resnet.models.ops_fused`."""
    return chosen(formulation) == "fused"


class Conv(nn.Module):
    """Convolution without bias, zero-padded by the same amount on both sides, as in torch.

    The kernel has the shape ``[size, size, C_in, features]`` (HWIO). It starts with the normal
    initialisation of He et al. over the outputs (2015, "Delving deep into rectifiers").

    Attributes:
        features: number of output channels.
        size: height and width of the kernel; odd, so that the padding is ``size // 2``.
        stride: step of the kernel in both directions.
        formulation: one of ``FORMULATIONS``.
    """

    features: int
    size: int
    stride: int = 1
    formulation: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[B, H, W, C_in]`` to ``[B, ceil(H / stride), ceil(W / stride), features]``."""
        kernel = self.param(
            "kernel",
            nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            (self.size, self.size, x.shape[-1], self.features),
        ).astype(x.dtype)
        if not is_fast(self.formulation):
            return ops_plain.convolve(x, kernel, self.stride)
        preparing = self.is_mutable_collection(TRANSFORMED) and not self.is_initializing()
        if self.has_variable(TRANSFORMED, "kernel") or (
            preparing and ops_fast.winograd_applies(x, kernel, self.stride)
        ):
            transformed = self.variable(
                TRANSFORMED, "kernel", winograd.transform_for, kernel, x.shape
            )
            return winograd.convolve_transformed(x, transformed.value)
        return ops_fast.convolve(x, kernel, self.stride)


class BatchNorm(nn.Module):
    """Batch normalisation over all but the channels (Ioffe and Szegedy 2015).

    The variance of the batch is the mean square less the squared mean, so that one pass over the
    input gives both moments. Normalisation is one multiplication and one addition per value: XLA
    fuses it with the next operations and stores no centred copy of the input. Statistics are
    float32.

    Attributes:
        epsilon: added to the variances.
        formulation: one of ``FORMULATIONS``.
    """

    epsilon: float
    formulation: str = "auto"

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises ``x [B, H, W, C]``, by the batch if ``train``, else by running statistics."""
        factor, offset, _ = self.coefficients(x, train, per_image=False)
        if is_fused(self.formulation):
            return ops_fused.scale(x, factor, offset)
        return (x * factor + offset).astype(x.dtype)

    def rectified(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises like :meth:`__call__` and sets negative values to zero."""
        if not is_fused(self.formulation):
            return nn.relu(self(x, train))
        factor, offset, _ = self.coefficients(x, train, per_image=False)
        return ops_fused.scale_relu(x, factor, offset)

    @nn.compact
    def coefficients(
        self, x: jax.Array, train: bool, per_image: bool = True
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the factor and the offset that normalise ``x [B, H, W, C]``.

        Args:
            x: the features.
            train: whether to normalise by the statistics of the batch.
            per_image: whether the means of each image are needed.

        Returns:
            ``factor`` and ``offset``, both ``[C]``, and the means of ``x`` in each image, ``[B,
            C]``; without ``per_image`` the last may be other values.
        """
        channels = x.shape[-1:]
        if self.has_variable(FOLDED, "offset"):
            offset: jax.Array = self.get_variable(FOLDED, "offset")
            return jnp.ones(channels), offset, ops_plain.image_means(x)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if train:
            if is_fused(self.formulation):
                mean, square, means = ops_fused.moments(x, per_image)
            else:
                mean, square, means = ops_plain.moments(x)
            var = jnp.maximum(0, square - jnp.square(mean))
            if not self.is_initializing():
                for running, value in ((running_mean, mean), (running_var, var)):
                    running.value = MOMENTUM * running.value + (1 - MOMENTUM) * value
        else:
            mean, var, means = running_mean.value, running_var.value, ops_plain.image_means(x)
        return *normalisation(scale, bias, mean, var, self.epsilon), means


def normalisation(
    scale: jax.Array, bias: jax.Array, mean: jax.Array, var: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """Returns factor and offset ``[C]`` of ``scale * (x - mean) / sqrt(var + epsilon) + bias``."""
    factor = scale * lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def max_pool(x: jax.Array, formulation: str) -> jax.Array:
    """Maps ``[B, H, W, C]`` to ``[B, ceil(H / 2), ceil(W / 2), C]``: 3x3 maximum, stride 2."""
    return ops_fast.max_pool(x) if is_fast(formulation) else ops_plain.max_pool(x)


def add_relu(shortcut: jax.Array, residual: jax.Array, formulation: str) -> jax.Array:
    """Returns ``relu(shortcut + residual)``, the end of a block; both ``[B, H, W, C]``."""
    if chosen(formulation) == "plain":
        return nn.relu(shortcut + residual)
    return ops_fused.add_relu(shortcut, residual)


def global_average_pool(x: jax.Array) -> jax.Array:
    """Returns the mean of ``[B, H, W, C]`` over height and width: ``[B, C]``."""
    # A dot with ones. XLA on CPU would fuse a mean with the layers before and round differently
    # than elsewhere. A network with new gates, which are exactly 1, and the same network without
    # gates would then differ in the last bit of the logits.
    pixels = x.shape[1] * x.shape[2]
    return jnp.einsum("bhwc,hw->bc", x, jnp.ones(x.shape[1:3]), precision="highest") / pixels
