"""Reads the weights that ship with the package; :mod:`se_resnet.convert` writes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from se_resnet.errors import UserError
from se_resnet.runtime.files import parse_json, read_small_file, reason
from se_resnet.weights import formats


def read(path: Path, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a record and a file that the record names.

    Args:
        path: the record (JSON).
        part: ``'backbone'`` or ``'head'``.

    Returns:
        The record, and nested float32 arrays: ``params`` and ``batch_stats``.

    Raises:
        UserError: record or file is missing or broken, or they do not belong together.
    """
    try:
        record = parse_json(_content(path))
        name, sha256 = (record["files"][part][field] for field in ("name", "sha256"))
        content = _content(path.parent / name)
    except (ValueError, KeyError, TypeError) as error:
        raise broken(path) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise broken(path.parent / name)
    tensors, _ = formats.from_safetensors(content, path.parent / name)
    floats = {key: value.astype(np.float32) for key, value in tensors.items()}
    return record, unflatten_dict(floats, sep="/")


def broken(path: Path) -> UserError:
    """Returns the error for a record or a file that differs from the shipped one."""
    return UserError(
        f"{path} is broken or is not the file that was shipped: install the project again, or "
        "make it again with python -m se_resnet.convert"
    )


def _content(path: Path) -> bytes:
    try:
        return read_small_file(path, formats.MAX_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the weights' file {path} ({reason(error)}): install the project again"
        ) from error
