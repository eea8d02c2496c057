"""Expands the paths that a user gives, and names the folder of sample images."""

from __future__ import annotations

import os
import re
from pathlib import Path

from se_resnet.errors import UserError

# Images that ship with the project, for config.data.dir = 'sample'. An installation may lack them.
SAMPLE_FOLDER = Path(__file__).parents[2] / "data" / "sample"

_REMOTE = re.compile(r"[A-Za-z][\w+.-]+:/")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")


def local_path(text: str | os.PathLike[str], name: str = "the path") -> str:
    """Returns a path with ``~`` and environment variables expanded.

    A path that exists as written is returned unchanged.

    Args:
        text: the path as the user wrote it.
        name: name of the flag or field, for messages.

    Raises:
        UserError: the path is empty, is the address of a remote store, or names an unknown user or
            variable.

    >>> local_path("runs/quickstart")
    'runs/quickstart'
    """
    path = os.fspath(text)
    if not path:
        raise UserError(f"{name} is empty: write it in full, or . for this folder.")
    if "\0" in path or os.path.lexists(path):
        return path
    if _REMOTE.match(path):
        raise UserError(
            f"{name} {path} is an address, and only local folders and files can be used: mount "
            "the store, or copy the files to this machine."
        )
    for match in _VARIABLE.finditer(path):
        if (match[1] or match[2]) not in os.environ:
            raise UserError(
                f"{name} {path} names the environment variable {match[0]}, which is not set: set "
                "it, or write the path in full."
            )
    expanded = os.path.expanduser(os.path.expandvars(path))
    if expanded.startswith("~"):
        raise UserError(
            f"{name} {path} names the home folder of an unknown user: write the path in "
            "full, or ./~ for a folder of this name."
        )
    return expanded
