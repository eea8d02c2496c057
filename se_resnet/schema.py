"""Whether a JSON value has the form that its reader counts on."""

from __future__ import annotations

from typing import Any


def misfit(value: Any, wanted: Any, name: str = "") -> str:
    """Where a value first differs from what is wanted.

    Args:
        value: as :func:`json.loads` makes them.
        wanted: a type; ``[wanted]`` for a list of such values; a dictionary of the fields that must
            be there, or ``{str: wanted}`` for any fields with such values. A ``float`` may be whole
            and must be finite, an ``int`` fits into 64 bits.
        name: of the value, for the answer.

    Returns:
        ``'split.0.images is None'``, or an empty string where the value fits.
    """
    if isinstance(wanted, list) and isinstance(value, list):
        parts = [(i, part, wanted[0]) for i, part in enumerate(value)]
    elif isinstance(wanted, dict) and isinstance(value, dict):
        if str in wanted:
            parts = [(field, part, wanted[str]) for field, part in value.items()]
        else:
            if missing := [field for field in wanted if field not in value]:
                return f"it lacks {name and f'{name}.'}{missing[0]}"
            parts = [(field, value[field], part) for field, part in wanted.items()]
    else:
        return "" if isinstance(wanted, type) and _is(value, wanted) else _told(name, value)
    for field, part, wanted_part in parts:
        if problem := misfit(part, wanted_part, f"{name and f'{name}.'}{field}"):
            return problem
    return ""


def _is(value: Any, wanted: type[Any]) -> bool:
    if wanted is object:
        return True
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
    if wanted is float:
        return isinstance(value, (int, float)) and -1e300 < value < 1e300
    return isinstance(value, wanted) and not (wanted is int and abs(value) >= 2**63)


def _told(name: str, value: Any) -> str:
    text = repr(value)
    return f"{name or 'it'} is {text if len(text) < 60 else text[:57] + '...'}"
