"""Sums over the pixels of several terms in one pass: a kernel for NVIDIA GPUs, by Pallas.

XLA reduces the leading axes of an array of bfloat16 at a fraction of the bandwidth of a card. This
kernel reads each value once, in pieces of 16 bytes per thread, and keeps partial sums in registers.
Each program sums a part of the pixels for up to 128 channels; XLA adds the parts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

_CHANNELS = 128  # of a program, at most
_PIXELS = 32  # of one step of a program, at most
_PROGRAMS = 2048  # that divide the work: some for each multiprocessor of a large card


def applies(features: Sequence[jax.Array]) -> bool:
    """Returns whether the kernel takes these arrays ``[B, H, W, C]``.

    The sides of its tiles are powers of two, so C must be one, or a multiple of 128. Arrays must be
    at most float32.
    """
    channels = features[0].shape[-1]
    power = channels & (channels - 1) == 0 and channels >= 16
    return (power or channels % _CHANNELS == 0) and all(
        x.dtype in (jnp.bfloat16, jnp.float32) for x in features
    )


def pixel_sums(
    terms: Callable[..., tuple[jax.Array, ...]],
    features: Sequence[jax.Array],
    rows: Sequence[jax.Array],
    per_image: bool,
    interpret: bool = False,
) -> tuple[jax.Array, ...]:
    """Computes :func:`se_resnet.models.ops_fused.pixel_sums` by a kernel.

    Args:
        terms: an elementwise function ``(*features, *rows) -> terms``, float32.
        features: arrays ``[B, H, W, C]`` for which :func:`applies` is true.
        rows: arrays ``float32 [C]``.
        per_image: whether to sum over the pixels of each image or of all images.
        interpret: whether to run the kernel without a GPU, slowly, for tests.

    Returns:
        For each term ``float32 [B, C]`` if ``per_image``, else ``[C]``.
    """
    batch, height, width, channels = features[0].shape
    groups = batch if per_image else 1
    pixels = batch * height * width // groups
    tile = (min(_PIXELS, pl.next_power_of_2(pixels)), min(_CHANNELS, channels))
    columns = channels // tile[1]
    steps = pl.cdiv(pixels, tile[0])
    parts = max(1, min(steps, _PROGRAMS // (groups * columns)))
    steps = pl.cdiv(steps, parts)
    parts = pl.cdiv(pl.cdiv(pixels, tile[0]), steps)
    tiles = [jax.ShapeDtypeStruct(tile, x.dtype) for x in features]
    lines = [jax.ShapeDtypeStruct((1, tile[1]), x.dtype) for x in rows]
    shapes = jax.eval_shape(terms, *tiles, *lines)
    counts = (len(features), len(rows))
    kernel = functools.partial(_pixel_sums_kernel, terms, counts, tile, steps, pixels)
    partial = pl.pallas_call(
        kernel,
        grid=(columns, parts, groups),  # neighbours read the same pixels
        out_shape=[jax.ShapeDtypeStruct((groups, parts, channels), term.dtype) for term in shapes],
        in_specs=[pl.BlockSpec(memory_space=pl.ANY)] * (len(features) + len(rows)),
        out_specs=[pl.BlockSpec(memory_space=pl.ANY)] * len(shapes),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=3),
        interpret=interpret,
        name="pixel_sums",
    )(*(x.reshape(groups, pixels, channels) for x in features), *rows)
    sums = [part.sum(1) for part in partial]
    return tuple(sums if per_image else (total[0] for total in sums))


def _pixel_sums_kernel(terms, counts, tile, steps, pixels, *refs):
    features, rows = counts
    inputs, vectors = refs[:features], refs[features : features + rows]
    outputs = refs[features + rows :]
    column, part, group = (pl.program_id(axis) for axis in range(3))
    channels = pl.ds(column * tile[1], tile[1])
    lines = [triton.load(ref.at[channels])[None] for ref in vectors]

    def add(step, totals):
        start = (part * steps + step) * tile[0]
        inside = (start + lax.broadcasted_iota(jnp.int32, tile, 0)) < pixels
        values = [
            triton.load(ref.at[group, pl.ds(start, tile[0]), channels], mask=inside, other=0)
            for ref in inputs
        ]
        # Pixels beyond the last are 0, but a term may be another value there.
        return tuple(
            total + jnp.where(inside, term, 0)
            for total, term in zip(totals, terms(*values, *lines), strict=True)
        )

    start = tuple(jnp.zeros(tile, out.dtype) for out in outputs)
    for out, total in zip(outputs, lax.fori_loop(0, steps, add, start), strict=True):
        triton.store(out.at[group, part, channels], total.sum(0))
