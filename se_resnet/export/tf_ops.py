"""TensorFlow's counterparts of JAX primitives, for inference on an open number of images.

TensorFlow repeats dimensions of one by itself. So what JAX broadcasts keeps its dimensions of one
here, and elementwise operations hand them on, until an operation needs a value :func:`whole`:
copies of biases and zeros for every pixel would cost as much as the layers that use them.
What depends on no image arrives as a constant.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from se_resnet.errors import UserError

Shape = Sequence[Any]  # of JAX: a number, or an expression where it depends on the images


@dataclasses.dataclass(frozen=True)
class Equation:
    """One use of a primitive.

    Attributes:
        name: of the primitive.
        params: its parameters.
        shapes: of its inputs.
        shape: of its output.
        dtype: of its output.
        batch: how many images there are, a scalar tensor.
    """

    name: str
    params: Mapping[str, Any]
    shapes: Sequence[Shape]
    shape: Shape
    dtype: tf.DType
    batch: tf.Tensor

    def demand(self, supported: bool) -> None:
        """Raises the UserError about a use that has no counterpart, unless ``supported``."""
        if not supported:
            raise unsupported(self.name)


def unsupported(name: str) -> UserError:
    """The error about a primitive, or a use of one, that has no counterpart."""
    return UserError(
        f"the network computes {name!r} in a way that the export to this format does not know: use "
        "--format=stablehlo or --format=savedmodel, which take any network."
    )


def whole(x: tf.Tensor, shape: Shape, batch: tf.Tensor) -> tf.Tensor:
    """Repeats the dimensions of one that are longer in JAX's ``shape``."""
    if all(have != 1 or want == 1 for have, want in zip(x.shape, shape, strict=True)):
        return x
    return tf.broadcast_to(x, [n if isinstance(n, int) else batch for n in shape])


def _elementwise(function: Callable) -> Callable:
    return lambda equation, *inputs: function(*inputs)


def _on_whole(function: Callable) -> Callable:
    @functools.wraps(function)
    def operation(equation: Equation, *inputs: tf.Tensor) -> Any:
        shapes = zip(inputs, equation.shapes, strict=True)
        return function(equation, *(whole(x, shape, equation.batch) for x, shape in shapes))

    return operation


def _reshape(x: tf.Tensor, shape: Shape) -> tf.Tensor:
    """To a shape in which at most one length depends on the images."""
    return tf.reshape(x, [n if isinstance(n, int) else -1 for n in shape])


def _broadcast_in_dim(equation: Equation, x: tf.Tensor) -> tf.Tensor:
    shape: list[Any] = [1] * len(equation.shape)
    for length, place in zip(x.shape, equation.params["broadcast_dimensions"], strict=True):
        shape[place] = length
    return _reshape(x, shape)


