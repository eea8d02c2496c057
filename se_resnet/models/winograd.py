"""3x3 convolutions at stride 1 by Winograd's minimal filtering F(4x4, 3x3).

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks". A tile of 4x4 outputs
needs 36 multiplications for each pair of channels instead of 144. With the input tile ``d`` of 6x6
pixels and the kernel ``g`` of 3x3,

    y = A^T [(G g G^T) * (B^T d B)] A

The sum over channels turns the products ``*`` of all tiles into 36 matrix products. The map is
bilinear, so the gradient of the kernel is its transpose, ``G^T [(B^T d B) * (A dy A^T)] G``, summed
over tiles by 36 matrix products too. The gradient of the input is the convolution of ``dy`` with
the kernel turned by 180 degrees.

The matrices are kept as six arrays, one for each column of the 6x6 positions. XLA multiplies them
faster than the 36 matrices of one array.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.struct
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


@flax.struct.dataclass
class Kernel:
    """A kernel after the transformation ``G g G^T``.

    Attributes:
        columns: for each of six columns an array ``[6, C, K]``.
        transposed: whether the arrays are ``[6, K, C]``.
    """

    columns: Sequence[jax.Array]
    transposed: bool = flax.struct.field(pytree_node=False, default=False)


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
    return convolve_transformed(x, transform(kernel))


def transform_for(kernel: jax.Array, shape: tuple[int, ...]) -> Kernel:
    """Returns a transformed kernel for many batches of images of one size.

    Args:
        kernel: ``[3, 3, C, K]``.
        shape: shape of the images, ``(B, H, W, C)``. The result can be used for other sizes too.
    """
    # A product first copies its second factor to an order of its own. With a large kernel and few
    # tiles, copying the tiles takes less.
    return transform(kernel, transposed=64 * _tiles(shape) <= kernel.shape[-1])


@functools.partial(jax.jit, static_argnames="transposed")  # traced once for all layers of a shape
def transform(kernel: jax.Array, transposed: bool = False) -> Kernel:
    """Returns ``G g G^T`` of a kernel ``[3, 3, C, K]``."""
    if transposed:
        kernel = kernel.swapaxes(2, 3)
    size, _, *channels = kernel.shape
    rows = _stacked_sums(_G, list(kernel.reshape(size, size, -1)), 0)
    columns = _sums(_G, [rows[:, i] for i in range(size)])
    return Kernel([column.reshape(6, *channels) for column in columns], transposed)


@jax.jit
def convolve_transformed(x: jax.Array, kernel: Kernel) -> jax.Array:
    """Computes :func:`convolve` with a transformed kernel."""
    tiles = _input_tiles(x)
    if not kernel.transposed:
        return _join(_products(tiles, kernel.columns, (2, 1)), x.shape)
    # The barrier keeps XLA from changing the order of the factors again.
    products = lax.optimization_barrier(_products(kernel.columns, tiles, (2, 2)))
    return _join([product.swapaxes(1, 2) for product in products], x.shape)


def pays(shape: tuple[int, ...], channels: int) -> bool:
    """Returns whether the algorithm is faster than direct convolution, as measured.

    Args:
        shape: shape of the images, ``(B, H, W, C)``.
        channels: number of output channels, ``K``.
    """
    # The algorithm must save half of the multiplications: on few pixels a tile is mostly padding.
    saves = 8 * _tiles(shape) <= shape[1] * shape[2]
    return saves and min(shape[3], channels) >= MIN_CHANNELS


def pays_with_transform(shape: tuple[int, ...], channels: int) -> bool:
    """Returns the same as :func:`pays`, for a kernel that is transformed for this batch only."""
    return pays(shape, channels) and 16 * shape[0] * _tiles(shape) >= channels


def _tiles(shape: tuple[int, ...]) -> int:
    """Returns the number of tiles of an image."""
    return -(-shape[1] // TILE) * -(-shape[2] // TILE)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel), (x, kernel)


@jax.jit
def _backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    turned = transform(kernel[::-1, ::-1])
    dx = _join(_products(_input_tiles(dy), turned.columns, (2, 2)), x.shape)
    products = _products(_input_tiles(x), _output_tiles(dy), (1, 1))
    columns = _stacked_sums(_G.T, [product.reshape(6, -1) for product in products], 1)
    return dx, _stacked_sums(_G.T, list(columns), 0).reshape(kernel.shape)


convolve.defvjp(_forward, _backward)


def _input_tiles(x: jax.Array) -> list[jax.Array]:
    """Maps ``x [B, H, W, C]`` to ``B^T d B`` of its tiles: six columns ``[6, tiles, C]``."""
    return _split(_B.T, _pad(x, before=1, after=1))


def _output_tiles(dy: jax.Array) -> list[jax.Array]:
    """Maps ``dy [B, H, W, K]`` to ``A dy A^T`` of its tiles: six columns ``[6, tiles, K]``."""
    return _split(_A, _pad(dy, before=0, after=0))


def _pad(x: jax.Array, before: int, after: int) -> jax.Array:
    """Adds zeros around the images, and at their end up to whole tiles."""
    height, width = ((before, -size % TILE + after) for size in x.shape[1:3])
    return jnp.pad(x, ((0, 0), height, width, (0, 0)))


def _split(matrix: np.ndarray, x: jax.Array) -> list[jax.Array]:
    """Returns ``M d M^T`` of tiles that start every four pixels; ``M [6, size of a tile]``."""
    batch, height, width, channels = x.shape
    size = matrix.shape[1]

    def windows(x: jax.Array, axis: int) -> list[jax.Array]:
        stop = x.shape[axis] - size + 1
        return [lax.slice_in_dim(x, i, i + stop, TILE, axis) for i in range(size)]

    # Unused axes are merged: XLA compiles loops over fewer axes much faster. The images stay the
    # major part of their axis, so that XLA can divide it over devices.
    rows = _stacked_sums(matrix, windows(x.reshape(batch, height, width * channels), 1), 0)
    columns = _sums(matrix, windows(rows.reshape(6, -1, width, channels), 2))
    return lax.optimization_barrier([column.reshape(6, -1, channels) for column in columns])


def _join(columns: Sequence[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """Joins ``A^T m A`` of tiles, six columns ``[6, tiles, K]``, to images ``[B, H, W, K]``."""
    batch, rows = shape[0], -(-shape[1] // TILE)
    tiles = _stacked_sums(_A.T, columns, 2)
    tiles = _stacked_sums(_A.T, list(tiles.reshape(6, batch * rows, -1)), 1)
    whole = tiles.reshape(batch, rows * TILE, -1, columns[0].shape[-1])
    return whole[:, : shape[1], : shape[2]]


def _stacked_sums(matrix: np.ndarray, parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """Stacks the :func:`_sums` along ``axis``."""
    # The barrier keeps XLA from repeating the sums along one axis for each sum along the other.
    return lax.optimization_barrier(jnp.stack(_sums(matrix, parts), axis))


def _sums(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns ``sum_j matrix[i, j] * parts[j]`` of each row ``i``."""
    # Sums of whole arrays: a dot with such a small matrix would be several times slower.
    return [
        sum(weight * part for weight, part in zip(row.tolist(), parts, strict=True) if weight)
        for row in matrix
    ]


def _products(
    a: Sequence[jax.Array], b: Sequence[jax.Array], contracted: tuple[int, int]
) -> list[jax.Array]:
    """Returns the matrix products of the columns, contracted over one axis of each."""
    left, right = contracted
    return [
        lax.dot_general(x, y, (([left], [right]), ([0], [0]))) for x, y in zip(a, b, strict=True)
    ]
