"""Marks for some of a test's parameters."""

from __future__ import annotations

from typing import Any

import pytest


def compiled(*values: Any) -> Any:
    """Returns parameters of a test that run with ``pytest -m compiled`` only."""
    return pytest.param(*values, marks=pytest.mark.compiled)


def fully_compiled(*values: Any) -> Any:
    """Returns parameters as :func:`compiled` does, for programs that XLA optimises."""
    marks = [pytest.mark.compiled, pytest.mark.full_optimisation]
    return pytest.param(*values, marks=marks)
