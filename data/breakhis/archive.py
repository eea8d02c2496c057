"""Reads tar archives of images as a stream, and recognises those that must be extracted first."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data.breakhis import candidates
from data.breakhis.candidates import Problem
from se_resnet.errors import UserError
from se_resnet.runtime.files import reason
from se_resnet.runtime.walk import HIDDEN, NOT_REGULAR, PassedOver, is_hidden

OFFICIAL_ARCHIVE = "BreaKHis_v1.tar.gz"
SUFFIXES = (".tar.gz", ".tgz", ".tar")
# By their suffixes, archives that are not read.
OTHER_SUFFIXES = (".zip", ".7z", ".rar", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

# What the files of archives that are not read begin with.
_OTHER = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ\x00": "compressed by xz",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
}
# An archive of PNG images hardly expands; one made to fill memory or time does without end.
_MAX_EXPANSION = 20
# Names and extended attributes, which are read at once.
_MAX_HEADER_BYTES = 1 << 20
_MAX_MEMBER_BYTES = 2**32  # more than all of BreaKHis
_MOST_ENDS = 1000
_HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def is_archive(path: Path) -> bool:
    """Returns whether a file begins as a tar archive does, plain or compressed by gzip.

    Raises:
        UserError: it is an archive of another kind.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    for signature, kind in _OTHER.items():
        if start.startswith(signature):
            raise UserError(
                f"{path} is {kind}, of which images are not read: extract it and give the folder "
                f"(tar archives are read, plain or compressed by gzip, such as {OFFICIAL_ARCHIVE})."
            )
    return start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar"


def read_archive(
    path: Path, limit: int, passed_over: PassedOver
) -> Iterator[tuple[str, bytes | Problem]]:
    """Yields name and content of every candidate image, or what kept it from being read.

    Where the archive holds no image in a class folder, it is read again for images whose names tell
    the class.

    Args:
        path: of the archive.
        limit: most bytes of an image.
        passed_over: takes what is not read; emptied first.

    Raises:
        UserError: the archive is damaged or incomplete, or holds no candidate.
    """
    found, named_alike = yield from _read(path, limit, passed_over, flat=False)
    if not found and named_alike:
        found, _ = yield from _read(path, limit, passed_over, flat=True)
    if not found:
        raise UserError(
            f"{path} holds no image below benign/ or malignant/ and none that is named as BreaKHis "
            f"names them: give {OFFICIAL_ARCHIVE}."
        )


def _read(
    path: Path, limit: int, passed_over: PassedOver, *, flat: bool
) -> Generator[tuple[str, bytes | Problem], None, tuple[bool, bool]]:
    """One reading from beginning to end.

    Returns:
        Whether there were candidates; and whether there were images outside class folders that are
        named alike.
    """
    passed_over.clear()
    found = named_alike = False
    try:
        # tarfile's own gzip reader takes a truncated stream for a finished one; gzip's does not.
        with (
            path.open("rb") as file,
            _Expansion(file, limit) if _is_gzip(path) else file as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,
        ):
            for member in archive:
                if archive.offset - member.offset > _MAX_MEMBER_BYTES:
                    raise tarfile.ReadError("extended headers that claim too much")
                if member.isdir():
                    continue
                parts = [
                    part for part in PurePosixPath(member.name).parts if part not in (".", "..")
                ]
                if any(map(is_hidden, parts)):
                    passed_over.add(HIDDEN, member.name)
                    continue
                in_class_folder = candidates.tree_of("/".join(parts[:-1])) is not None
                alike = candidates.is_named_alike(member.name)
                named_alike |= alike and not in_class_folder
                if not candidates.has_image_suffix(member.name) or not (
                    alike if flat else in_class_folder
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
    return found, named_alike


def too_large(size: int, limit: int) -> str:
    """The reason why an image of so many bytes is not read."""
    return f"{size / 1e6:.0f} MB: more than {limit >> 20} MiB is no BreaKHis image"


# What tarfile and gzip raise; ValueError for numbers and texts in headers.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, struct.error, ValueError, OverflowError)


class _Member(tarfile.TarInfo):
    """A header that claims no more than it may."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        # A stream's end is not noticed while tarfile skips a member, block after block.
        most = _MAX_HEADER_BYTES if member.type in _HEADER_TYPES else _MAX_MEMBER_BYTES
        if not 0 <= member.size <= most:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        return member


class _Expansion(gzip.GzipFile):
    """A gzip stream that ends where it expands to too much, and once only.

    tarfile asks for every block of a member that it skips, also long after the end.
    """

    def __init__(self, file: BinaryIO, limit: int):
        super().__init__(fileobj=file)
        self._file, self._limit = file, limit
        self._expanded = self._empty = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._expanded += len(data)
        self._empty += not data
        if self._empty > _MOST_ENDS:
            raise EOFError
        if self._expanded > self._limit + _MAX_EXPANSION * self._file.tell():
            raise tarfile.ReadError("it expands to far more than images do")
        return data


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
