"""Refuses a Python that does not fit before pip looks for packages. pyproject.toml has all else."""

import sys

from setuptools import setup

if not (3, 11) <= sys.version_info[:2] <= (3, 13):  # pip reports conflicting packages instead
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        f"se-resnet needs Python 3.11, 3.12 or 3.13, and this is Python {found}: make the "
        "environment with one of these, for example python3.12 -m venv .venv"
    )
setup()
