"""The flow of images, slides and patients through a study, as STARD 2015 asks for.

Bossuyt et al., "STARD 2015: an updated list of essential items for reporting diagnostic accuracy
studies", BMJ 2015;351:h5527, item 19.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.reporting.study import Sizes, Study, is_synthetic, of_class, sizes
from se_resnet.runs.run_files import ROLES

COLUMNS = ("stage", "fold", "role", "class", "reason", "images", "slides", "patients")
CLASSES = ("all", *CLASS_NAMES)
FOUND, LEFT_OUT, ADDED, USED, ASSIGNED, EVALUATED = (
    "found",
    "left out",
    "added",
    "used",
    "assigned",
    "evaluated",
)
COPY = "copy of another image"
MAGNIFICATION = "other magnification"
MAGNIFICATION_OF_ROLE = "magnification that its role does not take"
NOT_TAKEN = "not taken by the protocol"


@dataclasses.dataclass(frozen=True)
class Count:
    """One row of ``flow.csv``.

    Attributes:
        stage: ``found``, ``left out``, ``added``, ``used``, ``assigned`` or ``evaluated``.
        sizes: images, slides and patients.
        fold: number of the fold in a cross-validation, or an empty text.
        role: ``train``, ``val`` or ``test``, or an empty text.
        class_name: ``all``, ``benign`` or ``malignant``.
        reason: for images left out.
    """

    stage: str
    sizes: Sizes
    fold: str = ""
    role: str = ""
    class_name: str = "all"
    reason: str = ""

    def row(self) -> dict[str, object]:
        """Returns the values by column of ``COLUMNS``."""
        values = (self.stage, self.fold, self.role, self.class_name, self.reason)
        counts = dataclasses.astuple(self.sizes)
        return dict(zip(COLUMNS, (*values, *("" if n is None else n for n in counts)), strict=True))


def count_flow(study: Study) -> list[Count]:
    """Counts images, slides and patients at each stage, from the files found to the evaluation.

    Slides and patients of unreadable files and of other magnifications are not known: the files of
    a run hold their number only.
    """
    return [*_until_used(study), *_assigned(study), *_evaluated(study)]


def _until_used(study: Study) -> Iterator[Count]:
    first = study.first
    unreadable = Counter(row["reason"] for row in first.skipped)
    found = study.found
    everything = dataclasses.replace(found, images=found.images + unreadable.total())
    yield Count(FOUND, everything)
    for reason, number in sorted(unreadable.items()):
        yield Count(LEFT_OUT, Sizes(number, None, None), reason=f"unreadable ({reason})")
    if number := study.other_magnifications:
        yield Count(LEFT_OUT, Sizes(number, None, None), reason=MAGNIFICATION)
    if number := study.not_taken:
        yield Count(LEFT_OUT, Sizes(number, None, None), reason=NOT_TAKEN)
    if number := study.excluded_by_magnification:
        yield Count(LEFT_OUT, Sizes(number, None, None), reason=MAGNIFICATION_OF_ROLE)
    if study.copies.images:
        yield Count(LEFT_OUT, study.copies, reason=COPY)
    if synthetic := [row for row in first.rows if is_synthetic(row)]:
        yield Count(ADDED, sizes(synthetic), reason="synthetic image, made before the division")
    for name in CLASSES:
        yield Count(USED, sizes(of_class(study.used, name)), class_name=name)


def _assigned(study: Study) -> Iterator[Count]:
    for number, training in enumerate(study.trainings):
        fold = str(number) if study.is_cross_validation else ""
        for role in ROLES:
            for name in CLASSES:
                counted = sizes(of_class(training.role(role), name))
                yield Count(ASSIGNED, counted, fold, role, name)


def _evaluated(study: Study) -> Iterator[Count]:
    rows = study.evaluated
    for name in CLASSES:
        yield Count(EVALUATED, sizes(of_class(rows, name)), class_name=name)


def times_tested(study: Study) -> dict[int, int]:
    """Returns the number of patients by the number of folds that test them.

    A cross-validation by patient gives ``{1: all patients}``.
    """
    folds = Counter[str]()
    for training in study.trainings:
        folds.update({row["accession"] for row in training.role("test")})
    return dict(sorted(Counter(folds.values()).items()))
