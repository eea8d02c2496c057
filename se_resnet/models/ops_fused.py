"""Normalisation for a GPU, and the end of a residual block, in few passes over memory.

On a GPU the arithmetic of a training step takes less time than reading and writing the features.
Each function here reads its features as few times as possible and stores none that the gradients
can compute again:

* :func:`moments` sums values and squares in one pass.
* :func:`scale_relu` keeps its input only. Its gradient computes the sign of the output again.
* :func:`scale_add_relu`, also for a CPU, is the end of a residual block whose attention gates
  channels, ``relu(shortcut + attend(norm(x)))``, in one pass. The means of ``x`` give the gates.
  The normalised and the gated features are never stored. :func:`add_relu` is the end of any block.
* The gradients of factor and offset are two sums of one shape over the same pixels, see
  :func:`pixel_sums`, which XLA computes in one pass.

The results are those of :mod:`se_resnet.models.ops_plain` and of the layers written out, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

Terms = Callable[..., tuple[jax.Array, ...]]


def pixel_sums(
    terms: Terms, features: Sequence[jax.Array], rows: Sequence[jax.Array], per_image: bool
) -> tuple[jax.Array, ...]:
    """Returns the sums over the pixels of each term.

    The sums have one shape, so that XLA makes one reduction with several outputs from them.

    Args:
        terms: an elementwise function ``(*features, *rows) -> terms``, at least float32.
        features: arrays ``[B, H, W, C]``.
        rows: arrays ``[C]``, the same for all pixels.
        per_image: whether to sum over the pixels of each image or of all images.

    Returns:
        For each term ``[B, C]`` if ``per_image``, else ``[C]``.
    """
    axes = (1, 2) if per_image else (0, 1, 2)
    return tuple(term.sum(axes) for term in terms(*features, *rows))


def moments(x: jax.Array, per_image: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the means of ``x [B, H, W, C]`` and of its squares, from one pass.

    Args:
        x: the features.
        per_image: whether the means of each image are needed too.

    Returns:
        Mean ``[C]``, mean square ``[C]``, and the means of each image, ``[B, C]``; without
        ``per_image`` the mean stands for the mean of each image. At least float32.
    """
    pixels = x.shape[1] * x.shape[2]
    total, squares = _power_sums(x, per_image)
    if not per_image:
        mean, square = (value / (len(x) * pixels) for value in (total, squares))
        return mean, square, jnp.broadcast_to(mean, (len(x), *mean.shape))
    means = total / pixels
    return means.mean(0), squares.mean(0) / pixels, means


def _power_sums(x: jax.Array, per_image: bool) -> tuple[jax.Array, ...]:
    @jax.custom_vjp
    def sums(x: jax.Array) -> tuple[jax.Array, ...]:
        return pixel_sums(_powers, (x,), (), per_image)

    def forward(x):
        return sums(x), x

    def backward(x, cotangents):
        total, squares = (_over_pixels(value) for value in cotangents)
        return ((total + 2 * _exact(x) * squares).astype(x.dtype),)

    sums.defvjp(forward, backward)
    return sums(x)


@jax.custom_vjp
def scale(x: jax.Array, factor: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns ``factor * x + offset`` in the dtype of ``x``.

    Args:
        x: ``[B, H, W, C]``.
        factor: ``[C]``, at least float32.
        offset: ``[C]``, at least float32.
    """
    return (factor * x + offset).astype(x.dtype)


def _scale_forward(x, factor, offset):
    return scale(x, factor, offset), (x, factor)


def _scale_backward(saved, dy):
    x, factor = saved
    dfactor, doffset = pixel_sums(_scale_terms, (x, dy), (), per_image=False)
    return (factor * dy).astype(x.dtype), dfactor, doffset


scale.defvjp(_scale_forward, _scale_backward)


@jax.custom_vjp
def scale_relu(x: jax.Array, factor: jax.Array, offset: jax.Array) -> jax.Array:
    """Returns ``relu(factor * x + offset)`` in the dtype of ``x``; arguments as :func:`scale`."""
    return nn.relu(factor * x + offset).astype(x.dtype)


def _scale_relu_forward(x, factor, offset):
    return scale_relu(x, factor, offset), (x, factor, offset)


def _scale_relu_backward(saved, dy):
    x, factor, offset = saved
    dfactor, doffset = pixel_sums(_scale_relu_terms, (x, dy), (factor, offset), per_image=False)
    return (factor * _opened(x, dy, factor, offset)).astype(x.dtype), dfactor, doffset


scale_relu.defvjp(_scale_relu_forward, _scale_relu_backward)


def add_relu(shortcut: jax.Array, residual: jax.Array) -> jax.Array:
    """Returns ``relu(shortcut + residual)``, both ``[B, H, W, C]``, to be stored in memory.

    The result is the shortcut of the next block. On a CPU, XLA computes a maximum again wherever it
    is used, with all that it can fuse before it. Each block would read the branches of all blocks
    before it in its stage, forward and backward. A selection of rows, which the dot of the next 1x1
    convolution uses as they are, is computed once.
    """
    rows = (-1, shortcut.shape[-1])
    total = shortcut.reshape(rows) + residual.reshape(rows)
    return jnp.where(total <= 0, 0, total).reshape(shortcut.shape)


@jax.custom_vjp
def scale_add_relu(
    x: jax.Array, factor: jax.Array, offset: jax.Array, shortcut: jax.Array
) -> jax.Array:
    """Returns ``relu(shortcut + factor * x + offset)``.

    Args:
        x: ``[B, H, W, C]``.
        factor: ``[B, C]``, at least float32.
        offset: ``[B, C]``, at least float32.
        shortcut: same shape and dtype as ``x``.
    """
    scaled = _over_pixels(factor) * x + _over_pixels(offset)
    return add_relu(shortcut, scaled).astype(x.dtype)


def _scale_add_relu_forward(x, factor, offset, shortcut):
    y = scale_add_relu(x, factor, offset, shortcut)
    return y, (x, factor, y)


def _scale_add_relu_backward(saved, dy):
    x, factor, y = saved
    dfactor, doffset = pixel_sums(_scale_add_relu_terms, (x, dy, y), (), per_image=True)
    dshortcut = jnp.where(y > 0, dy, 0)
    return (_over_pixels(factor) * dshortcut).astype(x.dtype), dfactor, doffset, dshortcut


scale_add_relu.defvjp(_scale_add_relu_forward, _scale_add_relu_backward)


def _powers(x):
    x = _exact(x)
    return x, x * x


def _scale_terms(x, dy):
    dy = _exact(dy)
    return dy * _exact(x), dy


def _scale_relu_terms(x, dy, factor, offset):
    dy = _opened(x, dy, factor, offset)
    return dy * _exact(x), dy


def _scale_add_relu_terms(x, dy, y):
    dy = _exact(jnp.where(y > 0, dy, jnp.zeros_like(dy)))
    return dy * _exact(x), dy


def _opened(x, dy, factor, offset):
    """The gradient before the ReLU, from the gradient after the ReLU."""
    return jnp.where(factor * _exact(x) + offset > 0, _exact(dy), 0.0)


def _exact(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _over_pixels(values: jax.Array) -> jax.Array:
    """``[B, C]`` to ``[B, 1, 1, C]``; ``[C]`` stays, for it broadcasts."""
    return values[:, None, None] if values.ndim == 2 else values
