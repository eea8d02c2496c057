"""The version of this project."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

_DISTRIBUTION = "se-resnet"
_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def read_version(pyproject: Path = _PYPROJECT) -> str:
    """Returns the version that ``pyproject.toml`` states.

    A clone is read directly, because the metadata of an editable installation keeps the version of
    the day it was installed. For an installed package, which has no
    ``pyproject.toml``, the metadata state the version.

    Args:
        pyproject: file of the clone; it need not exist.

    Returns:
        For example ``0.1.0``; ``unknown`` for a copy of the package alone.
    """
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        if project["name"] == _DISTRIBUTION:
            return str(project["version"])
    except (OSError, KeyError, TypeError, ValueError):
        pass  # no clone, or the folder of another project
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


__version__ = read_version()
