"""The networks whose mean logit is explained: one, or the members of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Variables = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def networks_of(variables: Variables) -> tuple[Mapping[str, Any], ...]:
    """Returns the variables of each network: of the only one, or of the members of an ensemble."""
    return (variables,) if isinstance(variables, Mapping) else tuple(variables)
