"""Jinja templates of a package, from its folder ``templates/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


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
        filters: by the names that the template uses.
        autoescape: whether values are escaped for HTML.
        values: what the template may use; a name that it uses and does not get is an error.
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
