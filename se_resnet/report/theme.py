"""Colours and base rules of every HTML page of the project, for a light and a dark screen.

A page reads the colours as CSS custom properties: ``color: var(--ink)``. The browser chooses the
scheme by ``prefers-color-scheme``. Paper is always light.
"""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup

# For a light and for a dark screen. Text has a contrast of at least 4.5:1 on every background that
# it stands on (WCAG 2.2, criterion 1.4.3), and lines and marks of at least 3:1 (criterion 1.4.11).
COLOURS = {
    "page": ("#ffffff", "#12181f"),
    "panel": ("#f6f8fa", "#1b242d"),
    "ink": ("#1f2933", "#e4e7eb"),
    "soft": ("#52606d", "#a3aeba"),
    "line": ("#d9dee4", "#3a4653"),
    "control": ("#7b8794", "#8592a0"),
    "focus": ("#b87a00", "#e69f00"),
    "alarm": ("#a34700", "#ff9d5c"),
    "alarm-page": ("#fff6f0", "#2d1e14"),
    "right-page": ("#e1eff7", "#16303f"),
    "wrong-page": ("#fdebdf", "#41281a"),
    "on-blue": ("#ffffff", "#10151b"),
    # The palette of plots, of Okabe and Ito: distinguishable under every common colour blindness.
    "blue": ("#0072b2", "#6cb8e6"),
    "vermillion": ("#d55e00", "#ff8f45"),
    "green": ("#009e73", "#3ecfa3"),
    "grey": ("#6b7280", "#9ba6b2"),
    "grid": ("#e5e7eb", "#2c3742"),
}
_BASE = Path(__file__).parent / "templates" / "base.css"
PLOT_COLOURS = ("ink", "blue", "vermillion", "green", "grey", "grid")
_NAMES = {COLOURS[name][0]: name for name in PLOT_COLOURS}


def light(name: str) -> str:
    """Returns the colour of this name on a light screen, for example ``#0072b2``."""
    return COLOURS[name][0]


def stylesheet() -> Markup:
    """Returns the CSS that every page begins with: colours of both schemes, then base rules."""
    schemes = [
        " ".join(f"--{name}: {colours[dark]};" for name, colours in COLOURS.items())
        for dark in (0, 1)
    ]
    return Markup(
        f":root {{ color-scheme: light dark; {schemes[0]} }}\n"
        "@media screen and (prefers-color-scheme: dark) {\n"
        f"  :root {{ {schemes[1]} }}\n"
        "}\n"
    ) + Markup(_BASE.read_text(encoding="utf-8"))


def themed(svg: str) -> str:
    """Replaces colours of plots in the inline styles of an SVG element by properties of the page.

    >>> themed('<path style="fill: none; stroke: #0072b2"/>')
    '<path style="fill: none; stroke: var(--blue)"/>'

    A colour that is not one of :data:`PLOT_COLOURS` is left as it is.
    """

    def of_style(style: re.Match[str]) -> str:
        return re.sub(r"#[0-9a-fA-F]{6}\b", _property, style[0])

    return re.sub(r'style="[^"]*"', of_style, svg)


def _property(colour: re.Match[str]) -> str:
    name = _NAMES.get(colour[0].lower())
    return f"var(--{name})" if name else colour[0]
