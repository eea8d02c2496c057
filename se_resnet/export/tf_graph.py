"""Converts a JAX function of images to native TensorFlow operations.

``jax.experimental.jax2tf`` wraps a whole function into one operation that only XLA can run. When
converters for mobile runtimes and ONNX unpack that operation, constants are repeated for every
image. So this module walks through the traced function instead. :mod:`se_resnet.export.tf_ops` has
a counterpart of each primitive that inference uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jax import export
from jax.extend import core

from se_resnet.export.tf_ops import OPERATIONS, Equation, full_shape, unsupported

# Primitives that hold a function, with the name of its parameter.
_CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def to_tensorflow(function: Callable, size: tuple[int, int]) -> Any:
    """Converts a JAX function of images to a TensorFlow function.

    Args:
        function: maps ``uint8 [B, H, W, 3]`` to a dict of arrays ``[B, ...]``, for any B.
        size: H and W.

    Returns:
        A ``tf.function`` of one argument, ``images``, that returns the same dict of tensors.

    Raises:
        UserError: the function uses a primitive without a counterpart.
    """
    shape = export.symbolic_shape(f"batch, {size[0]}, {size[1]}, 3")
    traced = jax.jit(function).trace(jax.ShapeDtypeStruct(shape, np.uint8))
    structure = jax.tree.structure(traced.out_info)

    @tf.function(
        input_signature=[tf.TensorSpec((None, *size, 3), tf.uint8, name="images")], autograph=False
    )
    def converted(images: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.shape(images)[0]
        jaxpr = traced.jaxpr.jaxpr
        results = _evaluate(jaxpr, traced.jaxpr.consts, [images], batch)
        return jax.tree.unflatten(
            structure,
            [
                full_shape(x, v.aval.shape, batch)
                for x, v in zip(results, jaxpr.outvars, strict=True)
            ],
        )

    return converted


def _evaluate(
    jaxpr: Any, consts: Sequence, arguments: Sequence[tf.Tensor], batch: tf.Tensor
) -> list[tf.Tensor]:
    values = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {v: _constant(c, c.dtype) for v, c in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> tf.Tensor:
        literal = isinstance(atom, core.Literal)
        return _constant(atom.val, atom.aval.dtype) if literal else values[atom]

    for traced in jaxpr.eqns:
        inputs = [read(atom) for atom in traced.invars]
        name = traced.primitive.name
        if name in _CALLS:
            inner = traced.params[_CALLS[name]]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs, batch)
        elif name in OPERATIONS:
            first: Any = traced.outvars[0].aval
            shapes = [atom.aval.shape for atom in traced.invars]
            equation = Equation(name, traced.params, shapes, first.shape, first.dtype, batch)
            # Values that depend on no image are computed now and enter the graph as constants.
            lengths = [n for shape in (*shapes, first.shape) for n in shape]
            known = all(hasattr(x, "numpy") for x in inputs)
            if known and all(isinstance(n, int) for n in lengths):
                with tf.init_scope():
                    result = OPERATIONS[name](equation, *inputs)
            else:
                inputs = [tf.constant(x.numpy()) if hasattr(x, "numpy") else x for x in inputs]
                result = OPERATIONS[name](equation, *inputs)
            outputs = result if isinstance(result, list) else [result]
        else:
            raise unsupported(name)
        values.update(zip(traced.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any, dtype: Any) -> tf.Tensor:
    with tf.init_scope():
        return tf.constant(np.asarray(value, dtype))
