"""Full float32 in programs that predict, on every platform."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def full_float32(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Makes a function compute convolutions and products in full float32 where JAX traces it.

    By default a GPU multiplies float32 in TF32, with 10 bits of mantissa, and a TPU in bfloat16.
    Logits then differ from those of a CPU in the third digit. Every program that predicts or
    explains is therefore traced by this function; training keeps the fast default. Nothing changes
    on a CPU, nor for features in bfloat16.
    """

    @functools.wraps(function)
    def traced(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return traced
