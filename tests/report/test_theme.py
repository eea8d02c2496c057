"""The colours of all pages: contrast in both schemes, one source, no colour that stays light."""

from __future__ import annotations

import re

import pytest

from se_resnet.report import plots, style, theme
from tests.helpers import ROOT
from tests.helpers.reports import make_gates, make_predictions, write_full_report

# Colours of text, and of the lines and marks of plots, with the backgrounds that they stand on.
TEXT = [
    *((text, page) for text in ("ink", "soft", "blue", "alarm") for page in ("page", "panel")),
    *((text, page) for text in ("ink", "soft") for page in ("right-page", "wrong-page")),
    *((text, "alarm-page") for text in ("ink", "blue", "soft")),
    ("alarm", "right-page"),
    ("on-blue", "blue"),
]
MARKS = [
    *((mark, "page") for mark in ("vermillion", "green", "grey", "control", "focus")),
    ("vermillion", "alarm-page"),
    ("focus", "panel"),
]
HEX = re.compile(r"(?<![&\w-])#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")


def schemes():
    """The custom properties by scheme, as a browser finds them."""
    css = str(theme.stylesheet())
    light, dark = re.findall(r":root \{(.*?)\}", css)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) for text in (light, dark)]
    assert css.index("@media screen and (prefers-color-scheme: dark)") < css.index(dark)
    return dict(zip(("light", "dark"), found, strict=True))


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_is_that_of_the_definition():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("pairs", "least"), [(TEXT, 4.5), (MARKS, 3.0)], ids=["text", "lines and marks"]
)
def test_everything_can_be_read(scheme, pairs, least):
    colours = schemes()[scheme]
    found = {f"{a} on {b}": contrast(colours[a], colours[b]) for a, b in pairs}
    assert {name: value for name, value in found.items() if value < least} == {}


def test_both_schemes_have_every_colour():
    assert {*schemes()["light"]} == {*schemes()["dark"]} == {*theme.COLOURS}
    light = [theme.light(name) for name in theme.PLOT_COLOURS]
    assert len({*light}) == len(light), "a plot could not be brought to the other scheme"


def test_no_stylesheet_has_a_colour_of_its_own():
    templates = [
        path
        for path in (ROOT / "se_resnet").rglob("templates/*")
        if path.suffix in (".css", ".js", ".j2") and path.name != "flow.svg.j2"
    ]
    assert len(templates) > 10
    found = {path.name: HEX.findall(path.read_text()) for path in templates}
    used = {*re.findall(r"var\(--([\w-]+)", " ".join(path.read_text() for path in templates))}
    assert {name: colours for name, colours in found.items() if colours} == {}
    assert used - {*theme.COLOURS} == {"threshold"}  # a position, not a colour


def test_every_plot_of_a_report_follows_the_scheme(tmp_path):
    write_full_report(tmp_path / "report.html", make_predictions())
    html = (tmp_path / "report.html").read_text()
    plots = re.findall(r'<svg xmlns="http.*?</svg>', html, re.S)
    assert len(plots) == 8
    for plot in plots:
        assert "var(--ink)" in plot
        for attribute in re.findall(r'(?:style|fill|stroke)="([^"]*)"', plot):
            assert not HEX.search(attribute) and "black" not in attribute, attribute


def test_another_colour_is_left_as_it_is():
    plot = style.svg("a", "b", lambda axes: axes.plot([0, 1], color="#abcdef"), (3, 3))
    assert "stroke: #abcdef" in plot


def test_gates_of_one_class_have_one_legend_in_the_colours_of_the_theme():
    rows = [row for row in make_gates()["blocks"] if row["class"] == "malignant"]
    plot = plots.gates(rows)
    assert "malignant" in plot and "benign" not in plot
    assert not HEX.search("".join(re.findall(r'style="([^"]*)"', plot)))


def test_a_picture_for_trackers_keeps_its_colours():
    png = style.png("a", "b", lambda axes: axes.plot([0, 1], color=style.BLUE), (3, 3))
    assert png.startswith(b"\x89PNG") and style.BLUE == "#0072b2"
