"""The operations of a ResNet in a form that XLA compiles to faster code for a CPU.

Each function gives the result of the function of the same name in
:mod:`se_resnet.models.ops_plain`, up to rounding:

* A 1x1 convolution is a dot over the channels; with a stride, a dot over the pixels that remain.
  Written as a convolution, its weight gradient takes XLA two to three times as long. The gradients
  are written out too. With the gradient that JAX derives, XLA computes the gradient of the output
  again in transposed order, value by value, which took two fifths of a whole step.
* A 3x3 convolution at stride 1 uses Winograd's algorithm, see :mod:`se_resnet.models.winograd`.
* The weight gradient of any other convolution with a stride is one dot over all pixels for each row
  of the kernel. XLA computes it as a convolution whose kernel is the gradient of the output, with
  gaps. For the 7x7 convolution of the stem that takes four times as long, a tenth of a whole step.
* The maximum over windows is a chain of elementwise maxima of slices. The gradient of a windowed
  reduction is a select-and-scatter, which runs on one core, element by element.

The end of a residual block is :func:`se_resnet.models.ops_fused.scale_add_relu` or ``add_relu``, as
on a GPU.

On a GPU cuDNN chooses its algorithms, and the plain operations are the better choice.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from se_resnet.models import ops_plain, winograd


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """See :func:`se_resnet.models.ops_plain.convolve`."""
    if len(kernel) == 1:
        return _dot(x[:, ::stride, ::stride, :], kernel[0, 0])
    if winograd_applies(x, kernel, stride) and winograd.pays_with_transform(
        x.shape, kernel.shape[-1]
    ):
        return winograd.convolve(x, kernel)
    if stride > 1:
        return _strided(x, kernel, stride)
    return ops_plain.convolve(x, kernel, stride)


@jax.custom_vjp
def _dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies ``[B, H, W, C]`` by ``[C, K]``."""
    return jnp.dot(x, kernel)


def _dot_forward(x, kernel):
    return _dot(x, kernel), (x, kernel)


def _dot_backward(saved, dy):
    x, kernel = saved
    dy = lax.optimization_barrier(dy)  # computed once, in the order of the pixels
    pixels, gradients = (t.reshape(-1, t.shape[-1]) for t in (x, dy))
    return jnp.dot(dy, kernel.T), lax.dot_general(pixels, gradients, (((0,), (0,)), ((), ())))


_dot.defvjp(_dot_forward, _dot_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _strided(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return ops_plain.convolve(x, kernel, stride)


def _strided_forward(x, kernel, stride):
    return _strided(x, kernel, stride), (x, kernel)


def _strided_backward(stride, saved, dy):
    x, kernel = saved
    _, gradient_of_input = jax.vjp(lambda x: ops_plain.convolve(x, kernel, stride), x)
    return *gradient_of_input(dy), _kernel_gradient(x, dy, len(kernel), stride)


_strided.defvjp(_strided_forward, _strided_backward)


def _kernel_gradient(x: jax.Array, dy: jax.Array, size: int, stride: int) -> jax.Array:
    """Returns the gradient ``[size, size, C, K]`` of a kernel; ``dy [B, H, W, K]``."""
    _, height, width, outputs = dy.shape
    border = (size // 2, size // 2)
    padded = jnp.pad(x, ((0, 0), border, border, (0, 0)))

    def at_stride(values: jax.Array, start: int, count: int, axis: int) -> jax.Array:
        stop = start + stride * (count - 1) + 1
        return lax.slice_in_dim(values, start, stop, stride, axis)

    # For each output column, the columns of the input that a row of the kernel meets.
    windows = jnp.concatenate([at_stride(padded, j, width, axis=2) for j in range(size)], axis=-1)
    windows = lax.optimization_barrier(windows)
    gradients = dy.reshape(-1, outputs)
    rows = [at_stride(windows, i, height, axis=1) for i in range(size)]
    products = [
        lax.dot_general(row.reshape(-1, row.shape[-1]), gradients, (((0,), (0,)), ((), ())))
        for row in rows
    ]
    return jnp.stack(products).reshape(size, size, x.shape[-1], outputs)


def winograd_applies(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Returns whether Winograd's algorithm is faster for this convolution, given its kernel.

    Excludes bfloat16, in which the rounding errors would change the logits.
    """
    possible = len(kernel) == 3 and stride == 1 and x.dtype != jnp.bfloat16
    return possible and winograd.pays(x.shape, kernel.shape[-1])


def max_pool(x: jax.Array) -> jax.Array:
    """See :func:`se_resnet.models.ops_plain.max_pool`."""
    # Along the width first. The gradient then goes to the first maximum of the window, row by row.
    for axis in (2, 1):
        border = [(0, 0)] * x.ndim
        border[axis] = (1, 1)
        padded = jnp.pad(x, border, constant_values=-jnp.inf)
        stop = padded.shape[axis] - 2
        first, second, third = (
            lax.slice_in_dim(padded, start, start + stop, 2, axis) for start in range(3)
        )
        x = _first_maximum(_first_maximum(first, second), third)
    return x


def _first_maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the maximum or NaN. Where both are equal, the gradient goes to ``a`` only."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
