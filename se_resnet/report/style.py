"""How figures look: one palette, one style, and a panel as SVG in a page or as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart under every common colour blindness; line styles and hatching
# say the same in grey.
BLUE, VERMILLION, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#6B7280", "#1F2933"

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E5E7EB",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    # Text stays text: it can be searched, copied and enlarged.
    "svg.fonttype": "none",
    # The same evaluation gives the same file.
    "svg.hashsalt": "se-resnet",
}


def svg(
    name: str, description: str, draw: Callable[[Axes], None], size: tuple[float, float]
) -> Markup:
    """One panel as an SVG element that scales with the page.

    Args:
        name: of the figure, unique in the page; identifiers begin with it.
        description: for those who cannot see the figure; plain text.
        draw: draws the panel on its axes.
        size: width and height in inches.
    """
    text = _save(draw, size, format="svg", transparent=True, metadata={"Date": None}).decode()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    # Every figure has its figure_1 and axes_1, but an identifier must be unique in the page.
    body = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", body)
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
    """One panel as a PNG file, where no page can carry SVG; arguments as of :func:`svg`."""
    metadata = {"Title": name, "Description": description}
    return _save(draw, size, format="png", dpi=120, metadata=metadata)


def _save(draw: Callable[[Axes], None], size: tuple[float, float], **options: Any) -> bytes:
    # matplotlib takes a second to import, which whoever writes no report should not wait for.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, **options)
    return buffer.getvalue()
