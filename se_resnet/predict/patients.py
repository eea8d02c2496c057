"""Patients and magnifications in file names, and predictions by patient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np

from se_resnet.errors import UserError
from se_resnet.images.scale import BREAKHIS_UM_PER_PX
from se_resnet.input_gate.gate import WITHHELD

BREAKHIS_PATIENT = r"^SOB_[BM]_[A-Z]+-(\d+-\d+)"
_BREAKHIS_MAGNIFICATION = re.compile(r"^SOB_[BM]_[A-Z]+-\d+-\d+[A-Z]*-(\d+)-\d+\.")


class Predicted(Protocol):
    """The fields of a prediction that :func:`summarise_patients` needs."""

    @property
    def file(self) -> str:
        """Path of the image."""
        ...

    @property
    def patient(self) -> str:
        """The patient, or an empty string."""
        ...

    @property
    def probability(self) -> float:
        """Probability of malignant."""
        ...

    @property
    def call(self) -> str:
        """``benign``, ``malignant`` or ``withheld``."""
        ...


def check_pattern(pattern: str, option: str = "patient_pattern", noun: str = "patient") -> None:
    """Validates a regular expression that finds patients, or something else.

    Args:
        pattern: regular expression.
        option: name of the option, for the message.
        noun: what the first group is.

    Raises:
        UserError: the text is not a regular expression, or has no group.
    """
    try:
        if re.compile(pattern).groups < 1:
            raise re.error("it has no group in parentheses")
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"--{option}={pattern!r} cannot be used ({error}): give a regular expression whose "
            f"first group is the {noun}."
        ) from error


def patient_of(file: str, pattern: str) -> str:
    r"""Returns the patient in a path, or an empty string.

    The name is searched first, then the path. The patient is the first group with a match that is
    not empty.

    >>> patient_of("a/case_Q02.png", r"(P\d+)|(Q\d+)")
    'Q02'
    >>> patient_of("P1/a.png", r"(P\d)/")
    'P1'

    Args:
        file: path below the input, with ``/`` between folders.
        pattern: regular expression with a group.
    """
    for text in (PurePosixPath(file).name, file):
        for match in re.finditer(pattern, text):
            for group in match.groups():
                if group:
                    return group
    return ""


def magnification_of(file: str) -> int | None:
    """Returns the magnification that a BreaKHis file name states, or None for another name.

    >>> magnification_of("a/SOB_B_A-14-22549AB-40-001.png")
    40
    """
    match = _BREAKHIS_MAGNIFICATION.match(PurePosixPath(file).name)
    return int(match[1]) if match else None


def breakhis_scale(file: str) -> float | None:
    """Returns the scale of an image with a BreaKHis name in micrometres per pixel, or None.

    >>> breakhis_scale("a/SOB_B_A-14-22549AB-40-001.png")
    0.49
    """
    return BREAKHIS_UM_PER_PX.get(magnification_of(file) or 0)


def other_magnifications(files: Iterable[str], trained: Iterable[int]) -> dict[str, int]:
    """Counts images whose BreaKHis names state magnifications that a run was not trained on.

    >>> other_magnifications(["a/SOB_B_A-14-22549AB-40-001.png", "b.png"], [100, 200])
    {'40X': 1}
    """
    stated, known = map(magnification_of, files), {*trained}
    counts = Counter(value for value in stated if value is not None and value not in known)
    return {f"{magnification}X": counts[magnification] for magnification in sorted(counts)}


def summarise_patients(
    predictions: Sequence[Predicted], threshold: float, digests: Mapping[str, str] | None = None
) -> list[dict[str, str | int | float]]:
    """Summarises predictions by patient; several copies of an image count once.

    Args:
        predictions: predictions of the images.
        threshold: a patient is called malignant if the mean probability reaches this value.
        digests: digests of the decoded pixels by file; without a digest an image counts as
            distinct.

    Returns:
        One row per patient: number of images, number of images called malignant, mean probability,
        its call, number of copies that were left out, and number of images whose call is withheld.
        The mean leaves out images with a withheld call. If all are withheld, the mean is that of
        all images and the call of the patient is withheld too.
    """
    digests = digests or {}
    by_patient: dict[str, dict[str, Predicted]] = {}
    files: Counter[str] = Counter()
    for prediction in predictions:
        if patient := prediction.patient:
            files[patient] += 1
            key = digests.get(prediction.file, prediction.file)
            by_patient.setdefault(patient, {}).setdefault(key, prediction)
    rows: list[dict[str, str | int | float]] = []
    for patient, distinct in sorted(by_patient.items()):
        images = list(distinct.values())
        shown = [image for image in images if image.call != WITHHELD]
        mean = float(np.mean([image.probability for image in shown or images]))
        call = "malignant" if mean >= threshold else "benign"
        rows.append(
            {
                "patient": patient,
                "images": len(images),
                "called_malignant": sum(image.call == "malignant" for image in images),
                "mean_probability": mean,
                "call": call if shown else WITHHELD,
                "copies": files[patient] - len(images),
                "withheld": len(images) - len(shown),
            }
        )
    return rows
