"""Makes the numbers of a dataclass arguments of a compiled program.

Trainings that differ only in such numbers share one program: the folds of a cross-validation, seeds
and learning rates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

_Class = TypeVar("_Class", bound=type)
_registered: set[type] = set()


def register(
    arguments: Sequence[str] = (), switches: Sequence[str] = (), unused: Sequence[str] = ()
) -> Callable[[_Class], _Class]:
    """Registers a frozen dataclass as a pytree whose numbers are leaves.

    A value that is a registered dataclass is a subtree. All other values are part of the structure
    and must be hashable: another value is another program.

    Args:
        arguments: names of fields whose values are leaves. Whole numbers become ``uint32``.
        switches: names of fields whose values are leaves unless they are 0. A 0 is part of the
            structure, so that the program leaves out what is switched off (:func:`is_on`).
        unused: names of fields with defaults that the program does not read. There they have their
            default.
    """

    def decorate(cls: _Class) -> _Class:
        names = [field.name for field in dataclasses.fields(cls) if field.name not in unused]

        def is_leaf(name: str, value: Any) -> bool:
            return name in arguments or (name in switches and is_on(value)) or _is_registered(value)

        def flatten(instance: Any) -> tuple[list[Any], Hashable]:
            values = [(name, getattr(instance, name)) for name in names]
            leaves = [(name, value) for name, value in values if is_leaf(name, value)]
            static = tuple((name, value) for name, value in values if not is_leaf(name, value))
            children = [np.uint32(value) if type(value) is int else value for _, value in leaves]
            return children, (tuple(name for name, _ in leaves), static)

        def unflatten(structure: Any, children: Sequence[Any]) -> Any:
            leaf_names, static = structure
            instance: Any = object.__new__(cls)  # no check of a value that a program does not know
            for name, value in (*zip(leaf_names, children, strict=True), *static):
                object.__setattr__(instance, name, value)
            return instance

        jax.tree_util.register_pytree_node(cls, flatten, unflatten)
        _registered.add(cls)
        return cls

    return decorate


def is_on(value: Any) -> bool:
    """Returns whether a switch is on: a number other than 0, or an argument of a program."""
    return not isinstance(value, int | float) or bool(value)


def _is_registered(value: Any) -> bool:
    return type(value) in _registered
