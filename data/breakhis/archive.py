"""Reads tar archives of images as a stream, and refuses archives that must be extracted."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data.breakhis import candidates
from data.problems import Problem
from se_resnet.errors import UserError
from se_resnet.runtime.files import reason
from se_resnet.runtime.walk import HIDDEN, NOT_REGULAR, PassedOver, is_hidden

OFFICIAL_ARCHIVE = "BreaKHis_v1.tar.gz"
SUFFIXES = (".tar.gz", ".tgz", ".tar")
# Suffixes of archives that are not read.
OTHER_SUFFIXES = (".zip", ".7z", ".rar", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

# The first bytes of archives that are not read.
_OTHER = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ\x00": "compressed by xz",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}
# An archive of PNG images hardly expands. A malicious archive expands without end.
_MAX_EXPANSION = 20
# Long names and extended attributes, which tarfile reads into memory.
_MAX_HEADER_BYTES = 1 << 20
_MAX_MEMBER_BYTES = 2**32  # more than all of BreaKHis
_MAX_EMPTY_READS = 1000
_HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def is_archive(path: Path) -> bool:
    """Returns whether a file begins like a tar archive, plain or compressed by gzip.

    Raises:
        UserError: the file is an archive of another kind.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    for signature, kind in _OTHER.items():
        if start.startswith(signature):
            raise UserError(
                f"{path} is {kind}, which is not read: extract it and give the folder "
                f"(tar archives are read, plain or compressed by gzip, such as {OFFICIAL_ARCHIVE})."
            )
    return start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar"


def read_archive(
    path: Path, limit: int, passed_over: PassedOver
) -> Iterator[tuple[str, bytes | Problem]]:
    """Yields name and content of every candidate image, or the problem with the image.

    If the archive has no image in a class folder, it is read again for images whose names state the
    class.

    Args:
        path: path of the archive.
        limit: largest size of an image in bytes.
        passed_over: counts the members that are not read; cleared first.

    Raises:
        UserError: the archive is damaged or incomplete, or has no candidate image.
    """
    found, has_named_images = yield from _read(path, limit, passed_over, flat=False)
    if not found and has_named_images:
        found, _ = yield from _read(path, limit, passed_over, flat=True)
    if not found:
        raise UserError(
            f"{path} has no image below benign/ or malignant/ and no image with a BreaKHis name: "
            f"give {OFFICIAL_ARCHIVE}."
        )


def _read(
    path: Path, limit: int, passed_over: PassedOver, *, flat: bool
) -> Generator[tuple[str, bytes | Problem], None, tuple[bool, bool]]:
    """Reads the archive once from start to end.

    Returns:
        Whether there were candidates, and whether images outside class folders have BreaKHis names.
    """
    passed_over.clear()
    found = has_named_images = False
    try:
        # The gzip reader of tarfile accepts a truncated stream; the module gzip does not.
        with (
            path.open("rb") as file,
            _Expansion(file, limit) if _is_gzip(path) else file as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,
        ):
            for member in archive:
                if archive.offset - member.offset > _MAX_MEMBER_BYTES:
                    raise tarfile.ReadError("extended headers are too large")
                if member.isdir():
                    continue
                parts = [
                    part for part in PurePosixPath(member.name).parts if part not in (".", "..")
                ]
                if any(map(is_hidden, parts)):
                    passed_over.add(HIDDEN, member.name)
                    continue
                in_class_folder = candidates.tree_of("/".join(parts[:-1])) is not None
                has_name = candidates.has_breakhis_name(member.name)
                has_named_images |= has_name and not in_class_folder
                if not candidates.has_image_suffix(member.name) or not (
                    has_name if flat else in_class_folder
                ):
                    candidates.pass_over(member.name, flat, passed_over)
                    continue
                found = True
                if member.issym() or member.islnk():
                    yield member.name, Problem(member.name, "a link inside the archive")
                elif not member.isreg():
                    passed_over.add(NOT_REGULAR, member.name)
                elif member.size > limit:
                    yield member.name, Problem(member.name, too_large(member.size, limit))
                else:
                    content = archive.extractfile(member)
                    data = content.read() if content else b""
                    if len(data) != member.size:
                        raise EOFError
                    yield member.name, data
            while stream.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
    except (*_DAMAGE, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path} is damaged or incomplete: download it again, or give the extracted folder."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    return found, has_named_images


def too_large(size: int, limit: int) -> str:
    """Returns the reason for refusing an image of this size."""
    return f"{size / 1e6:.0f} MB: an image of BreaKHis has at most {limit >> 20} MiB"


# The exceptions of tarfile and gzip; ValueError for numbers and texts in headers.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, struct.error, ValueError, OverflowError)


class _Member(tarfile.TarInfo):
    """A header with a limit on the size that it claims."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        # tarfile does not notice the end of a stream while it skips the blocks of a member.
        limit = _MAX_HEADER_BYTES if member.type in _HEADER_TYPES else _MAX_MEMBER_BYTES
        if not 0 <= member.size <= limit:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        return member


class _Expansion(gzip.GzipFile):
    """A gzip stream that raises if it expands too far, or is read long after its end.

    tarfile reads every block of a member that it skips, also long after the end.
    """

    def __init__(self, file: BinaryIO, limit: int):
        super().__init__(fileobj=file)
        self._file, self._limit = file, limit
        self._expanded = self._empty_reads = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._expanded += len(data)
        self._empty_reads += not data
        if self._empty_reads > _MAX_EMPTY_READS:
            raise EOFError
        if self._expanded > self._limit + _MAX_EXPANSION * self._file.tell():
            raise tarfile.ReadError("it expands to far more than images do")
        return data


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
