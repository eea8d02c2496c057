"""Sentences about the images, the patients and their division.

Each function returns one or more whole sentences whose numbers come from the files of the run. A
fact that the files lack is named as not recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.reporting.flow import times_tested
from se_resnet.report.reporting.study import (
    ROLE_NAMES,
    Row,
    Study,
    is_synthetic,
    of_class,
    scale_of,
    sizes,
)
from se_resnet.report.reporting.wording import (
    UNEVALUATED,
    listing,
    plural,
    recorded,
    sentence,
    span,
)
from se_resnet.runs.run_files import NEAR_DUPLICATES, PUBLISHED, TEST, TRAIN

_REPAIRED = (
    "The division followed a published split, which separates slides, after patients with slides "
    "in several parts were moved to one part"
)
_PROTOCOLS = {
    "strict": "Patients were assigned to the parts at random, stratified by class, so that all "
    "images of a patient lie in one part",
    "official": "The division followed the five folds of the authors of BreaKHis, which separate "
    "slides, so that a patient with several slides can lie in more than one part",
    "published": "The division followed a published split, which separates slides, so that a "
    "patient with several slides can lie in more than one part",
    "random": "Images were assigned to the parts at random, stratified by class, so that images of "
    "a patient lie in several parts",
    "table": "The roles of the images in the division were given by the user, not assigned by the "
    "software",
    "source": "Images were augmented and balanced first and then divided at random, so that images "
    "of a patient, and blends of images, lie in several parts",
}


def data_set(study: Study) -> str:
    """Describes the images that were used, and the data set that they come from."""
    used = sizes(study.used)
    benign, malignant = (sizes(of_class(study.used, name)) for name in CLASS_NAMES)
    is_breakhis = study.source.is_breakhis
    slides = "" if used.slides is None else f" of {plural(used.slides, 'slide')}"
    classes = "with {} tumours" if is_breakhis else "of the class {}"
    text = (
        f"The study used {plural(used.images, 'histology image' if is_breakhis else 'image')}"
        f"{slides} from {plural(used.patients or 0, 'patient')}: "
        f"{plural(benign.images, 'image')} of {plural(benign.patients or 0, 'patient')} "
        f"{classes.format('benign')} and {plural(malignant.images, 'image')} of "
        f"{plural(malignant.patients or 0, 'patient')} {classes.format('malignant')}."
    )
    if synthetic := sum(map(is_synthetic, study.used)):
        text += f" Synthetic are {synthetic:,} of them."
    if not is_breakhis:
        return f"{text} {_table(study)}"
    return f"{text} {_breakhis(study)}"


def _table(study: Study) -> str:
    """Names the table, the meaning of its labels, and the rule that separates patients."""
    text = f"They are listed in the table {study.source.name}."
    if classes := study.source.explain_classes():
        text += f" In this table, {classes}."
    if study.setting("data.patient") == "file":
        return f"{text} Each image counts as its own patient."
    return text


def _breakhis(study: Study) -> str:
    """Describes the relation of the images to the complete BreaKHis."""
    description = study.first.data["description"]
    text = ""
    if "not in the official list" in description:
        text += " The files are named as in BreaKHis, but not all of them are images of BreaKHis."
    elif description.startswith("complete:"):
        text += " They are the complete BreaKHis data set (Spanhol et al. 2016)."
    elif description.startswith("subset:"):
        text += " They are a subset of the BreaKHis data set (Spanhol et al. 2016)."
    if study.setting("data.dir") == "sample":
        text += " This sample ships with the software."
    return f"{text} {sentence('An accession number stands for a patient')}".strip()


def magnifications(rows: Sequence[Row]) -> str:
    """Describes the magnifications of images, with the number of images at each."""
    counts = Counter(map(scale_of, rows))
    unknown = counts.pop(0, 0)
    if not counts:
        return "The magnification of the images is not recorded."
    parts = listing(f"{number:,} at {scale}x" for scale, number in sorted(counts.items()))
    text = f"The images were taken at {plural(len(counts), 'magnification')}: {parts}."
    if unknown:
        text += f" The magnification of {plural(unknown, 'image')} is not recorded."
    return text


def left_out(study: Study) -> str:
    """Describes the files and images that were left out, with the reasons."""
    first = study.first
    parts = []
    if first.skipped:
        misnamed = " or was misnamed" if study.source.is_breakhis else ""
        parts.append(f"{plural(len(first.skipped), 'file')} that could not be read{misnamed}")
    if number := study.other_magnifications:
        parts.append(f"{plural(number, 'image')} of other magnifications")
    if number := study.not_taken:
        parts.append(f"{plural(number, 'image')} that the protocol does not take")
    if number := study.excluded_by_magnification:
        parts.append(f"{plural(number, 'image')} of magnifications that their role lacks")
    if number := study.copies.images:
        parts.append(plural(number, "copy of another image", "copies of other images"))
    return sentence(f"the study left out {listing(parts)}" if parts else "no image was left out")


def partition(study: Study) -> str:
    """Describes the division into training, validation and test, without the numbers."""
    protocol = study.setting("split.protocol")
    text = _PROTOCOLS.get(protocol, "The rule of the division is not known to this version")
    if protocol == PUBLISHED and study.setting("split.repaired"):
        text = _REPAIRED
    parts = [f"protocol '{protocol}'"]
    if protocol == PUBLISHED:
        parts.append(f"split '{study.setting('split.name')}'")
    if protocol in ("strict", "random"):
        parts.append(f"{study.setting('split.folds')} folds")
    if protocol == "table":
        return f"{sentence(text)} {_given(study)}"
    if not study.is_cross_validation:
        parts.append(f"fold {study.setting('split.fold')} for testing")
    val_folds = study.setting("split.val_folds")
    share = f"one of {val_folds} parts of the rest for validation"
    if study.members > 1:
        share = f"for each of {study.members} networks another of {val_folds} parts of the rest"
        share += " for validation"
    own_set = "the validation set of the split or, without it, " if protocol == PUBLISHED else ""
    parts.append("validation share not recorded" if val_folds is None else f"{own_set}{share}")
    for role, names in ((TRAIN, "training and validation"), (TEST, "test")):
        if scales := study.magnifications_of(role):
            parts.append(f"{names} images at {listing(f'{scale}x' for scale in scales)} only")
    parts.append(f"seed {recorded(study.setting('split.seed'))}")
    return sentence(f"{text} ({', '.join(parts)})")


def _given(study: Study) -> str:
    """Names the origin of given roles, and the patients and images that the parts share."""
    if study.setting("split.file"):
        origin = "a table with a role for each image"
    else:
        column = "fold" if "fold" in study.first.rows[0] else "role"
        origin = f"the column '{column}' of {study.source.name}"
    audits = [training.data["audit"] for training in study.trainings]
    patients = span(audit["straddling_accessions"] for audit in audits)
    images = span(audit["shared_images"] for audit in audits)
    where = " in a fold" if study.is_cross_validation else ""
    parts, seed = study.setting("split.val_folds"), study.setting("split.seed")
    return (
        f"They come from {origin} (protocol 'table'). If they name no validation images, one of "
        f"{recorded(parts)} parts of the training images, by whole patients, became the validation "
        f"set (seed {recorded(seed)}). The audit of the division counted{where}: patients of the "
        f"test set with training or validation images: {patients}; images in more than one part: "
        f"{images}."
    )


def partition_sizes(study: Study) -> str:
    """States images and patients of each part, as ranges over the folds of a cross-validation."""
    parts: list[str] = []
    for role, name in ROLE_NAMES.items():
        groups = [training.role(role) for training in study.trainings]
        by_class = listing(
            f"{span(sizes(of_class(rows, label)).patients or 0 for rows in groups)} {label}"
            for label in CLASS_NAMES
        )
        parts.append(
            f"the {name} set {'' if parts else 'had '}{span(len(rows) for rows in groups)} images "
            f"of {span(sizes(rows).patients or 0 for rows in groups)} patients ({by_class})"
        )
    text = sentence(listing(parts))
    if study.members > 1:
        text += " " + sentence(
            f"training and validation are those of the first of {study.members} networks, and "
            "differ between the networks"
        )
    if not study.is_cross_validation:
        return text
    times = times_tested(study)
    if set(times) == {1}:
        tested = "each patient was tested once"
    else:
        tested = listing(f"{plural(n, 'patient')} in {plural(k, 'fold')}" for k, n in times.items())
        tested = f"tested were {tested}"
    count = len(study.trainings)
    return f"{text} {sentence(f'These are the ranges over {count} folds; {tested}')}"


def overlap(study: Study) -> str:
    """States what training or validation shares with the evaluated images, by the audit."""
    audit = study.metrics.get("audit")
    if not audit:
        return sentence(f"The overlap of the parts is {UNEVALUATED}")
    text = (
        f"{_no(audit['shared_images'], 'image')} lay in more than one part, and "
        f"{_no(audit['straddling_accessions'], 'test patient')} also had training or validation "
        "images"
    )
    near, elsewhere = (audit.get(name) for name in NEAR_DUPLICATES)
    if near is not None and elsewhere is not None:
        text += (
            f"; a perceptual hash found {_no(near, 'test image')} nearly the same as a training or "
            "validation image"
        )
        if near:
            text += f", {elsewhere or 'none'} of them of another patient"
    seen = audit.get("evaluated_images_seen")
    if seen:
        text += f"; {plural(seen, 'evaluated image')} had been used in training or validation"
    return sentence(text)


def _no(number: int, noun: str) -> str:
    """Returns a number and its noun, with ``no`` for 0."""
    return plural(number, noun) if number else f"no {noun}"
