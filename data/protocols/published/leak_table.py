"""Counts images, patients and leaks of the published splits, as published and repaired.

The counts come from the list of official file names and need no image. A patient "by id" is a slide
folder, as these splits count patients. A patient "by accession" is an accession number. A test
image leaks if its accession also has images in training or validation.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from data.protocols.published.slides import Slide
from data.protocols.published.splits import PublishedSplit, all_splits
from se_resnet.metrics.labels import CLASS_NAMES, MAGNIFICATIONS
from se_resnet.runs.run_files import ROLES, TEST, TRAIN, VAL
from se_resnet.runtime.text_table import text_table

_ROLE_NAMES = {TRAIN: "training", VAL: "validation", TEST: "test"}
COLUMNS = (
    "split",
    "fold",
    "version",
    "magnifications",
    "classes",
    *(f"{role}_{unit}" for unit in ("images", "ids", "accessions") for role in ROLES),
    "leaking_accessions",
    "leaking_test_images",
    *(f"{part}_{name}" for name in CLASS_NAMES for part in ("leaking_test", "test")),
    "leaking_by_tumour_type",
    *(f"test_accessions_{name}" for name in CLASS_NAMES),
    "moved_images",
    "moved_accessions",
    *(f"moved_to_{role}_images" for role in ROLES),
)


@dataclasses.dataclass(frozen=True)
class Leaks:
    """The counts of one fold of a split.

    Attributes:
        split: the split.
        fold: number of the fold, from 0.
        repaired: True for the repaired fold.
    """

    split: PublishedSplit
    fold: int
    repaired: bool

    @cached_property
    def role_of(self) -> Mapping[str, str]:
        """The role of every slide, by name."""
        return self.split.roles(self.fold, self.repaired)

    def slides(self, role: str) -> list[Slide]:
        """Returns the slides of a role."""
        return [slide for slide in self.split.slides if self.role_of[slide.name] == role]

    @cached_property
    def leaking(self) -> list[Slide]:
        """The slides of the test set whose accession is also in training or validation."""
        seen = {slide.accession for role in (TRAIN, VAL) for slide in self.slides(role)}
        return [slide for slide in self.slides(TEST) if slide.accession in seen]

    @cached_property
    def moved(self) -> list[Slide]:
        """The slides to which the repair gave another role."""
        published = self.split.roles(self.fold, False)
        return [s for s in self.split.slides if published[s.name] != self.role_of[s.name]]

    def by_tumour_type(self) -> dict[str, tuple[int, int]]:
        """Returns leaking and all test images by tumour type, in the order of the split."""
        leaking, tested = (
            _images_by(slides, lambda slide: slide.subtype)
            for slides in (self.leaking, self.slides(TEST))
        )
        return {
            name: (leaking[name], tested[name]) for name in self.split.tumour_types if tested[name]
        }

    def row(self) -> dict[str, Any]:
        """Returns the values by column of ``COLUMNS``."""
        of_role = {role: self.slides(role) for role in ROLES}
        moved_to = _images_by(self.moved, lambda slide: self.role_of[slide.name])
        row: dict[str, Any] = {
            "split": self.split.name,
            "fold": self.fold if len(self.split.folds) > 1 else "",
            "version": "repaired" if self.repaired else "as published",
            "magnifications": " ".join(map(str, self.split.magnifications)),
            "classes": self.split.class_names,
            "leaking_accessions": _accessions(self.leaking),
            "leaking_test_images": _images(self.leaking),
            "leaking_by_tumour_type": ", ".join(
                f"{name} {leaking:,} of {tested:,}"
                for name, (leaking, tested) in self.by_tumour_type().items()
            ),
            "moved_images": _images(self.moved),
            "moved_accessions": _accessions(self.moved),
        }
        for role, slides in of_role.items():
            row[f"{role}_images"] = _images(slides)
            row[f"{role}_ids"] = len(slides)
            row[f"{role}_accessions"] = _accessions(slides)
            row[f"moved_to_{role}_images"] = moved_to[role]
        for label, name in enumerate(CLASS_NAMES):
            leaking, tested = (
                [slide for slide in slides if slide.label == label]
                for slides in (self.leaking, of_role[TEST])
            )
            row[f"leaking_test_{name}"], row[f"test_{name}"] = _images(leaking), _images(tested)
            row[f"test_accessions_{name}"] = _accessions(tested)
        return row


def all_leaks() -> list[Leaks]:
    """Returns the counts of every fold of every split, as published and then repaired."""
    return [
        Leaks(split, fold, repaired)
        for split in all_splits()
        if split.is_reproduced
        for fold in range(len(split.folds))
        for repaired in (False, True)
    ]


def describe(leaks: Sequence[Leaks]) -> str:
    """Returns the table of the splits as text, with remarks below."""
    rows = [found.row() for found in leaks]
    lines = text_table([_HEADER, *map(_cells, rows)], "<<<<<" + ">" * (len(_HEADER) - 6) + "<")
    lines += ["", "Leaking test images by tumour type, as published:"]
    lines += text_table(
        [
            (_fold_name(row), row["leaking_by_tumour_type"])
            for row, found in zip(rows, leaks, strict=True)
            if not found.repaired
        ]
    )
    remarks = [
        "Images, by id and by accession are given for training / validation / test. By id: slide "
        "folders, which these splits count as patients. Leaking: test images whose accession is in "
        "training or validation too. A split without a validation set takes one out of its "
        "training part when a network is trained.",
        *_copies(leaks),
        *(_left_out(split) for split in all_splits() if not split.is_reproduced),
    ]
    for remark in remarks:
        lines += ["", *textwrap.wrap(remark, 100)]
    return "\n".join(lines)


_HEADER = (
    "split",
    "fold",
    "version",
    "magnifications",
    "classes",
    "images",
    "by id",
    "by accession",
    "leaking",
    "benign",
    "malignant",
    "moved",
)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the cells of a line of the printed table."""
    is_all = row["magnifications"] == " ".join(map(str, MAGNIFICATIONS))
    return (
        row["split"],
        str(row["fold"]) or "-",
        row["version"],
        "all" if is_all else " ".join(f"{scale}X" for scale in row["magnifications"].split()),
        row["classes"],
        *(
            " / ".join(f"{row[f'{role}_{unit}']:,}" for role in ROLES)
            for unit in ("images", "ids", "accessions")
        ),
        f"{row['leaking_test_images']:,}",
        *(f"{row[f'leaking_test_{name}']:,} of {row[f'test_{name}']:,}" for name in CLASS_NAMES),
        _moves(row) if row["version"] == "repaired" else "",
    )


