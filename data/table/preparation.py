"""Decodes, validates and hashes the images of a table once, and reads them for the cache."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from data.problems import Problem, check_policy, refusal
from data.table.columns import ImageTable
from data.table.summary import TableSummary, summarise
from se_resnet.errors import UserError
from se_resnet.images.decode import decode_image
from se_resnet.images.image_location import Location, read_all, read_existing
from se_resnet.images.pixels import ImageError, digest
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runs.image_source import ImageSource
from se_resnet.runtime.files import atomic_write
from se_resnet.runtime.parallel import parallel_map
from se_resnet.runtime.progress_bar import progress_bar
from se_resnet.runtime.tables import read_table

MIN_SIDE = 16
_FORMAT = 1  # raised when the same file would give other facts
_COLUMNS = ("digest", "problem")
_MAX_BYTES = 2**28

# The digest of an image and an empty string, or an empty string and the problem with the file.
Facts = tuple[str, str]
Scan = Callable[[Sequence[Location]], list[Facts]]


@dataclasses.dataclass(frozen=True)
class PreparedTable:
    """Validated images of a table, ready to be read.

    Attributes:
        rows: columns of :class:`data.records.Records` without ``row``, of each usable image.
        locations: of these images.
        summary: counts and remarks.
        fingerprint: identity of the content: SHA-256 of all rows with their digests.
        source: the table's name and the meaning of its labels.
        walk: empty; a table names its files.
    """

    rows: list[dict]
    locations: list[Location]
    summary: TableSummary
    fingerprint: str
    source: ImageSource
    walk: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Path and reason of every file that was left out."""
        return [(problem.path, problem.reason) for problem in self.summary.skipped]

    def examples(self) -> Iterator[dict[str, Any]]:
        """Reads the images again.

        Yields:
            ``image`` (encoded bytes) and the columns of ``Records`` except ``row``.

        Raises:
            UserError: a file has been removed since it was validated.
        """
        for number, content in read_all(enumerate(self.locations)):
            row = self.rows[number]
            if isinstance(content, ImageError):
                raise UserError(f"{row['file']} {content}: it was changed meanwhile; run again.")
            yield {"image": content, **row}

    def originals(self, files: Collection[str]) -> dict[str, bytes]:
        """Returns the encoded bytes of a few images by name; a file that is gone is left out."""
        return read_existing(
            {
                row["file"]: location
                for row, location in zip(self.rows, self.locations, strict=True)
                if row["file"] in files
            }
        )


def prepare(
    table: ImageTable,
    cache_dir: Path,
    on_bad_image: str = "error",
    scan: Scan | None = None,
) -> PreparedTable:
    """Validates the images of a table once. Later calls reuse the result until a file changes.

    Args:
        table: validated rows.
        cache_dir: folder for the digests.
        on_bad_image: ``error`` refuses a table with unusable files and lists them. ``skip`` leaves
            them out.
        scan: examines files; by default :func:`examine_all` on this machine.

    Raises:
        UserError: no image is usable, files are unusable under ``error``, or the folder cannot be
            written.
    """
    check_policy(on_bad_image)
    versions = [_version(location) for location in table.locations]
    if on_bad_image == "error":  # before the first image is read, which may take long
        _refuse(table, [problem for _, problem in versions])
    files = [
        [str(location.path.absolute()), location.member, version]
        for location, (version, _) in zip(table.locations, versions, strict=True)
    ]
    key = json.dumps([_FORMAT, files])
    path = cache_dir / "tables" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.csv"
    facts = _read_facts(path, len(table.rows))
    if facts is None:
        facts = (scan or examine_all)(table.locations)
        _write_facts(path, facts)
    rows = [{**row, "digest": found} for row, (found, _) in zip(table.rows, facts, strict=True)]
    reasons = _label_conflicts(rows, [problem for _, problem in facts])
    if on_bad_image == "error":
        _refuse(table, reasons)
    usable = [number for number, problem in enumerate(reasons) if not problem]
    if not usable:
        raise UserError(f"{table.path} has no usable image: all {len(rows):,} were skipped.")
    skipped = _problems(rows, reasons)
    rows = [rows[number] for number in usable]
    return PreparedTable(
        rows,
        [table.locations[number] for number in usable],
        summarise(table, rows, skipped),
        _fingerprint(rows),
        ImageSource(table.path.name, table.label_names),
    )


def examine_all(locations: Sequence[Location]) -> list[Facts]:
    """Reads, decodes and hashes images on all cores; one result for each location."""
    results: list[Facts] = [("", "")] * len(locations)
    examined = parallel_map(examine, read_all(enumerate(locations)))
    progress = progress_bar(examined, total=len(locations), desc="validating", unit="image")
    for number, *facts in progress:
        results[number] = (facts[0], facts[1])
    return results


def examine(numbered: tuple[int, bytes | ImageError]) -> tuple[int, str, str]:
    """Returns the number of a file, the digest of its pixels, and the problem with the file."""
    number, content = numbered
    if isinstance(content, ImageError):
        return number, "", str(content)
    try:
        image = decode_image(content)
    except ValueError as error:
        return number, "", str(error)
    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        return number, "", f"has {width}x{height} pixels: sides of {MIN_SIDE} or more are needed"
    return number, digest(image), ""


def _version(location: Location) -> tuple[Any, str]:
    try:
        return location.version(), ""
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = getattr(error, "strerror", None) or str(error)
        return None, "does not exist" if missing else f"cannot be read: {reason}"


def _refuse(table: ImageTable, reasons: Sequence[str]) -> None:
    if problems := _problems(table.rows, reasons):
        raise refusal(table.path, problems, len(table.rows))


def _problems(rows: Sequence[dict], reasons: Sequence[str]) -> list[Problem]:
    return [
        Problem(row["file"], reason) for row, reason in zip(rows, reasons, strict=True) if reason
    ]


def _label_conflicts(rows: list[dict], problems: list[str]) -> list[str]:
    """Returns the problems with the images, and those of equal pixels under both labels added."""
    groups = defaultdict(list)
    for number, row in enumerate(rows):
        if row["digest"]:
            groups[row["digest"]].append(number)
    problems = list(problems)
    for members in groups.values():
        for number in members:
            row = rows[number]
            others = [rows[n] for n in members if rows[n]["label"] != row["label"]]
            if others:
                problems[number] = (
                    f"is labelled {CLASS_NAMES[row['label']]}, but its pixels are those of "
                    f"{others[0]['file']}, which is labelled {CLASS_NAMES[others[0]['label']]}"
                )
    return problems


def _fingerprint(rows: Sequence[dict]) -> str:
    content = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row["file"]):
        content.update(json.dumps(row, sort_keys=True).encode())
    return content.hexdigest()


def _read_facts(path: Path, count: int) -> list[Facts] | None:
    """Returns the facts of an earlier validation; None if there are none or they are damaged."""
    try:
        rows = [
            (row["digest"], row["problem"])
            for _, row in read_table(path, _COLUMNS, limit=_MAX_BYTES)
        ]
    except (OSError, ValueError):
        return None
    return rows if len(rows) == count else None


def _write_facts(path: Path, facts: Sequence[Facts]) -> None:
    with atomic_write(path) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(facts)
