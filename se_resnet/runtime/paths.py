"""Paths that a user gives, on the command line, in a configuration or to a function."""

from __future__ import annotations

import os
import re

from se_resnet.errors import UserError

_REMOTE = re.compile(r"[A-Za-z][\w+.-]+:/")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")


def local_path(text: str | os.PathLike[str], name: str = "the path") -> str:
    """Returns a path with ``~`` and environment variables expanded.

    A path that exists as it is written is left as it is.

    Args:
        text: as the user wrote it.
        name: of the flag or field, for messages.

    Raises:
        UserError: it is empty, is the address of a remote store, or names a user or a variable that
            is not known.

    >>> local_path("runs/quickstart")
    'runs/quickstart'
    """
    given = os.fspath(text)
    if not given:
        raise UserError(f"{name} is empty: write it in full, or . for this folder.")
    if "\0" in given or os.path.lexists(given):
        return given
    if _REMOTE.match(given):
        raise UserError(
            f"{name} {given} is an address, and only local folders and files can be used: mount "
            "the store, or copy the files to this machine."
        )
    for match in _VARIABLE.finditer(given):
        if (match[1] or match[2]) not in os.environ:
            raise UserError(
                f"{name} {given} names the environment variable {match[0]}, which is not set: set "
                "it, or write the path in full."
            )
    path = os.path.expanduser(os.path.expandvars(given))
    if path.startswith("~"):
        raise UserError(
            f"{name} {given} names the home folder of a user who is not known: write the path in "
            "full, or ./~ for a folder of this name."
        )
    return path
