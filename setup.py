"""Refuses a Python that is too old before pip looks for packages. pyproject.toml has all else."""

import sys

from setuptools import setup

if sys.version_info < (3, 11):  # noqa: UP036  pip reports conflicting packages instead
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        f"se-resnet needs Python 3.11 or newer, and this is Python {found}: make the environment "
        "with a newer one, for example python3.11 -m venv .venv"
    )
setup()
