"""Numbers and lists as text, for the tables and the methods section."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from se_resnet.metrics.labels import CLASS_NAMES

ABSENT = "not recorded by the version that trained this run"
UNEVALUATED = "not recorded by the version that evaluated this run"


def plural(number: int, one: str, many: str = "") -> str:
    """Returns a number and its noun.

    >>> plural(1, "image"), plural(1200, "image"), plural(2, "copy", "copies")
    ('1 image', '1,200 images', '2 copies')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def listing(parts: Iterable[object], last: str = "and") -> str:
    """Joins words as a sentence does.

    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    words = [str(part) for part in parts]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def span(numbers: Iterable[int]) -> str:
    """Returns the smallest and the largest number, or the only number.

    >>> span([3, 5, 4]), span([3, 3])
    ('3 to 5', '3')
    """
    values = sorted(set(numbers))
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def per_cent(share: object) -> str:
    """Returns a share as a percentage; a value that is no number is returned as text.

    >>> per_cent(0.05), per_cent("x")
    ('5 %', 'x')
    """
    return f"{100 * share:g} %" if isinstance(share, int | float) else str(share)


def recorded(value: object) -> str:
    """Returns a value as text, or the sentence that it was not recorded for None."""
    return ABSENT if value is None else str(value)


def sentence(text: str) -> str:
    """Returns a text that begins with a capital letter and ends with a full stop."""
    text = text.strip()
    return text and text[0].upper() + text[1:].rstrip(".") + "."


def interval_text(estimate: Mapping[str, Any] | float | None) -> str:
    """Returns an estimate of ``metrics.json`` as text.

    Args:
        estimate: ``value``, ``low``, ``high`` and ``reason``, with ``remark``, ``patients`` and
            ``effective_patients`` where the version recorded them; or a plain number, or None.
    """
    if estimate is None:
        return UNEVALUATED
    if not isinstance(estimate, Mapping):
        return f"{estimate:.3f}"
    reason = estimate.get("reason")
    if estimate["value"] is None:
        return f"undefined ({reason})"
    details = [
        f"no interval: {reason}"
        if estimate["low"] is None
        else f"95 % interval {estimate['low']:.3f} to {estimate['high']:.3f}"
    ]
    reference = estimate.get("reference")
    if isinstance(reference, Mapping):
        median, high = reference.get("median"), reference.get("high")
        if isinstance(median, int | float) and isinstance(high, int | float):
            details.append(f"a calibrated model: median {median:.3f}, 95 % below {high:.3f}")
    if estimate.get("remark"):
        details.append(str(estimate["remark"]))
    if patients := patients_text(estimate):
        details.append(patients)
    return f"{estimate['value']:.3f} ({'; '.join(details)})"


def patients_text(estimate: Mapping[str, Any]) -> str:
    """Returns the patients that an interval rests on, or an empty text for older versions."""
    patients, effective = estimate.get("patients"), estimate.get("effective_patients")
    noun = "patient"
    if isinstance(patients, Mapping):
        present = [name for name in CLASS_NAMES if patients.get(name)]
        parts = [f"{patients[name]} {name}" for name in present]
        noun = f"{present[0]} patient" if len(present) == 1 else noun
        classes = f" ({', '.join(parts)})" if len(present) > 1 else ""
        patients = patients.get("all")
    else:
        classes = ""
    if not isinstance(patients, int):
        return ""
    text = plural(patients, noun) + classes
    number = effective.get("all") if isinstance(effective, Mapping) else effective
    return text + (f", effectively {number:.1f}" if isinstance(number, int | float) else "")
