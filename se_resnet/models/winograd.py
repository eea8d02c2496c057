"""3x3 convolutions at stride 1 by Winograd's minimal filtering F(4x4, 3x3).

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks". A tile of 4x4 outputs
needs 36 multiplications for each pair of channels instead of 144. With the input tile ``d`` of 6x6
pixels and the kernel ``g`` of 3x3,

    y = A^T [(G g G^T) * (B^T d B)] A

The sum over channels turns the products ``*`` of all tiles into 36 matrix products. The map is
bilinear, so the gradient of the kernel is its transpose, ``G^T [(B^T d B) * (A dy A^T)] G``, summed
over tiles by 36 matrix products too. The gradient of the input is the convolution of ``dy`` with
the kernel turned by 180 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.polynomial import polynomial

TILE = 4  # outputs of a tile along one axis
MIN_CHANNELS = 64  # with 32 channels it is only as fast as direct convolution
# Interpolation points, besides infinity. With the usual 0, +-1, +-2 the rounding errors are twice
# as large (see Barabasz et al. 2020, "Error analysis and improving the accuracy of Winograd
# convolution for deep neural networks"). Binary fractions make the entries of the matrices exact.
_POINTS = np.array([0, 0.75, -0.75, 1.5, -1.5])


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ``A [6, 4]``, ``B [6, 6]`` and ``G [6, 3]`` of the Toom-Cook algorithm."""
    others = [np.delete(_POINTS, i) for i in range(len(_POINTS))]
    at_infinity = [0] * len(_POINTS) + [1]
    a = np.vander(_POINTS, TILE, increasing=True)
    b = [[*polynomial.polyfromroots(roots), 0] for roots in others]
    g = np.vander(_POINTS, 3, increasing=True) / [
        [np.prod(point - roots)] for point, roots in zip(_POINTS, others, strict=True)
    ]
    return (
        np.vstack([a, at_infinity[-TILE:]]),
        np.array([*b, polynomial.polyfromroots(_POINTS)]).T,
        np.vstack([g, at_infinity[-3:]]),
    )


