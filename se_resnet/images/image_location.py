"""Finds and reads the image files that a table names: files, and members of archives."""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from se_resnet.images.decode import MAX_FILE_BYTES, read_file
from se_resnet.images.pixels import ImageError
from se_resnet.runtime.files import reason

_ARCHIVE = re.compile(r"(.*?\.(?:zip|tar|tar\.gz|tgz|tar\.xz|tar\.bz2))/(.+)", re.IGNORECASE)
# RuntimeError: a method of compression that Python does not read.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://")


@dataclass(frozen=True)
class Location:
    """A file, or a member of an archive.

    Attributes:
        path: of the file or the archive.
        member: name of the member; empty for a file.
    """

    path: Path
    member: str = ""

    def version(self) -> tuple[int, int]:
        """Returns size and modification time in ns, which change when the file is replaced.

        Raises:
            OSError: the file is missing or cannot be read.
        """
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns


def written_path(cell: str) -> str:
    r"""Returns a path as results and records name it.

    >>> written_path(r".\a\b.png")
    'a/b.png'
    """
    return cell.replace("\\", "/").removeprefix("./")


def locate(cell: str, folder: Path) -> Location:
    """Returns the location that a cell of a table names.

    Args:
        cell: a path relative to ``folder`` or absolute, with ``/`` between folders; the path of an
            archive (ZIP or TAR) may be followed by ``/`` and the name of a member.
        folder: folder of the table.

    Raises:
        ValueError: the cell is empty, an address, or leaves the folder by ``..``.
    """
    if not cell:
        raise ValueError("no file is named")
    if _ADDRESS.match(cell):
        raise ValueError("an address, and only local files can be read: download it")
    if ".." in cell.split("/"):
        raise ValueError("a path with '..': write the absolute path")
    if (match := _ARCHIVE.fullmatch(cell)) and (folder / match[1]).is_file():
        return Location(folder / match[1], match[2])
    return Location(folder / cell)


def read_all(locations: Iterable[tuple[int, Location]]) -> Iterator[tuple[int, bytes | ImageError]]:
    """Yields the content of each file under its number, or the reason why there is none.

    Files come in order, then the members of each archive in the order of the archive, which is read
    once.
    """
    members: defaultdict[Path, defaultdict[str, list[int]]]
    members = defaultdict(lambda: defaultdict(list))
    for number, location in locations:
        if location.member:
            members[location.path][location.member].append(number)
        else:
            try:
                yield number, read_file(location.path)
            except ImageError as error:
                yield number, error
    for path, wanted in members.items():
        yield from _read_archive(path, wanted)


def read_existing(locations: Mapping[str, Location | Path]) -> dict[str, bytes]:
    """Returns the content of each file by name; a file that cannot be read is left out."""
    names = list(locations)
    places = (Location(found) if isinstance(found, Path) else found for found in locations.values())
    return {
        names[number]: content
        for number, content in read_all(enumerate(places))
        if isinstance(content, bytes)
    }


def _read_archive(
    path: Path, wanted: defaultdict[str, list[int]]
) -> Iterator[tuple[int, bytes | ImageError]]:
    left = dict(wanted)
    members = _zip_members if path.suffix.lower() == ".zip" else _tar_members
    try:
        for name, content in members(path, left):
            for number in left.pop(name):
                yield number, content
        problem = f"is not in {path.name}"
    except _DAMAGED as error:
        problem = f"cannot be read from {path.name}: {reason(error)}"
    for numbers in left.values():
        for number in numbers:
            yield number, ImageError(problem)


def _zip_members(path: Path, left: dict) -> Iterator[tuple[str, bytes | ImageError]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename not in left:
                continue
            if info.flag_bits & 1:
                yield info.filename, ImageError("is encrypted")
            elif info.file_size > MAX_FILE_BYTES:
                yield info.filename, _too_large()
            else:
                with archive.open(info) as file:
                    # A damaged archive may understate the size.
                    content = file.read(MAX_FILE_BYTES + 1)
                yield info.filename, _too_large() if len(content) > MAX_FILE_BYTES else content


def _tar_members(path: Path, left: dict) -> Iterator[tuple[str, bytes | ImageError]]:
    with tarfile.open(path, "r|*") as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            if name not in left:
                continue
            if not info.isreg():
                yield name, ImageError("is a link or no regular file")
            elif info.size > MAX_FILE_BYTES:
                yield name, _too_large()
            else:
                file = archive.extractfile(info)
                assert file is not None  # it is a regular file
                yield name, file.read()
            if not left:
                return


def _too_large() -> ImageError:
    return ImageError(f"is larger than {MAX_FILE_BYTES / 2**20:g} MiB")
