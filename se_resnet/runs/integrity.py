"""Checksums for a checkpoint folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se_resnet.runtime.files import read_json, reason, write_json
from se_resnet.runtime.schema import Maybe

_SEAL = "facts.json"
_FORM = {"facts": {}, "files": {str: [int, str]}, "sha256": str}


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes ``facts.json``: the facts, and size and SHA-256 of every file in the folder.

    Args:
        folder: holds its files already.
        facts: can be written as JSON.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = {
        "facts": dict(facts),
        "files": {path.relative_to(folder).as_posix(): _identity(path) for path in files},
    }
    write_json(folder / _SEAL, {**content, "sha256": _digest(content)})


def facts_of(folder: Path) -> dict[str, Any]:
    """Returns the facts, after every file is compared with its checksum.

    Raises:
        ValueError: a file differs; the message names it.
    """
    try:
        content = read_json(folder / _SEAL, _FORM)
        if content.pop("sha256") != _digest(content):
            raise ValueError("changed")
    except (OSError, ValueError) as error:
        raise ValueError(f"{_SEAL} is missing or changed: {reason(error)}") from error
    for path in folder.rglob("*"):
        if not path.is_dir() and path.exists() and not path.is_file():
            raise ValueError(f"{path.relative_to(folder)} is not a regular file")
    for name, identity in content["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if path.stat().st_size != identity[0]:
            raise ValueError(f"{name} has {path.stat().st_size} bytes instead of {identity[0]}")
        if _identity(path) != identity:
            raise ValueError(f"{name} has other content than was written")
    return content["facts"]


def unverified_facts(folder: Path) -> dict[str, Any]:
    """Returns the facts as they are, without comparing a checksum.

    Raises:
        OSError, ValueError: ``facts.json`` cannot be read.
    """
    form = {"facts": {"early_stopping": Maybe({})}}
    return read_json(folder / _SEAL, form)["facts"]


def _identity(path: Path) -> list:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
