"""TensorFlow counterparts of JAX primitives, for inference on any number of images.

TensorFlow broadcasts dimensions of length 1 by itself. So a JAX broadcast keeps length 1 here, and
elementwise operations pass such values on. Operations that need the full shape call
:func:`full_shape`. Copies of biases and zeros for every pixel would cost as much as the layers that
use them. Values that depend on no image arrive as constants.
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

Shape = Sequence[Any]  # of numbers, or expressions of JAX that depend on the batch size


@dataclasses.dataclass(frozen=True)
class Equation:
    """A use of a primitive.

    Attributes:
        name: name of the primitive.
        params: parameters of the primitive.
        shapes: shapes of the inputs.
        shape: shape of the output.
        dtype: dtype of the output.
        batch: number of images, a scalar tensor.
    """

    name: str
    params: Mapping[str, Any]
    shapes: Sequence[Shape]
    shape: Shape
    dtype: tf.DType
    batch: tf.Tensor

    def require(self, supported: bool) -> None:
        """Raises a UserError for a use without a counterpart, unless ``supported``."""
        if not supported:
            raise unsupported(self.name)


def unsupported(name: str) -> UserError:
    """Returns the error for a primitive, or a use of a primitive, without a counterpart."""
    return UserError(
        f"the network uses the operation {name!r} in a form that this format cannot represent: use "
        "--format=stablehlo or --format=savedmodel, which can represent any network."
    )


def full_shape(x: tf.Tensor, shape: Shape, batch: tf.Tensor) -> tf.Tensor:
    """Broadcasts the dimensions of length 1 that are longer in JAX's ``shape``."""
    if all(actual != 1 or full == 1 for actual, full in zip(x.shape, shape, strict=True)):
        return x
    return tf.broadcast_to(x, [n if isinstance(n, int) else batch for n in shape])


def _elementwise(function: Callable) -> Callable:
    return lambda equation, *inputs: function(*inputs)


def _on_full_shapes(function: Callable) -> Callable:
    @functools.wraps(function)
    def operation(equation: Equation, *inputs: tf.Tensor) -> Any:
        shapes = zip(inputs, equation.shapes, strict=True)
        return function(equation, *(full_shape(x, shape, equation.batch) for x, shape in shapes))

    return operation


def _reshape(x: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Reshapes; at most one length may depend on the number of images."""
    return tf.reshape(x, [n if isinstance(n, int) else -1 for n in shape])


def _broadcast_in_dim(equation: Equation, x: tf.Tensor) -> tf.Tensor:
    shape: list[Any] = [1] * len(equation.shape)
    for length, axis in zip(x.shape, equation.params["broadcast_dimensions"], strict=True):
        shape[axis] = length
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
    equation.require(
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
    equation.require(
        len(x.shape) == 4
        and first == last == 1
        and {*params["base_dilation"], *params["window_dilation"]} == {1}
    )
    x, rule = _padded(x, window, strides, params["padding"][1:3], -math.inf)
    return tf.nn.max_pool2d(x, window, strides, rule)


def _padded(
    x: tf.Tensor, spans: Sequence[int], strides: Sequence[int], padding: Sequence, value: float
) -> tuple[tf.Tensor, str]:
    """Returns images and TensorFlow's padding rule, which together pad as JAX does.

    TensorFlow's rule ``SAME`` puts an odd pixel at the end. With a stride this differs from the
    symmetric padding that the weights were trained with.
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
    """Converts indexing: one slice, such as ``x[..., 0]``, or values at many positions."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes = tuple(numbers.start_index_map)
    others = [i for i in range(len(sizes)) if i not in axes]
    equation.require(
        (positions := tf.get_static_value(indices)) is not None
        and not numbers.operand_batching_dims
        and all(sizes[i] == equation.shapes[0][i] for i in others)
    )
    if len(indices.shape) == 1:
        starts = dict(zip(axes, positions.tolist(), strict=True))
        parts = [
            slice(starts[i], starts[i] + sizes[i]) if i in starts else slice(None)
            for i in range(len(sizes))
        ]
        return _reshape(x[tuple(parts)], equation.shape)
    equation.require(axes == tuple(numbers.collapsed_slice_dims))
    values = tf.gather_nd(tf.transpose(x, [*axes, *others]), indices)
    rank = len(equation.shape)
    batch_axes = [i for i in range(rank) if i not in numbers.offset_dims]
    return _transpose(values, np.argsort([*batch_axes, *numbers.offset_dims]).tolist())


def _pad(equation: Equation, x: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    config = equation.params["padding_config"]
    equation.require(all(min(low, high) >= 0 == between for low, high, between in config))
    return tf.pad(x, [(low, high) for low, high, _ in config], constant_values=value)


def _iota(equation: Equation) -> tf.Tensor:
    """Counts along one dimension; the others keep length 1."""
    axis = equation.params["dimension"]
    length = equation.shape[axis]
    equation.require(isinstance(length, int))
    shape = [length if i == axis else 1 for i in range(len(equation.shape))]
    return tf.constant(np.arange(length).reshape(shape), equation.dtype)


def _slice(equation: Equation, x: tf.Tensor) -> tf.Tensor:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or [1] * len(starts)
    ends = zip(limits, equation.shapes[0], strict=True)
    equation.require(all(isinstance(limit, int) or limit == length for limit, length in ends))
    # A limit that depends on the number of images is the end of the axis.
    return x[
        tuple(
            slice(start, limit if isinstance(limit, int) else None, step)
            for start, limit, step in zip(starts, limits, steps, strict=True)
        )
    ]


def _reduce(function: Callable) -> Callable:
    return _on_full_shapes(lambda equation, x: function(x, axis=list(equation.params["axes"])))


def _select(which: tf.Tensor, *cases: tf.Tensor) -> tf.Tensor:
    return tf.where(which, cases[1], cases[0])


def _maximum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Uses a ReLU where possible, because converters fuse it with the layer before."""
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
    "concatenate": _on_full_shapes(lambda e, *parts: tf.concat(parts, e.params["dimension"])),
    "conv_general_dilated": _on_full_shapes(_conv),
    "convert_element_type": lambda e, x: tf.cast(x, e.dtype),
    "dot_general": _on_full_shapes(_dot_general),
    "gather": _on_full_shapes(_gather),
    "integer_pow": lambda e, x: tf.pow(x, tf.cast(e.params["y"], x.dtype)),
    "iota": _iota,
    "pad": _on_full_shapes(_pad),
    "reduce_max": _reduce(tf.reduce_max),
    "reduce_min": _reduce(tf.reduce_min),
    "reduce_sum": _reduce(tf.reduce_sum),
    "reduce_window_max": _on_full_shapes(_max_pool),
    "reshape": _on_full_shapes(lambda e, x: _reshape(x, e.shape)),
    "rev": _on_full_shapes(lambda e, x: tf.reverse(x, e.params["dimensions"])),
    "slice": _on_full_shapes(_slice),
    "split": _on_full_shapes(lambda e, x: tf.split(x, e.params["sizes"], e.params["axis"])),
    "squeeze": _on_full_shapes(lambda e, x: _reshape(x, e.shape)),
    "stack": _on_full_shapes(lambda e, *parts: tf.stack(parts, e.params["axis"])),
    "transpose": _on_full_shapes(lambda e, x: tf.transpose(x, e.params["permutation"])),
}
