"""Compares a JSON value with the form that its reader requires."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Between:
    """The form of a number from ``least`` to ``most``, inclusive; whole if the limits are."""

    least: float
    most: float


@dataclasses.dataclass(frozen=True)
class Maybe:
    """The form of a field that may be missing."""

    form: Any


def misfit(value: Any, wanted: Any, name: str = "") -> str:
    """Returns a description of the first difference between a value and a form.

    Args:
        value: a value that :func:`json.loads` can return.
        wanted: the form:

            * a type, None or a :class:`Between`. A ``float`` may be whole and must be finite. An
              ``int`` must fit into 64 bits.
            * a list: ``[form]`` for any number of such values, any other length for one value of
              each form.
            * a tuple of forms, one of which must fit.
            * a dictionary of the required fields with their forms. A field with a :class:`Maybe`
              may be missing. The key ``str`` holds the form of all other fields.
        name: name of the value, for the description.

    Returns:
        For example ``'split.0.images is None'``, or an empty string if the value fits.
    """
    if isinstance(wanted, tuple):
        problems = [misfit(value, form, name) for form in wanted]
        # The problem with the longest path comes from the form that nearly fits.
        return max(problems, key=lambda text: text.count(".")) if all(problems) else ""
    if isinstance(wanted, list) and isinstance(value, list):
        forms = wanted * len(value) if len(wanted) == 1 else wanted
        if len(forms) != len(value):
            return _difference(name, value, wanted)
        parts = [(str(i), *pair) for i, pair in enumerate(zip(value, forms, strict=True))]
    elif isinstance(wanted, dict) and isinstance(value, dict):
        for field, form in wanted.items():
            if field not in value and field is not str and not isinstance(form, Maybe):
                return f"it lacks {name and f'{name}.'}{field}"
        others = wanted.get(str, object)
        parts = [(field, part, wanted.get(field, others)) for field, part in value.items()]
    else:
        return "" if _is(value, wanted) else _difference(name, value, wanted)
    for field, part, form in parts:
        form = form.form if isinstance(form, Maybe) else form
        if problem := misfit(part, form, f"{name and f'{name}.'}{field[:60]}"):
            return problem
    return ""


def _is(value: Any, wanted: Any) -> bool:
    if wanted is None or wanted is object:
        return value is None or wanted is object
    if isinstance(wanted, Between):
        return _is(value, type(wanted.least)) and wanted.least <= value <= wanted.most
    if not isinstance(wanted, type):
        return False
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
    if wanted is float:
        return isinstance(value, (int, float)) and -1e300 < value < 1e300
    return isinstance(value, wanted) and (not isinstance(value, int) or abs(value) < 2**63)


def short(value: Any) -> str:
    """Returns the ``repr`` of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _difference(name: str, value: Any, wanted: Any) -> str:
    text = short(value)
    if isinstance(wanted, Between):
        text += f", not {wanted.least:,} to {wanted.most:,}"
    return f"{name or 'it'} is {text}"
