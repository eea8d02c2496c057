"""Finds the BreaKHis images a user points at, reads them and says which are unusable.

A source is a folder that holds ``benign/`` or ``malignant/`` at any depth, or an archive such as
``BreaKHis_v1.tar.gz``. An archive is streamed: nothing of it is ever written to disk, so neither
its paths nor its links can reach a file.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data.filenames import CLASS_FOLDERS, ImageName, parse
from se_resnet.errors import UserError
from se_resnet.images import png
from se_resnet.images.decode import decode_image

OFFICIAL_ARCHIVE = "BreaKHis_v1.tar.gz"
MAX_FILE_BYTES = 64 << 20  # an official image has about half a megabyte
MIN_SIDE, MAX_SIDE = 16, 8192

_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_CLASS_FOLDERS = frozenset(CLASS_FOLDERS.values())
_MAX_DEPTH = 8  # so that a search from a home folder ends
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


@dataclass(frozen=True)
class Source:
    """Where the images are.

    Attributes:
        path: the folder that holds ``benign/`` and ``malignant/``, or the archive.
        is_archive: whether ``path`` is a file.
    """

    path: Path
    is_archive: bool


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why."""

    path: str
    reason: str

    def __post_init__(self) -> None:
        # A file name need not be text; the list of problems must be.
        printable = self.path.encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "path", printable)


@dataclass(frozen=True)
class ImageFacts:
    """What a decoded image is.

    Attributes:
        height, width: pixels.
        digest: SHA-256 of shape and RGB pixels: equal means the same image, however compressed.
    """

    height: int
    width: int
    digest: str


@dataclass(frozen=True)
class SourceImage:
    """A usable image: its path in the source, parsed name, encoded bytes and facts."""

    path: str
    name: ImageName
    data: bytes
    facts: ImageFacts


def find(path: str | Path) -> Source:
    """Finds the images at, or anywhere below, ``path``.

    Args:
        path: a folder at any height above ``benign/`` and ``malignant/`` (one of them suffices), a
            tar archive, or a folder that holds one.

    Raises:
        UserError: the path does not exist, cannot be read, or holds no BreaKHis images; or it
            holds several trees or archives, so that it is not clear which one is meant.
    """
    if not str(path):
        raise UserError("no path was given: give the folder or archive that holds BreaKHis.")
    try:
        path = Path(path).expanduser()
        if not path.exists():
            raise UserError(
                f"{path} does not exist: give the folder or archive that holds BreaKHis."
            )
        if path.is_dir():
            return _find_in_folder(path)
        if path.is_file() and _starts_like_archive(path):
            return Source(path, is_archive=True)
    except (OSError, RuntimeError, ValueError) as error:  # pathlib's answers to hostile paths
        raise UserError(f"{path} cannot be read: {_why(error)}.") from error
    raise UserError(
        f"{path} is neither a folder nor a tar archive: give {OFFICIAL_ARCHIVE} or the folder "
        "it was extracted to."
    )