def _dot_general(equation: Equation, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    (a_summed, b_summed), (a_batch, b_batch) = equation.params["dimension_numbers"]
    matrices = []
    for x, shape, summed, shared, last in (
        (a, equation.shapes[0], a_summed, a_batch, True),
        (b, equation.shapes[1], b_summed, b_batch, False),
    ):
        free = [i for i in range(len(shape)) if i not in (*summed, *shared)]
        order = [*shared, *free, *summed] if last else [*shared, *summed, *free]
        sides = [math.prod([shape[i] for i in dims]) for dims in (free, summed)]
        merged = [*(shape[i] for i in shared), *(sides if last else sides[::-1])]
        matrices.append(_reshape(_transpose(x, order), merged))
    return _reshape(tf.matmul(*matrices), equation.shape)


def _transpose(x: tf.Tensor, order: Sequence[int]) -> tf.Tensor:
    return x if list(order) == sorted(order) else tf.transpose(x, order)


def _conv(equation: Equation, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    params, names = equation.params, equation.params["dimension_numbers"]
    flat = len(x.shape) == 3  # along one axis: as one row of pixels
    equation.demand(
        len(x.shape) in (3, 4)
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and set(params["lhs_dilation"]) == {1}
    )
    batch, channels, *pixels = names.lhs_spec
    x = _transpose(x, [batch, *pixels, channels])
    outputs, inputs, *taps = names.rhs_spec
    kernel = _transpose(kernel, [*taps, inputs, outputs])
    strides, padding, dilations = (
        list(params[name]) for name in ("window_strides", "padding", "rhs_dilation")
    )
    if flat:
        x, kernel = tf.expand_dims(x, 1), tf.expand_dims(kernel, 0)
        strides, padding, dilations = [1, *strides], [(0, 0), *padding], [1, *dilations]
    spans = [(n - 1) * d + 1 for n, d in zip(kernel.shape[:2], dilations, strict=True)]
    x, rule = _padded(x, spans, strides, padding, 0)
    y = tf.nn.conv2d(x, kernel, strides, rule, dilations=dilations)
    y = tf.squeeze(y, 1) if flat else y
    batch, channels, *pixels = names.out_spec
    return _transpose(y, np.argsort([batch, *pixels, channels]).tolist())


def _max_pool(equation: Equation, x: tf.Tensor) -> tf.Tensor:
    params = equation.params
    (first, *window, last), (_, *strides, _) = (
        params[name] for name in ("window_dimensions", "window_strides")
    )
    equation.demand(
        len(x.shape) == 4
        and first == last == 1
        and {*params["base_dilation"], *params["window_dilation"]} == {1}
    )
    x, rule = _padded(x, window, strides, params["padding"][1:3], -math.inf)
    return tf.nn.max_pool2d(x, window, strides, rule)


def _padded(
    x: tf.Tensor, spans: Sequence[int], strides: Sequence[int], padding: Sequence, value: float
) -> tuple[tf.Tensor, str]:
    """The images and the name of TensorFlow's padding rule that together pad as JAX does.

    TensorFlow's own rule puts the odd pixel at the end and so differs, at a stride, from the
    padding on both sides alike that the weights were trained with.
    """
    same = []
    for length, span, stride in zip(x.shape[1:3], spans, strides, strict=True):
        total = max((-(-length // stride) - 1) * stride + span - length, 0)
        same.append((total // 2, total - total // 2))
    if [tuple(pair) for pair in padding] == same:
        return x, "SAME"
    if any(map(any, padding)):
        x = tf.pad(x, [(0, 0), *padding, (0, 0)], constant_values=value)
    return x, "VALID"


def _gather(equation: Equation, x: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """What indexing is traced to: one slice, such as ``x[..., 0]``, or values at many places."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes = tuple(numbers.start_index_map)
    others = [i for i in range(len(sizes)) if i not in axes]
    equation.demand(
        (places := tf.get_static_value(indices)) is not None
        and not numbers.operand_batching_dims
        and all(sizes[i] == equation.shapes[0][i] for i in others)
    )
    if len(indices.shape) == 1:
        starts = dict(zip(axes, places.tolist(), strict=True))
        parts = [
            slice(starts[i], starts[i] + sizes[i]) if i in starts else slice(None)
            for i in range(len(sizes))
        ]
        return _reshape(x[tuple(parts)], equation.shape)
    equation.demand(axes == tuple(numbers.collapsed_slice_dims))
    found = tf.gather_nd(tf.transpose(x, [*axes, *others]), indices)
    rank = len(equation.shape)
    own = [i for i in range(rank) if i not in numbers.offset_dims]
    return _transpose(found, np.argsort([*own, *numbers.offset_dims]).tolist())


def _pad(equation: Equation, x: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    config = equation.params["padding_config"]
    equation.demand(all(min(low, high) >= 0 == between for low, high, between in config))
    return tf.pad(x, [(low, high) for low, high, _ in config], constant_values=value)


def _iota(equation: Equation) -> tf.Tensor:
    """Counts along one dimension, of one in the others."""
    place, length = equation.params["dimension"], equation.shape[equation.params["dimension"]]
    equation.demand(isinstance(length, int))
    shape = [length if i == place else 1 for i in range(len(equation.shape))]
    return tf.constant(np.arange(length).reshape(shape), equation.dtype)


def _slice(equation: Equation, x: tf.Tensor) -> tf.Tensor:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or [1] * len(starts)
    ends = zip(limits, equation.shapes[0], strict=True)
    equation.demand(all(isinstance(limit, int) or limit == length for limit, length in ends))
    # A limit that depends on the images is the end.
    return x[
        tuple(
            slice(start, limit if isinstance(limit, int) else None, step)
            for start, limit, step in zip(starts, limits, steps, strict=True)
        )
    ]


def _reduce(function: Callable) -> Callable:
    return _on_whole(lambda equation, x: function(x, axis=list(equation.params["axes"])))


def _select(which: tf.Tensor, *cases: tf.Tensor) -> tf.Tensor:
    return tf.where(which, cases[1], cases[0])


def _maximum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Under its name a ReLU is fused with the layer before it."""
    value = tf.get_static_value(b)
    zero = value is not None and not np.any(value)
    return tf.nn.relu(a) if zero else tf.maximum(a, b)


_SIMPLE: dict[str, Callable] = {
    "abs": tf.abs,
    "add": tf.add,
    "add_any": tf.add,
    "and": tf.logical_and,
    "ceil": tf.math.ceil,
    "clamp": lambda low, x, high: tf.minimum(tf.maximum(x, low), high),
    "copy": tf.identity,
    "cos": tf.cos,
    "div": lambda a, b: tf.divide(a, b) if a.dtype.is_floating else tf.truncatediv(a, b),
    "eq": tf.equal,
    "erf": tf.math.erf,
    "exp": tf.exp,
    "expm1": tf.math.expm1,
    "floor": tf.floor,
    "ge": tf.greater_equal,
    "gt": tf.greater,
    "le": tf.less_equal,
    "log": tf.math.log,
    "log1p": tf.math.log1p,
    "logistic": tf.sigmoid,
    "lt": tf.less,
    "max": _maximum,
    "min": tf.minimum,
    "mul": tf.multiply,
    "ne": tf.not_equal,
    "neg": tf.negative,
    "not": tf.logical_not,
    "or": tf.logical_or,
    "pow": tf.pow,
    "rem": tf.truncatemod,
    "rsqrt": tf.math.rsqrt,
    "select_n": _select,
    "sign": tf.sign,
    "sin": tf.sin,
    "sqrt": tf.sqrt,
    "square": tf.square,
    "stop_gradient": tf.identity,
    "sub": tf.subtract,
    "tanh": tf.tanh,
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _elementwise(function) for name, function in _SIMPLE.items()},
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _on_whole(lambda e, *parts: tf.concat(parts, e.params["dimension"])),
    "conv_general_dilated": _on_whole(_conv),
    "convert_element_type": lambda e, x: tf.cast(x, e.dtype),
    "dot_general": _on_whole(_dot_general),
    "gather": _on_whole(_gather),
    "integer_pow": lambda e, x: tf.pow(x, tf.cast(e.params["y"], x.dtype)),
    "iota": _iota,
    "pad": _on_whole(_pad),
    "reduce_max": _reduce(tf.reduce_max),
    "reduce_min": _reduce(tf.reduce_min),
    "reduce_sum": _reduce(tf.reduce_sum),
    "reduce_window_max": _on_whole(_max_pool),
    "reshape": _on_whole(lambda e, x: _reshape(x, e.shape)),
    "rev": _on_whole(lambda e, x: tf.reverse(x, e.params["dimensions"])),
    "slice": _on_whole(_slice),
    "split": _on_whole(lambda e, x: tf.split(x, e.params["sizes"], e.params["axis"])),
    "squeeze": _on_whole(lambda e, x: _reshape(x, e.shape)),
    "stack": _on_whole(lambda e, *parts: tf.stack(parts, e.params["axis"])),
    "transpose": _on_whole(lambda e, x: tf.transpose(x, e.params["permutation"])),
}
