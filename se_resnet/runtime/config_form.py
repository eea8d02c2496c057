"""Compares a configuration with the full configuration: the names and types of all fields."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from se_resnet.errors import UserError, with_items
from se_resnet.runtime.schema import short

# What a field of a type must be given.
WANTED: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "numbers in brackets, whole where the defaults are, for example (100, 200)",
}


def conformed(config: Any, full: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a configuration with exactly the fields and types of the full one.

    A whole number is accepted for a float, a list for a tuple, and a number of NumPy for a number
    of Python. A sequence holds numbers like those of the full configuration, or any numbers where
    that sequence is empty. A section that is empty in the full configuration takes any fields.

    Args:
        config: a ConfigDict or any other mapping.
        full: all fields with values of their types; not changed.

    Returns:
        A new configuration, not locked, with the fields in the order of ``full``.

    Raises:
        UserError: a field or section is unknown or missing, or a value has another type. The
            message names all of them, and for an unknown name the field that was probably meant.
    """
    fields = _plain(config)
    if not isinstance(fields, dict):
        raise UserError(
            f"the configuration is {short(config)}: give a ConfigDict with all fields, such as "
            "get_config() of configs/breakhis.py returns."
        )
    known = field_values(full)
    problems: list[str] = []
    missing: list[str] = []
    conforming = _section(fields, _plain(full), "", known, problems, missing)
    if missing:
        others = f" and {len(missing) - 3} others are" if len(missing) > 3 else ""
        problems.append(
            f"{', '.join(f'config.{name}' for name in missing[:3])}"
            f"{others or (' are' if len(missing) > 1 else ' is')} missing: begin with the "
            "configuration of configs/breakhis.py, which has all fields, and change its fields"
        )
    if len(problems) == 1:
        raise UserError(f"{problems[0]}.")
    if problems:
        raise UserError(with_items(f"{len(problems)} fields cannot be used:", problems))
    return ConfigDict(conforming)


def converted(value: Any, example: Any) -> Any:
    """Returns a value as the type of an example, see :func:`conformed`.

    Raises:
        ValueError: the value has another type.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(example, tuple):
        if isinstance(value, (list, tuple)):
            return tuple(_number(item, example) for item in value)
    elif isinstance(value, bool) or isinstance(example, bool):
        if isinstance(value, bool) and isinstance(example, bool):
            return value
    elif isinstance(example, float) and isinstance(value, int):
        return float(value) if abs(value) < 1e300 else value * float("inf")
    elif isinstance(value, type(example)):
        return value
    raise ValueError


def _number(item: Any, example: tuple) -> int | float:
    """Returns an item of a sequence: a number like the first of a sequence that is not empty."""
    if example:
        return converted(item, example[0])
    return converted(item, 0.0 if isinstance(item, float) else 0)


def hint(name: str, names: Iterable[str], prefix: str = "config.") -> str:
    """Returns a question for the field that an unknown name probably means, or an empty string.

    A name resembles a field that ends with the same word, whose initials it has, or whose letters
    are nearly the same.

    Args:
        name: such as ``optim.lr``.
        names: of all fields and sections.
        prefix: what the message writes before the field.

    >>> hint("optim.lr", ["epochs", "optim", "optim.learning_rate"])
    'did you mean config.optim.learning_rate?'
    """
    section, _, leaf = name.rpartition(".")
    leaves = {known: known.rpartition(".")[2] for known in names}
    same = [known for known, last in leaves.items() if last == leaf]
    initials = [
        known for known, last in leaves.items() if "".join(w[:1] for w in last.split("_")) == leaf
    ]
    inside = [last for known, last in leaves.items() if known.rpartition(".")[0] == section]
    alike = difflib.get_close_matches(leaf, inside, 1, 0.6)
    elsewhere = difflib.get_close_matches(leaf, leaves.values(), 1, 0.7)
    prefixed = f"{section}." if section else ""
    found = [
        *same,
        *(initials if len(leaf) > 1 else []),
        *(f"{prefixed}{last}" for last in alike),
        *(known for known, last in leaves.items() if last in elsewhere),
    ]
    return f"did you mean {prefix}{found[0]}?" if found else ""


def field_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all sections and fields by name, such as ``optim`` and ``optim.rules``."""
    return dict(_flat(_plain(config)))


def _section(
    fields: dict[str, Any],
    full: dict[str, Any],
    prefix: str,
    known: Mapping[str, Any],
    problems: list[str],
    missing: list[str],
) -> dict[str, Any]:
    """Returns the conforming fields of a section; adds to ``problems`` and ``missing``."""
    for field in fields:
        if field not in full:
            name = f"{prefix}{field}"
            question = hint(name, known) or "python train.py --help lists the fields"
            problems.append(f"config.{name} is no field of the configuration: {question}")
    conforming: dict[str, Any] = {}
    for field, example in full.items():
        name = f"{prefix}{field}"
        if field not in fields:
            missing.append(name)
            continue
        value = fields[field]
        if isinstance(example, dict) and isinstance(value, dict):
            free = not example
            inner = (value, example, f"{name}.", known, problems, missing)
            conforming[field] = value if free else _section(*inner)
            continue
        try:
            if isinstance(example, dict):
                raise ValueError
            conforming[field] = converted(value, example)
        except ValueError:
            problems.append(f"config.{name} = {short(value)} {_difference(value, example)}")
    return conforming


def _difference(value: Any, example: Any) -> str:
    if isinstance(example, dict):
        return f"replaces a section: set its fields, such as {', '.join(list(example)[:3])}"
    wanted = WANTED[type(example)]
    if isinstance(example, str) and isinstance(value, (int, float)):
        wanted += f", {str(value)!r}"
    return f"has another type than the field: give {wanted}"


def _plain(config: Any) -> Any:
    """Returns nested dictionaries without references to other fields."""
    if isinstance(config, ConfigDict):
        config = config.copy_and_resolve_references()
        return {name: _plain(config[name]) for name in config}
    if isinstance(config, Mapping):
        return {str(name): _plain(value) for name, value in config.items()}
    return config


def _flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field, value in fields.items():
        yield f"{prefix}{field}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{field}.")
