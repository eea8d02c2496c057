"""Reads the published splits: the role of every slide in every fold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from data.breakhis.official import slide_table
from data.protocols.published.repair import repair
from data.protocols.published.slides import Slide, slides_of
from se_resnet.errors import UserError
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runs.run_files import ROLES, TEST, TRAIN, VAL
from se_resnet.runtime.files import read_json
from se_resnet.runtime.schema import Maybe

TUMOUR_TYPE_CLASSES = "tumour types"
_FORM = {
    **dict.fromkeys(("title", "licence", "note", "classes"), str),
    "source": dict.fromkeys(("repository", "file", "commit"), str),
    "magnifications": [int],
    "tumour_types": [str],
    "published_images": Maybe({str: int}),
    "columns_of_slides_csv": Maybe([str]),
    "test": Maybe([str]),
    "validation": Maybe([[str]]),
}


@dataclasses.dataclass(frozen=True)
class PublishedSplit:
    """A split that somebody published.

    Attributes:
        name: short name, for ``config.split.name``.
        title: what the split is, for people.
        source: ``repository``, ``file`` and ``commit``.
        licence: a remark.
        note: how the identifiers are read, and other remarks.
        magnifications: the magnifications of its images.
        tumour_types: the tumour types of its images.
        has_tumour_type_classes: True where the tumour types are the classes, False where benign and
            malignant are.
        published_images: number of images by role, as the source gives them; empty if it does not.
        slides: the slides of these tumour types, in the order of the official table.
        folds: for each fold the role of every slide, by name.
    """

    name: str
    title: str
    source: Mapping[str, str]
    licence: str
    note: str
    magnifications: tuple[int, ...]
    tumour_types: tuple[str, ...]
    has_tumour_type_classes: bool
    published_images: Mapping[str, int]
    slides: tuple[Slide, ...]
    folds: tuple[Mapping[str, str], ...]

    @cached_property
    def repaired_folds(self) -> tuple[Mapping[str, str], ...]:
        """The folds with every accession in one role, see :func:`repair`."""
        return repair(self.folds, self.slides, self.class_of)

    def roles(self, fold: int, repaired: bool) -> Mapping[str, str]:
        """Returns the role of every slide of the split in a fold, which counts from 0."""
        return (self.repaired_folds if repaired else self.folds)[fold]

    @property
    def has_validation(self) -> bool:
        """True if the split has a validation set."""
        return VAL in self.folds[0].values()

    @property
    def class_names(self) -> str:
        """The classes, for people."""
        return ", ".join(self.tumour_types if self.has_tumour_type_classes else CLASS_NAMES)

    def class_of(self, slide: Slide) -> str:
        """Returns the class of a slide: its tumour type, or benign or malignant."""
        return slide.subtype if self.has_tumour_type_classes else CLASS_NAMES[slide.label]

    def images(self, fold: int, repaired: bool = False) -> Mapping[str, int]:
        """Returns the number of images by role: ``train``, ``val``, ``test``."""
        counts = Counter(dict.fromkeys(ROLES, 0))
        role_of = self.roles(fold, repaired)
        for slide in self.slides:
            counts[role_of[slide.name]] += slide.images
        return counts

    @property
    def is_reproduced(self) -> bool:
        """True unless the numbers of images differ from those that the source gives."""
        return all(self.images(0)[role] == number for role, number in self.published_images.items())


@cache
def all_splits() -> tuple[PublishedSplit, ...]:
    """Returns all splits, by name, also those that do not give their published numbers."""
    return tuple(_read(path) for path in sorted(Path(__file__).parent.glob("*.json")))


@cache
def find(name: str) -> PublishedSplit:
    """Returns the split of this name.

    Raises:
        UserError: the name is unknown, or the split does not give its published numbers of images.
    """
    split_of = {split.name: split for split in all_splits()}
    usable = ", ".join(split.name for split in all_splits() if split.is_reproduced)
    if name not in split_of:
        raise UserError(
            f"config.split.name = {name!r} is not a published split: choose from {usable}."
        )
    if not split_of[name].is_reproduced:
        raise UserError(
            f"config.split.name = {name!r} cannot be used, because its identifiers do not give its "
            "published numbers of images (python -m data.protocols --published prints both): "
            f"choose from {usable}."
        )
    return split_of[name]


def check_magnifications(split: PublishedSplit, magnifications: Sequence[int]) -> None:
    """Refuses magnifications at which a split has no image. No magnification stands for all.

    Raises:
        UserError: the split has images of other magnifications only.
    """
    if magnifications and not set(magnifications) & set(split.magnifications):
        has, given = (", ".join(map(str, some)) for some in (split.magnifications, magnifications))
        raise UserError(
            f"config.data.magnifications = {given} leaves no image, because published split "
            f"{split.name!r} has images of magnification {has} only: include one of these."
        )


def _read(path: Path) -> PublishedSplit:
    content = read_json(path, _FORM)
    magnifications = tuple(content["magnifications"])
    slides = slides_of(content["tumour_types"], magnifications)
    if columns := content.get("columns_of_slides_csv"):
        folds = [{row["slide"]: row[column] for row in slide_table()} for column in columns]
    else:
        test = _named(content["test"], slides)
        validation = [_named(names, slides) for names in content.get("validation", [[]])]
        folds = [dict.fromkeys((slide.name for slide in slides), TRAIN) for _ in validation]
        for fold, names in zip(folds, validation, strict=True):
            fold |= {**dict.fromkeys(names, VAL), **dict.fromkeys(test, TEST)}
    return PublishedSplit(
        name=path.stem,
        title=content["title"],
        source=content["source"],
        licence=content["licence"],
        note=content["note"],
        magnifications=magnifications,
        tumour_types=tuple(content["tumour_types"]),
        has_tumour_type_classes=content["classes"] == TUMOUR_TYPE_CLASSES,
        published_images=content.get("published_images", {}),
        slides=slides,
        folds=tuple(folds),
    )


def _named(identifiers: Sequence[str], slides: Sequence[Slide]) -> list[str]:
    """Returns the names of slides given by name or by number.

    Raises:
        ValueError: an identifier names no slide, or several.
    """
    names = []
    for identifier in identifiers:
        found = [slide.name for slide in slides if identifier in (slide.name, slide.number)]
        if len(found) != 1:
            raise ValueError(f"{identifier} names {len(found)} slides")
        names += found
    return names
