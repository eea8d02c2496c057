"""Marks of tests and of some of their parameters."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

NEEDS_APP = [
    pytest.mark.app,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")),
        reason="the extra app is not installed",
    ),
]


def compiled(*values: Any) -> Any:
    """Returns parameters of a test that run with ``pytest -m compiled`` only."""
    return pytest.param(*values, marks=pytest.mark.compiled)


def fully_compiled(*values: Any) -> Any:
    """Returns parameters as :func:`compiled` does, for programs that XLA optimises."""
    marks = [pytest.mark.compiled, pytest.mark.full_optimisation]
    return pytest.param(*values, marks=marks)
