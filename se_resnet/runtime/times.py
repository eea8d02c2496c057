"""Times as text."""

from __future__ import annotations

import datetime


def duration(seconds: float) -> str:
    """Returns a time in its largest units.

    >>> duration(5.42), duration(59.9), duration(200), duration(8000)
    ('5.4 s', '60 s', '3 min 20 s', '2 h 13 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def now() -> str:
    """Returns the local time with its offset from UTC, for example 2026-01-31 15:04:05+01:00."""
    return datetime.datetime.now().astimezone().isoformat(" ", "seconds")
