"""Style of all plots, and rendering to SVG for a page or to PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from se_resnet.report.theme import light, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Line styles and hatching make the plots readable in grey as well.
BLUE, VERMILLION, GREEN, GREY, INK = map(light, ("blue", "vermillion", "green", "grey", "ink"))

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": light("grid"),
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    # Text stays text, which can be searched, copied and enlarged.
    "svg.fonttype": "none",
    # Fixed identifiers: the same evaluation gives the same file.
    "svg.hashsalt": "se-resnet",
}


def svg(
    name: str, description: str, draw: Callable[[Axes], None], size: tuple[float, float]
) -> Markup:
    """Renders a plot as an SVG element that scales with the page and follows its colour scheme.

    Args:
        name: name of the plot, unique in the page; the prefix of all identifiers.
        description: alternative text of the plot, as plain text.
        draw: draws the plot on its axes.
        size: width and height in inches.
    """
    text = _save(draw, size, format="svg", transparent=True, metadata={"Date": None}).decode()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    # matplotlib reuses identifiers such as figure_1, but they must be unique in the page.
    body = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", body)
    body = themed(body)
    width, height = 72 * size[0], 72 * size[1]
    label = Markup.escape(description)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{body}"
    )


def png(
    name: str, description: str, draw: Callable[[Axes], None], size: tuple[float, float]
) -> bytes:
    """Renders a plot as a PNG file, for trackers; takes the arguments of :func:`svg`."""
    metadata = {"Title": name, "Description": description}
    return _save(draw, size, format="png", dpi=120, metadata=metadata)


def _save(draw: Callable[[Axes], None], size: tuple[float, float], **options: Any) -> bytes:
    # matplotlib takes a second to import, which only a report or a tracker should cost.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, **options)
    return buffer.getvalue()
