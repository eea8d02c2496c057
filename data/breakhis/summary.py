"""Summarises a set of BreaKHis images: complete or a subset, duplicates, missing images."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from data.breakhis.filenames import CLASS_FOLDERS, ImageName, parse
from data.breakhis.official import official_names
from data.problems import Problem
from se_resnet.metrics.labels import MAGNIFICATIONS


@dataclasses.dataclass(frozen=True)
class Summary:
    """Facts about the images of a source.

    Attributes:
        num_images: number of usable images.
        num_slides: number of distinct slides.
        num_accessions: number of distinct accessions.
        counts: number of images by class (``benign``, ``malignant``) and magnification.
        num_missing: number of official files that are missing.
        unofficial: file names that follow the grammar but are not in the official list.
        duplicates: groups of file names with identical pixels.
        skipped: files left out, with the reason.
        fingerprint: SHA-256 of the sorted file names and pixel digests, the identity of the content
            in any form of storage.
    """

    num_images: int
    num_slides: int
    num_accessions: int
    counts: dict[str, dict[int, int]]
    num_missing: int
    unofficial: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    skipped: tuple[Problem, ...]
    fingerprint: str

    @property
    def is_complete(self) -> bool:
        """True when no official image is missing."""
        return self.num_missing == 0

    def describe(self) -> str:
        """Returns a few lines of text. The first line begins with ``complete`` or ``subset``."""
        total = len(official_names())
        size = f"{self.num_slides} slides, {self.num_accessions} accessions"
        if self.is_complete:
            lines = [f"complete: {total:,} images, {size}"]
        else:
            lines = [f"subset: {self.num_images:,} of {total:,} images, {size}"]
        for class_name, by_magnification in self.counts.items():
            parts = ", ".join(f"{m}X {n:,}" for m, n in by_magnification.items() if n)
            count = sum(by_magnification.values())
            lines.append(f"{class_name}: {count:,}" + (f" ({parts})" if parts else ""))
        if self.unofficial:
            lines.append(
                f"not in the official list: {len(self.unofficial):,}, "
                f"for example {self.unofficial[0]}"
            )
        lines.extend(self._describe_duplicates())
        if self.skipped:
            lines.append(f"skipped: {len(self.skipped):,} files")
            lines.extend(f"  {problem.path}: {problem.reason}" for problem in self.skipped)
        return "\n".join(lines)

    def _describe_duplicates(self) -> list[str]:
        groups: Counter[tuple[str, ...]] = Counter()
        example: dict[str, ImageName] = {}
        for group in self.duplicates:
            names = [parse(file_name) for file_name in group]
            example.update({name.slide: name for name in names})
            groups[tuple(sorted({name.slide for name in names}))] += 1
        lines = []
        for slides, count in sorted(groups.items()):
            accessions = {example[slide].accession for slide in slides}
            subtypes = [example[slide].subtype for slide in slides]
            images = f"{count} identical image{'' if count == 1 else 's'}"
            if len(slides) == 1:
                lines.append(f"slide {slides[0]} holds copies under other numbers: {images}")
            elif len(accessions) == 1 and len(set(subtypes)) == len(slides) == 2:
                lines.append(
                    f"accession {accessions.pop()} is filed twice, as {subtypes[0]} and "
                    f"{subtypes[1]}: {images}"
                )
            else:
                lines.append(f"slides {' and '.join(slides)} share {images}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Returns a dict for JSON; :meth:`from_json` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Summary:
        """Builds a summary from the dict of :meth:`to_json`, also after reading it from a file."""
        return cls(
            **{
                **value,
                "counts": {
                    class_name: {int(m): n for m, n in by_magnification.items()}
                    for class_name, by_magnification in value["counts"].items()
                },
                "unofficial": tuple(value["unofficial"]),
                "duplicates": tuple(tuple(group) for group in value["duplicates"]),
                "skipped": tuple(Problem(**problem) for problem in value["skipped"]),
            }
        )


def summarise(digests: Mapping[str, str], skipped: Iterable[Problem] = ()) -> Summary:
    """Summarises usable images, given as pixel digests by file name, and skipped files."""
    names = [parse(file_name) for file_name in sorted(digests)]
    counts = {
        class_name: {
            magnification: sum(
                name.tumour_class == tumour_class and name.magnification == magnification
                for name in names
            )
            for magnification in MAGNIFICATIONS
        }
        for tumour_class, class_name in CLASS_FOLDERS.items()
    }
    by_digest = defaultdict(list)
    fingerprint = hashlib.sha256()
    for file_name, digest in sorted(digests.items()):
        by_digest[digest].append(file_name)
        fingerprint.update(f"{file_name} {digest}\n".encode())
    official = frozenset(official_names())
    return Summary(
        num_images=len(names),
        num_slides=len({name.slide for name in names}),
        num_accessions=len({name.accession for name in names}),
        counts=counts,
        num_missing=len(official - digests.keys()),
        unofficial=tuple(sorted(digests.keys() - official)),
        duplicates=tuple(sorted(tuple(group) for group in by_digest.values() if len(group) > 1)),
        skipped=tuple(skipped),
        fingerprint=fingerprint.hexdigest(),
    )