_A, _B, _G = _matrices()


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 1, padded by one zero on each side.

    Args:
        x: ``[B, H, W, C]``, of any size.
        kernel: ``[3, 3, C, K]``.

    Returns:
        ``[B, H, W, K]``. In float32 the error is about 1e-6 of the outputs' standard deviation,
        several times that of a sum of products.
    """
    return convolve_transformed(x, transform_kernel(kernel))


@jax.jit  # here and below: traced once for all layers of a shape
def transform_kernel(kernel: jax.Array) -> jax.Array:
    """Returns ``G g G^T [6, 6, C, K]`` of a kernel ``[3, 3, C, K]``."""
    return _both_axes(_G, kernel)


@jax.jit
def convolve_transformed(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """Computes :func:`convolve` with a kernel ``[6, 6, C, K]`` from :func:`transform_kernel`."""
    tiles = _input_tiles(x)
    return _join(_product(tiles, transformed, (2, 1)).reshape(*tiles.shape[:-1], -1), x.shape)


def pays(shape: tuple[int, ...], channels: int) -> bool:
    """Returns whether the algorithm is faster than direct convolution, as measured.

    Args:
        shape: shape of the images, ``(B, H, W, C)``.
        channels: number of output channels, ``K``.
    """
    tiles = -(-shape[1] // TILE) * -(-shape[2] // TILE)
    # The algorithm must save half of the multiplications: on few pixels a tile is mostly padding.
    return 8 * tiles <= shape[1] * shape[2] and min(shape[3], channels) >= MIN_CHANNELS


def pays_with_transform(shape: tuple[int, ...], channels: int) -> bool:
    """Returns the same as :func:`pays`, for a kernel that is transformed for this batch only."""
    tiles = -(-shape[1] // TILE) * -(-shape[2] // TILE)
    return pays(shape, channels) and 16 * shape[0] * tiles >= channels


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel), (x, kernel)


@jax.jit
def _backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    tiles = _input_tiles(dy)
    turned = transform_kernel(kernel[::-1, ::-1])
    dx = _join(_product(tiles, turned, (2, 2)).reshape(*tiles.shape[:-1], -1), x.shape)
    products = _product(_input_tiles(x), _output_tiles(dy), (1, 1))
    return dx, _both_axes(_G.T, products.reshape(6, 6, *products.shape[1:]))


convolve.defvjp(_forward, _backward)


def _input_tiles(x: jax.Array) -> jax.Array:
    """Maps ``x [B, H, W, C]`` to ``B^T d B`` of its tiles ``[6, 6, B, H/4, W/4, C]``."""
    return _split(_B.T, _pad(x, before=1, after=1))


def _output_tiles(dy: jax.Array) -> jax.Array:
    """Maps ``dy [B, H, W, K]`` to ``A dy A^T`` of its tiles ``[6, 6, B, H/4, W/4, K]``."""
    return _split(_A, _pad(dy, before=0, after=0))


def _pad(x: jax.Array, before: int, after: int) -> jax.Array:
    """Adds zeros around the images, and at their end up to whole tiles."""
    height, width = ((before, -size % TILE + after) for size in x.shape[1:3])
    return jnp.pad(x, ((0, 0), height, width, (0, 0)))


def _split(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """Returns ``M d M^T`` of tiles that start every four pixels; ``M [6, size of a tile]``."""
    batch, height, width, channels = x.shape
    size = matrix.shape[1]

    def windows(x: jax.Array, axis: int) -> list[jax.Array]:
        stop = x.shape[axis] - size + 1
        return [lax.slice_in_dim(x, i, i + stop, TILE, axis) for i in range(size)]

    # Unused axes are merged: XLA compiles loops over fewer axes much faster. The images stay the
    # major part of their axis, so that XLA can divide it over devices.
    x = _weighted_sums(matrix, windows(x.reshape(batch, height, width * channels), 1), 0)
    rows = x.shape[2]
    x = _weighted_sums(matrix, windows(x.reshape(6, batch * rows, width, channels), 2), 0)
    return x.reshape(6, 6, batch, rows, -1, channels)


def _join(tiles: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Joins ``A^T m A`` of tiles ``m [6, 6, B, H/4, W/4, K]`` to images ``[B, H, W, K]``."""
    _, _, batch, rows, columns, channels = tiles.shape
    tiles = _weighted_sums(_A.T, list(tiles.reshape(6, 6, -1, channels)), 2)
    tiles = _weighted_sums(_A.T, list(tiles.reshape(6, batch * rows, -1)), 1)
    whole = tiles.reshape(batch, rows * TILE, columns * TILE, channels)
    return whole[:, : shape[1], : shape[2]]


def _both_axes(matrix: np.ndarray, kernel: jax.Array) -> jax.Array:
    """Returns ``M g M^T`` for the first two axes of ``g [n, n, C, K]``."""
    n, _, *channels = kernel.shape
    columns = _weighted_sums(matrix, [kernel[:, i].reshape(n, -1) for i in range(n)], 0)
    rows = _weighted_sums(matrix, [columns[:, i] for i in range(n)], 1)
    return rows.reshape(*rows.shape[:2], *channels)


def _weighted_sums(matrix: np.ndarray, parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """Stacks ``sum_j matrix[i, j] * parts[j]`` of each row ``i`` along ``axis``."""
    # Sums of whole arrays: a dot with such a small matrix would be several times slower.
    sums = [
        sum(part * float(weight) for weight, part in zip(row, parts, strict=True) if weight)
        for row in matrix
    ]
    # The barrier keeps XLA from repeating the sums along one axis for each sum along the other.
    return lax.optimization_barrier(jnp.stack(sums, axis))


def _product(a: jax.Array, b: jax.Array, contracted: tuple[int, int]) -> jax.Array:
    """Returns the 36 matrix products of ``a [6, 6, ..., C]`` and ``b [6, 6, ..., K]``."""
    a, b = (t.reshape(t.shape[0] * t.shape[1], -1, t.shape[-1]) for t in (a, b))
    return lax.dot_general(a, b, (([contracted[0]], [contracted[1]]), ([0], [0])))
