"""Renders Jinja templates from the folder ``templates/`` of a package, and writes the texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from se_resnet.runtime.files import atomic_write


def render(
    package: str,
    template: str,
    filters: Mapping[str, Callable[..., Any]],
    *,
    autoescape: bool = True,
    **values: Any,
) -> str:
    """Renders one template.

    Args:
        package: dotted name of the package that has the template.
        template: file name of the template.
        filters: functions by the names that the template uses.
        autoescape: whether values are escaped for HTML.
        values: variables of the template. A variable that the template uses and lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template).render(**values)


def write_text(path: str | Path, text: str) -> None:
    """Writes a page or another text atomically as UTF-8.

    A file name that is invalid UTF-8 contains surrogates, which are written as escapes.
    """
    with atomic_write(path, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))
