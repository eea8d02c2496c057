"""Atomic file writes, bounded reads, JSON helpers and the cache folder."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from se_resnet.errors import UserError
from se_resnet.runtime.paths import local_path
from se_resnet.runtime.schema import misfit

SMALL_FILE_BYTES = 2**25
MAX_DEPTH = 64  # levels of objects and lists in a JSON file
# Characters of a file name in the name of its temporary file: file systems allow 255 bytes.
NAME_LENGTH = 40

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK = 2**20


@contextmanager
def report_full_disk(path: Path, needed: int = 0) -> Iterator[None]:
    """Turns the error of a full disk in the block into a UserError that names the file.

    Args:
        path: the file or folder that the block writes.
        needed: size of the content in bytes. If the block raises another OSError or ValueError,
            a file of this size is written on trial: after a failed write of one TensorStore thread
            another thread may fail with an unrelated error.

    Raises:
        UserError: the disk is full, or a quota or a limit on the size of files is reached.
    """
    try:
        yield
    except Exception as error:  # TensorFlow and TensorStore define further errors
        number = getattr(error, "errno", None)
        full = [number] if number in _FULL else full_disk_codes(str(error))
        if needed and not full and isinstance(error, (OSError, ValueError)):
            full = _room_error(path.parent, needed)
        if not full:
            raise
        raise UserError(
            f"{path} cannot be written ({os.strerror(full[0])}): make room on that disk and give "
            "the same command again; what was written before is whole."
        ) from error


def full_disk_codes(message: str) -> list[int]:
    """Returns the error codes of a full disk, a quota or a file size limit that a message names."""
    return [
        code
        for code in _FULL
        if f"os_error_code='{code}'" in message or os.strerror(code) in message
    ]


def _room_error(folder: Path, size: int) -> list[int]:
    """Writes ``size`` bytes on trial. Returns the code in ``_FULL`` of the error, if any."""
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
    """Returns the value of a JSON text. Accepts only values that :func:`write_json` can write.

    Raises:
        ValueError: the text is not JSON, holds a number that is not finite or a field twice, or is
            nested more deeply than ``MAX_DEPTH``.
    """
    too_deep = ValueError("it is nested too deeply")
    try:
        value = json.loads(
            text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_unique
        )
    except RecursionError as error:
        raise too_deep from error
    level = _parts([value])
    for _ in range(MAX_DEPTH):
        level = [part for parent in level for part in _parts(parent)]
    if level:
        raise too_deep
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds the number {text[:20]}, which is not finite")
    return number


def _unique(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(fields)
    if len(unique) < len(fields):
        ((twice, _),) = Counter(name for name, _ in fields).most_common(1)
        raise ValueError(f"it holds {twice[:60]!r} twice")
    return unique


def _parts(value: Any) -> list[Any]:
    """Returns the lists and objects in a list or an object."""
    parts = value.values() if isinstance(value, dict) else value
    return [part for part in parts if isinstance(part, (dict, list))]


def reason(error: BaseException) -> str:
    """Returns the cause of a failed read as a few words on one line, for a message."""
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def read_small_file(path: str | Path, limit: int = SMALL_FILE_BYTES) -> bytes:
    """Returns the content of a regular file.

    Refuses a pipe or a device, which could block or never end.

    Args:
        path: path of the file or of a link to the file.
        limit: largest size in bytes.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the path is not a regular file, or the file is larger than ``limit``.
    """

    def open_without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > limit:
            raise ValueError(f"it is larger than {limit / 2**20:g} MiB")
        return file.read(status.st_size)


def read_text(path: str | Path, limit: int = SMALL_FILE_BYTES) -> str:
    """Returns the text of a regular UTF-8 file, without a byte order mark.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the path is not a regular file, or the file is larger than ``limit`` bytes or
            not UTF-8.
    """
    return read_small_file(path, limit).decode("utf-8-sig")


def read_json(path: str | Path, form: Any = object, limit: int = SMALL_FILE_BYTES) -> Any:
    """Returns the value of a regular JSON file.

    Args:
        path: path of the file.
        form: required form of the value, see :func:`se_resnet.runtime.schema.misfit`.
        limit: largest size in bytes.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the path is not a regular file, or the file is too large, is not JSON in UTF-8,
            is nested too deeply, or its value has another form.
    """
    value = parse_json(read_text(path, limit))
    if problem := misfit(value, form):
        raise ValueError(problem)
    return value


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside ``path`` and renames it to ``path`` when the block succeeds.

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:NAME_LENGTH]}.{uuid.uuid4().hex[:8]}")
    # A file name need not be valid UTF-8 on Linux; surrogateescape keeps its bytes.
    text = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    options = {} if "b" in mode else text
    try:
        with report_full_disk(path):
            with temporary.open(mode, **options) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def user_cache_dir(configured: str = "") -> Path:
    """Returns the folder for prepared images and compiled programs.

    Args:
        configured: ``config.data.cache_dir``. If empty, ``$SE_RESNET_CACHE`` names the folder. By
            default the folder is ``se_resnet`` in the user's cache folder.

    Raises:
        UserError: the user has no home folder, or the named folder is not local.
    """
    if configured:
        return Path(local_path(configured, "config.data.cache_dir ="))
    if cache := os.environ.get("SE_RESNET_CACHE"):
        return Path(local_path(cache, "the environment variable SE_RESNET_CACHE ="))
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        variable = "the environment variable XDG_CACHE_HOME ="
        return Path(local_path(caches, variable)) / "se_resnet"
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder to keep prepared images in: set the environment variable "
            "SE_RESNET_CACHE to a folder that can be written."
        ) from error


def writable_folder(path: Path, remedy: str) -> None:
    """Creates a folder and checks that files can be created in the folder.

    Raises:
        UserError: no file can be created. The message ends with ``remedy``.
    """
    probe = path / f".{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): {remedy}.") from error
    except RecursionError as error:
        raise UserError(f"{path} cannot be written (its path is too long): {remedy}.") from error


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON. Refuses NaN and infinity, which JSON lacks."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text + "\n")
