"""Summarises the images of a table for the log and the report."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence

from data.problems import Problem
from data.table.columns import FILE_IS_PATIENT, ImageTable
from se_resnet.metrics.labels import CLASS_NAMES, magnification_name


@dataclasses.dataclass(frozen=True)
class TableSummary:
    """Counts and remarks about the usable images of a table.

    Attributes:
        lines: of text.
        skipped: files left out, with the reason.
    """

    lines: tuple[str, ...]
    skipped: tuple[Problem, ...]

    def describe(self) -> str:
        """Returns a few lines of text. The first names the table and counts its images."""
        return "\n".join(self.lines)


def summarise(
    table: ImageTable, rows: Sequence[dict], skipped: Sequence[Problem] = ()
) -> TableSummary:
    """Summarises the usable rows, which have a ``digest``, and the skipped files of a table."""
    patients = {row["accession"] for row in rows}
    lines = [f"table {table.path.name}: {len(rows):,} images of {len(patients):,} patients"]
    for label, name in enumerate(CLASS_NAMES):
        members = [row for row in rows if row["label"] == label]
        names = ", ".join(repr(other) for other in table.label_names[label])
        lines.append(
            f"{name} ({names or 'no label'}): {len(members):,} images of "
            f"{len({row['accession'] for row in members}):,} patients"
        )
    counts = Counter(row["magnification"] for row in rows)
    if set(counts) != {0}:
        parts = (f"{magnification_name(scale)} {counts[scale]:,}" for scale in sorted(counts))
        lines.append(f"magnifications: {', '.join(parts)}")
    lines.append(_describe_scale(rows))
    if table.shown:
        lines.append(f"further columns: {', '.join(table.shown)}")
    lines += _warnings(table, rows)
    if skipped:
        lines.append(f"skipped: {len(skipped):,} files")
        lines += [f"  {problem.path}: {problem.reason}" for problem in skipped]
    return TableSummary(tuple(lines), tuple(skipped))


def _describe_scale(rows: Sequence[dict]) -> str:
    known = [float(text) for row in rows if (text := row.get("um_per_px"))]
    if not known:
        return "scale: not known (no column um_per_px)"
    text = f"scale: {min(known):g} to {max(known):g} micrometres per pixel"
    unknown = len(rows) - len(known)
    return text + (f", not known for {unknown:,} images" if unknown else "")


def _warnings(table: ImageTable, rows: Sequence[dict]) -> list[str]:
    warnings = []
    if table.reading.patient == FILE_IS_PATIENT:
        warnings.append(
            "WARNING: every image counts as its own patient (config.data.patient=file): if a "
            "patient has several images, they can be in both training and test"
        )
    spellings = defaultdict(set)
    for row in rows:
        spellings[row["accession"].casefold()].add(row["accession"])
    if alike := sorted(names for names in map(sorted, spellings.values()) if len(names) > 1):
        warnings.append(
            f"WARNING: {len(alike):,} names of patients differ only in upper and lower case, for "
            f"example {' and '.join(alike[0])}: they count as different patients"
        )
    by_digest = defaultdict(list)
    for row in rows:
        by_digest[row["digest"]].append(row)
    copies = [group for group in by_digest.values() if len(group) > 1]
    if copies:
        warnings.append(
            f"identical pixels: {len(copies):,} groups of files, for example "
            f"{copies[0][0]['file']} and {copies[0][1]['file']}; one of each is used"
        )
    shared = [group for group in copies if len({row["accession"] for row in group}) > 1]
    if shared:
        warnings.append(
            f"WARNING: {len(shared):,} of these groups are of several patients, for example "
            f"{shared[0][0]['accession']} and {shared[0][1]['accession']}"
        )
    return warnings
