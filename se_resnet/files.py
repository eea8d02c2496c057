"""Where files go, written so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from se_resnet.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK = 2**20


@contextmanager
def full_disk_told(path: Path, needed: int = 0) -> Iterator[None]:
    """Names what cannot be written when the block finds the disk full.

    Args:
        path: what the block writes.
        needed: bytes of it; where the block fails in another way, it is tried whether they fit,
            because TensorStore's threads also fail by what others could not write.

    Raises:
        UserError: it is, or a quota or a limit on the size of files is reached.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # TensorStore tells by a ValueError
        number = getattr(error, "errno", None)
        full = [code for code in _FULL if number == code or f"os_error_code='{code}'" in str(error)]
        if needed and not full:
            full = _room_error(path.parent, needed)
        if not full:
            raise
        raise UserError(
            f"{path} cannot be written ({os.strerror(full[0])}): make room on that disk and give "
            "the same command again; what was written before is whole."
        ) from error


def _room_error(folder: Path, size: int) -> list[int]:
    """The code in ``_FULL`` that writing so many bytes ends with, if it does."""
    probe = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("wb") as file:
            for start in range(0, size, _CHUNK):
                file.write(bytes(min(_CHUNK, size - start)))
    except OSError as error:
        return [code for code in _FULL if code == error.errno]
    finally:
        probe.unlink(missing_ok=True)
    return []


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or so deeply nested that it was made to be.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside ``path`` and renames it to ``path`` when the block succeeds.

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Shortened, because a file system takes names of 255 bytes.
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}")
    # A file name need not be valid UTF-8 on Linux; surrogateescape keeps its bytes.
    text = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    options = {} if "b" in mode else text
    try:
        with full_disk_told(path):
            with temporary.open(mode, **options) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def user_cache_dir() -> Path:
    """``$SE_RESNET_CACHE``, else ``se_resnet`` in the user's cache folder."""
    if configured := os.environ.get("SE_RESNET_CACHE"):
        return Path(os.path.expanduser(configured))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "se_resnet"


def writable_folder(path: Path, remedy: str) -> None:
    """Makes a folder and sees that files can be made in it, before work is spent on them.

    Raises:
        UserError: they cannot; the sentence ends with ``remedy``.
    """
    probe = path / f".{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): {remedy}.") from error


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON; NaN and infinity, which JSON lacks, are refused."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")
