"""Registers, finds, creates and applies attention modules."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from se_resnet.attention.user_module import import_module_class
from se_resnet.errors import UserError

NONE = "none"
REGISTRY: dict[str, type[nn.Module]] = {}

Module = TypeVar("Module", bound=type[nn.Module])


def register(name: str) -> Callable[[Module], Module]:
    """Returns a class decorator that registers a Flax module for :func:`create` as ``name``.

    Raises:
        ValueError: ``name`` is taken.
    """
    if name == NONE or name in REGISTRY:
        raise ValueError(f"an attention module named {name!r} exists already")

    def add(module: Module) -> Module:
        REGISTRY[name] = module
        return module

    return add


def find(name: str) -> type[nn.Module] | None:
    """Returns the class of the attention module ``name``; None for ``'none'``.

    Args:
        name: a registered name, or ``'my_package.my_file:MyAttention'``, which is imported.

    Raises:
        UserError: the name is unknown.
    """
    if name == NONE:
        return None
    if name in REGISTRY:
        return REGISTRY[name]
    if ":" in name:
        return _require_complete(import_module_class(name), name)
    raise UserError(
        f"unknown attention module {name!r}: set config.model.attention to one of "
        f"{', '.join([NONE, *REGISTRY])}, or to 'my_package.my_file:MyAttention' for your own."
    )


def _require_complete(module: type[nn.Module], name: str) -> type[nn.Module]:
    """Returns the class, unless it lacks a computation.

    Raises:
        UserError: the class is a parent class that computes nothing.
    """
    computes = any("__call__" in vars(base) for base in module.__mro__ if base is not nn.Module)
    if not computes or getattr(module, "gates", None) is ChannelGate.gates:
        raise UserError(
            f"config.model.attention = {name!r} is a parent class that computes no attention: name "
            "a class that defines __call__, or gates if it is a ChannelGate."
        )
    return module


def require_trusted(name: str, source: str) -> None:
    """Refuses to import a user's module that only a file names: a file must not choose imports.

    Accepts a module that a configuration or a flag has named before, so that it is imported
    already.

    Args:
        name: name of the module in the file.
        source: name of the file, for the message.

    Raises:
        UserError: ``name`` would have to be imported.
    """
    if ":" in name and name.partition(":")[0] not in sys.modules:
        raise UserError(
            f"{source} was trained with the attention module {name!r}, which is code outside of "
            f"this project: if you trust it, name it yourself, by --attention={name} "
            "of the command, by config.model.attention, or as an argument of load_run."
        )


def create(name: str, /, **options: Any) -> nn.Module | None:
    """Creates the attention module ``name`` with ``options`` as its attributes.

    Args:
        name: see :func:`find`.
        options: ``config.model.attention_options``, and ``name`` for the name of the Flax module.

    Returns:
        The module, or None for the name ``'none'``, which takes no options.

    Raises:
        UserError: the name, an option or a value is unknown, or an option is missing.
    """
    module = find(name)
    fields = [] if module is None else [f for f in dataclasses.fields(module) if f.init]
    known = {"name", *(field.name for field in fields)}
    if unknown := sorted(set(options) - known):
        allowed = ", ".join(sorted(known - {"name", "parent"})) or "none"
        raise UserError(
            f"config.model.attention_options: attention module {name!r} has no option "
            f"{', '.join(unknown)}: it takes {allowed}."
        )
    for field in fields:
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in options:
            raise UserError(
                f"attention module {name!r} needs the option {field.name}: set "
                f"config.model.attention_options.{field.name}."
            )
    return None if module is None else module(**options)


class ChannelGate(nn.Module):
    """Attention that multiplies channels by gates, computed from the means of the channels only.

    A subclass defines :meth:`gates`. A network can then fuse the gates with the normalisation
    before.
    """

    def gates(self, means: jax.Array) -> jax.Array:
        """Maps the means of the channels over the pixels, ``[B, C]``, to gates ``[B, C]``."""
        raise NotImplementedError

    def __call__(self, features: jax.Array) -> jax.Array:
        """Scales the channels of ``features [B, H, W, C]``; returns the same shape and dtype."""
        gates = channel_gates(self, jnp.mean(features, axis=(1, 2)))
        return features * gates[:, None, None, :].astype(features.dtype)


def channel_gates(module: ChannelGate, means: jax.Array) -> jax.Array:
    """Returns the gates ``[B, C]`` of a module for the means of the channels ``[B, C]``.

    Raises:
        UserError: the gates have another shape.
    """
    return _checked(module, means, module.gates(means))


def attend(module: nn.Module, features: jax.Array) -> jax.Array:
    """Applies a module to features ``[B, H, W, C]``. The result has the same shape and dtype.

    The shape is checked while JAX traces the program, and costs nothing at run time.

    Raises:
        UserError: the module returned another shape.
    """
    return _checked(module, features, module(features)).astype(features.dtype)


def _checked(module: nn.Module, inputs: jax.Array, output: Any) -> jax.Array:
    shape = getattr(output, "shape", None)
    if shape != inputs.shape:
        result = f"a {type(output).__name__}" if shape is None else f"the shape {list(shape)}"
        name = f"{type(module).__module__}:{type(module).__name__}"
        raise UserError(
            f"attention module {name} made {result} of the shape {list(inputs.shape)}: it must "
            "return an array of the shape of its input."
        )
    return output
