"""Renders the pages of a report: layout, stylesheet and navigation over all sections."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from se_resnet.report.links import parent_slot
from se_resnet.report.theme import stylesheet
from se_resnet.runtime.templates import render

_HEADING = re.compile(r'<h2 id="([\w-]+)"(?: data-short="([^"]*)")?>(.*?)</h2>', re.DOTALL)


def render_page(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Renders a template that extends ``layout.html.j2``.

    Args:
        template: file name in ``templates/``.
        filters: functions by the names that the template uses.
        values: variables of the template. ``parent``, the address of the report that this report is
            a part of and its label, is optional.
    """
    parent = parent_slot(*values.pop("parent", None) or ("", ""))
    filters = {**filters, "sections": sections}
    return render(
        "se_resnet.report", template, filters, stylesheet=stylesheet(), parent=parent, **values
    )


def sections(content: str) -> list[dict[str, str]]:
    """Returns ``id`` and ``label`` of every section of a page, in order, for its navigation.

    >>> sections('<h2 id="use" data-short="Use">Meaning in use</h2> <h2 id="data">Data</h2>')
    [{'id': 'use', 'label': Markup('Use')}, {'id': 'data', 'label': Markup('Data')}]

    Args:
        content: HTML, whose sections have headings ``h2``. ``data-short`` is a shorter label.
    """
    return [
        {"id": name, "label": Markup(short or heading)}
        for name, short, heading in _HEADING.findall(str(content))
    ]