def fingerprint(source: Source) -> str:
    """Identifies a source's files by name, size and modification time, without reading them."""
    digest = hashlib.sha256()
    if source.is_archive:
        entries = [(source.path.name, source.path)]
    else:
        entries = [(relative, source.path / relative) for relative in _tree_files(source.path)]
    for name, path in entries:
        try:
            status = path.stat()
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            facts = _why(error)
        digest.update(f"{name}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def size_bytes(source: Source) -> int:
    """Bytes on disk of the archive or of all candidate images."""
    if source.is_archive:
        return source.path.stat().st_size
    total = 0
    for relative in _tree_files(source.path):
        try:
            total += (source.path / relative).stat().st_size
        except OSError:
            continue  # reported, with its reason, when it is read
    return total


def count_files(source: Source) -> int | None:
    """How many candidate images a tree holds; None for an archive, which has no index."""
    return None if source.is_archive else len(_tree_files(source.path))


def read_files(source: Source) -> Iterator[tuple[str, bytes | Problem]]:
    """Yields the path and the bytes of every candidate image, or what kept it from being read.

    A candidate is a file with an image's suffix below ``benign/`` or ``malignant/`` that is not
    hidden. Paths are relative to the tree, or as the archive spells them.

    Raises:
        UserError: the archive is damaged or incomplete.
    """
    if source.is_archive:
        yield from _read_archive(source.path)
        return
    for relative in _tree_files(source.path):
        yield relative, _read_file(source.path, relative)


def check_names(source: Source) -> list[tuple[str, ImageName | Problem]]:
    """The path of every candidate image of a tree with its name, or what is wrong with that."""
    first_path: dict[str, str] = {}
    return [(path, _check_name(path, first_path)) for path in _tree_files(source.path)]


def read_image(root: Path, relative: str, name: ImageName) -> SourceImage | Problem:
    """Reads, decodes and validates one image of a tree."""
    content = _read_file(root, relative)
    return content if isinstance(content, Problem) else _examine(relative, name, content)


def scan(source: Source, workers: int | None = None) -> Iterator[SourceImage | Problem]:
    """Reads, decodes and validates every candidate image, several at a time.

    At most four images per worker are held in memory. The order is that of :func:`read_files`.

    Args:
        source: what :func:`find` found.
        workers: decoding threads, by default one per CPU.
    """
    workers = workers or os.cpu_count() or 1
    first_path: dict[str, str] = {}
    pending: deque[Future[SourceImage | Problem]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for path, content in read_files(source):
            name = _check_name(path, first_path)
            if isinstance(content, Problem):
                future = _done(content)
            elif isinstance(name, Problem):
                future = _done(name)
            else:
                future = pool.submit(_examine, path, name, content)
            pending.append(future)
            if len(pending) >= 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def inspect(data: bytes) -> ImageFacts | str:
    """Decodes an encoded image and returns its facts, or the reason why it is unusable.

    Usable is a whole PNG file of 8-bit RGB with sides of 16 to 8,192 pixels, every pixel of which
    is seen as it is stored: BreaKHis has no other.
    """
    problem = png.problem(data) or _header_problem(png.read_header(data))
    if problem:
        return problem
    try:
        image = decode_image(data)
    except ValueError:
        return "broken: it cannot be decoded"
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}x3 ".encode())
    digest.update(image.data)
    return ImageFacts(height, width, digest.hexdigest())


def _find_in_folder(folder: Path) -> Source:
    trees = _find_trees(folder)
    if len(trees) > 1:
        raise UserError(
            f"{folder} holds {len(trees)} BreaKHis trees, {trees[0]} and {trees[1]}"
            f"{' among them' if len(trees) > 2 else ''}: give the one that is meant."
        )
    if trees:
        return Source(trees[0], is_archive=False)
    archives = [
        entry
        for entry in sorted(folder.iterdir())
        if entry.name.lower().endswith(_ARCHIVE_SUFFIXES) and entry.is_file()
    ]
    official = [entry for entry in archives if entry.name == OFFICIAL_ARCHIVE]
    if len(official or archives) > 1:
        raise UserError(
            f"{folder} holds {len(archives)} archives, {archives[0].name} and {archives[1].name}"
            f"{' among them' if len(archives) > 2 else ''}: give the one that is meant."
        )
    if archives:
        return find((official or archives)[0])
    raise UserError(
        f"{folder} holds no folder benign/ or malignant/ and no {OFFICIAL_ARCHIVE}: give the "
        "folder or archive that holds BreaKHis."
    )


def _find_trees(folder: Path) -> list[Path]:
    """Folders that hold ``benign/`` or ``malignant/``, nearest first; links are followed once."""
    trees: list[Path] = []
    seen: set[Path] = set()
    level = [folder]
    for _ in range(_MAX_DEPTH):
        below: list[Path] = []
        for candidate in level:
            real = candidate.resolve()
            if real in seen:
                continue
            seen.add(real)
            try:
                children = sorted(entry for entry in candidate.iterdir() if os.path.isdir(entry))
            except OSError:
                if candidate == folder:
                    raise
                continue
            if any(child.name in _CLASS_FOLDERS for child in children):
                trees.append(candidate)
            else:
                below.extend(child for child in children if not child.name.startswith("."))
        level = below
    return trees


def _tree_files(root: Path) -> list[str]:
    """Paths of the candidate images relative to ``root``, sorted, with ``/`` between folders."""
    found: list[str] = []
    seen: set[str] = set()
    for class_folder in sorted(_CLASS_FOLDERS):
        for folder, subfolders, files in os.walk(root / class_folder, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back
                subfolders.clear()
                continue
            seen.add(real)
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            found.extend(
                (Path(folder) / name).relative_to(root).as_posix()
                for name in files
                if _is_candidate(name)
            )
    return sorted(found)


def _read_file(root: Path, relative: str) -> bytes | Problem:
    path = root / relative
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            return Problem(relative, "not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            return Problem(relative, _too_large(status.st_size))
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # too many open files: not this file's fault, so it must not be skipped
        return Problem(relative, f"cannot be read: {_why(error)}")


def _is_candidate(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(_IMAGE_SUFFIXES)


def _read_archive(path: Path) -> Iterator[tuple[str, bytes | Problem]]:
    found = False
    try:
        # tarfile's own gzip reader takes a truncated stream for a finished one; gzip's does not.
        with (
            path.open("rb") as file,
            _Expansion(file) if _is_gzip(path) else file as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,
        ):
            for member in archive:
                if archive.offset - member.offset > _MAX_MEMBER_BYTES:
                    raise tarfile.ReadError("extended headers that claim too much")
                parts = PurePosixPath(member.name).parts
                hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
                if hidden or not _is_candidate(parts[-1] if parts else ""):
                    continue
                if not _CLASS_FOLDERS.intersection(parts[:-1]):
                    continue
                found = True
                if member.issym() or member.islnk():
                    yield member.name, Problem(member.name, "a link inside the archive")
                elif member.isreg() and member.size > MAX_FILE_BYTES:
                    yield member.name, Problem(member.name, _too_large(member.size))
                elif member.isreg():
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
        raise UserError(f"{path} cannot be read: {_why(error)}.") from error
    if not found:
        raise UserError(
            f"{path} holds no image below benign/ or malignant/: give {OFFICIAL_ARCHIVE}."
        )


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

    def __init__(self, file: BinaryIO):
        super().__init__(fileobj=file)
        self._file = file
        self._expanded = self._empty = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._expanded += len(data)
        self._empty += not data
        if self._empty > _MOST_ENDS:
            raise EOFError
        if self._expanded > MAX_FILE_BYTES + _MAX_EXPANSION * self._file.tell():
            raise tarfile.ReadError("it expands to far more than images do")
        return data


def _starts_like_archive(path: Path) -> bool:
    if _is_gzip(path):
        return True
    with path.open("rb") as file:
        return file.read(512)[257:262] == b"ustar"


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_name(path: str, first_path: dict[str, str]) -> ImageName | Problem:
    """Parses the name, checks it against the class folder and notes it in ``first_path``."""
    parts = PurePosixPath(path).parts
    try:
        name = parse(parts[-1])
    except ValueError as error:
        return Problem(path, str(error))
    expected = CLASS_FOLDERS[name.tumour_class]
    if _CLASS_FOLDERS.intersection(parts[:-1]) - {expected}:
        return Problem(path, f"the name says {expected}, the folder does not")
    if parts[-1] in first_path:
        return Problem(path, f"the same file name as {first_path[parts[-1]]}")
    first_path[parts[-1]] = path
    return name


def _examine(path: str, name: ImageName, data: bytes) -> SourceImage | Problem:
    facts = inspect(data)
    return Problem(path, facts) if isinstance(facts, str) else SourceImage(path, name, data, facts)


def _done(problem: Problem) -> Future[SourceImage | Problem]:
    future: Future[SourceImage | Problem] = Future()
    future.set_result(problem)
    return future


def _header_problem(header: png.Header) -> str | None:
    """What keeps an image from being one of BreaKHis, by the header of a whole PNG file."""
    sides = (header.width, header.height)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in sides):
        return (
            f"{header.width}x{header.height} pixels: sides of {MIN_SIDE} to {MAX_SIDE} are expected"
        )
    if header.depth == 16:
        return "16-bit: 8-bit RGB is needed"
    if header.colour == png.GREY:
        return "grayscale: RGB is needed"
    if header.colour in (png.GREY_ALPHA, png.RGBA) or header.transparency:
        return "RGBA (it has an alpha channel): RGB is needed"
    if header.orientation != 1:
        return "turned by its EXIF data: save it as it is seen, without them"
    if header.frames > 1:
        return f"an animation of {header.frames} frames: one image is needed"
    return None


def _too_large(size: int) -> str:
    return f"{size / 1e6:.0f} MB: more than {MAX_FILE_BYTES >> 20} MiB is no BreaKHis image"


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