def _moves(row: Mapping[str, Any]) -> str:
    parts = [
        f"{row[f'moved_to_{role}_images']:,} to {_ROLE_NAMES[role]}"
        for role in ROLES
        if row[f"moved_to_{role}_images"]
    ]
    return (
        f"{row['moved_images']:,} images of {row['moved_accessions']} accessions: "
        f"{', '.join(parts)}"
    )


def _fold_name(row: Mapping[str, Any]) -> str:
    return row["split"] + (f", fold {row['fold']}" if row["fold"] != "" else "")


def _copies(leaks: Sequence[Leaks]) -> list[str]:
    """Returns a remark on each accession that is filed under two tumour types."""
    remarks = []
    for accession, slides in _filed_twice(leaks[0].split.slides).items():
        types = " and ".join(slide.subtype for slide in slides)
        number = slides[0].images
        counted = [
            _fold_name(found.row())
            for found in leaks
            if not found.repaired and accession in {slide.accession for slide in found.leaking}
        ]
        remarks.append(
            f"Accession {accession} is filed twice, as {types}, with {number} images each. The "
            "names show two slides, and both are counted here. Only the images show that they are "
            "identical: training and audits of images leave the second copy out. The leaking test "
            f"images above include {number} of this accession in {'; '.join(counted)}."
        )
    return remarks


def _filed_twice(slides: Iterable[Slide]) -> dict[str, list[Slide]]:
    """Returns the slides of each accession whose slides have the same number, and two types."""
    of_number: dict[str, list[Slide]] = {}
    for slide in slides:
        of_number.setdefault(slide.number, []).append(slide)
    return {found[0].accession: found for found in of_number.values() if len(found) > 1}


def _left_out(split: PublishedSplit) -> str:
    published, counted = (
        f"{images[TRAIN]:,} training and {images[TEST]:,} test images"
        for images in (split.published_images, split.images(0))
    )
    return (
        f"{split.name} is left out: its source gives {published}, but its identifiers give "
        f"{counted}. {split.note}"
    )


def _images(slides: Iterable[Slide]) -> int:
    return sum(slide.images for slide in slides)


def _accessions(slides: Iterable[Slide]) -> int:
    return len({slide.accession for slide in slides})


def _images_by(slides: Iterable[Slide], key: Callable[[Slide], str]) -> Counter[str]:
    counts = Counter[str]()
    for slide in slides:
        counts[key(slide)] += slide.images
    return counts
