"""Audits a split: finds what training, validation and test images share.

A test metric applies to unseen patients only if no image of the test patients was used for training
or validation. :func:`count_leaks` counts the leaks that a run reports with its results.
:func:`verify` and :func:`refuse_near_duplicates` refuse a split that breaks the promise of its
protocol. :func:`audit` checks everything: equal images, near-duplicates, slides, patients,
synthetic images and balance. The field names say ``accession`` where the patient is meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from data.protocols.near_duplicates import (
    HASH_BITS,
    NEAR_DISTANCE,
    count_near_duplicates,
    near_duplicates,
)
from data.protocols.roles import SEEN, SOURCE, is_seen
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.remarks import near_duplicate_warning
from se_resnet.runs.run_files import (
    EXCLUDED,
    NEAR_DUPLICATES,
    ROLES,
    STRICT,
    TEST,
    TRAIN,
    VAL,
    keeps_patients_apart,
)

UNASSIGNED = "unassigned"  # an image of the data set that the split does not list
_SEEN_VS_TEST = (SEEN, (TEST,))
_PAIRS = (*(((a,), (b,)) for a, b in combinations(ROLES, 2)), _SEEN_VS_TEST)
_LEVELS = {"image content": "digest", "slide": "slide", "accession": "accession"}


def count_leaks(records: Records, roles: np.ndarray) -> dict[str, int]:
    """Counts the leaks between roles.

    Returns:
        ``shared_images``: distinct images in more than one role. ``straddling_accessions``:
        patients of the test set that also train or validate. ``straddling_test_images``: the
        test images of those patients. ``synthetic_test_images``: test images that are not
        photographs. ``excluded_copies``: images left out whose content has a role.
    """
    is_copy = (roles == EXCLUDED) & np.isin(records.digest, records.digest[np.isin(roles, ROLES)])
    digests = [set(records.digest[roles == role].tolist()) for role in ROLES]
    straddling = _shared(records.accession, roles, *_SEEN_VS_TEST)
    return {
        "shared_images": sum(map(len, digests)) - len(set.union(*digests)),
        "straddling_accessions": len(set(records.accession[straddling].tolist())),
        "straddling_test_images": int((straddling & (roles == TEST)).sum()),
        "synthetic_test_images": int((records.is_synthetic & (roles == TEST)).sum()),
        "excluded_copies": int(is_copy.sum()),
    }


def verify(
    records: Records,
    roles: np.ndarray,
    protocol: str,
    repaired: bool = False,
    *,
    is_tested: bool = True,
) -> None:
    """Refuses a split that breaks the promise of its protocol or that cannot train a network.

    Args:
        records: N images.
        roles: ``str [N]``.
        protocol: ``config.split.protocol``.
        repaired: True for the repaired split of protocol ``published``.
        is_tested: False for a split that has no test set on purpose.

    Raises:
        UserError: an image has two roles (not under ``source``, which promises nothing), an
            patient has two roles under ``strict`` or in a ``repaired`` split, a role has no
            image, or the training set has one class.
    """
    counts = count_leaks(records, roles)
    if counts["shared_images"] and protocol != SOURCE:
        raise UserError(
            f"the split leaks: {counts['shared_images']} images have more than one role."
        )
    if keeps_patients_apart({"protocol": protocol, "repaired": repaired}):
        pairs = {*zip(records.accession.tolist(), roles.tolist(), strict=True)}
        roles_of = Counter(patient for patient, role in pairs if role != EXCLUDED)
        straddling = sorted(patient for patient, count in roles_of.items() if count > 1)
        if straddling:
            raise UserError(
                f"the split leaks: {_promiser(repaired)} promises unseen patients, but "
                f"{_many(len(straddling), 'patient')} in more than one role ({_some(straddling)})."
            )
    for role in ROLES if is_tested else SEEN:
        if not (roles == role).any():
            raise UserError(f"the split has no {role} image: bring more data or change the folds.")
    if len(set(records.label[roles == TRAIN].tolist())) < 2:
        raise UserError(
            "the training set has only one class: bring images of both, benign and malignant."
        )


def refuse_near_duplicates(pairs: Sequence[Mapping[str, Any]], repaired: bool = False) -> None:
    """Refuses pairs of different patients, which break the promise of unseen patients.

    Args:
        pairs: as :func:`data.protocols.near_duplicates.near_duplicates` returns them.
        repaired: True for a repaired split, False for protocol ``strict``.

    Raises:
        UserError: a pair has different patients; the nearest pair is named.
    """
    others = [pair for pair in pairs if not pair["same_accession"]]
    if not others:
        return
    first = others[0]
    raise UserError(
        f"{_promiser(repaired)} promises unseen patients, but the test image "
        f"{first['test_file']} shows nearly the same picture as the {first['role']} image "
        f"{first['file']} of another patient, {first['distance']} of {HASH_BITS} bits apart, "
        f"where up to {NEAR_DISTANCE} count as near: remove one image of each such pair "
        f"({len(others):,} in this split, listed by python -m data.protocols), or set "
        "config.split.allow_near_duplicates = True if they show different tissue."
    )


def _promiser(repaired: bool) -> str:
    return "a repaired split" if repaired else f"protocol '{STRICT}'"


def summarise(records: Records, roles: np.ndarray) -> list[dict]:
    """Returns ``role``, ``class``, ``images``, ``slides``, ``accessions`` by role and class.

    ``accessions`` is the number of patients.
    """
    return [
        {"role": role, "class": name, **_sizes(records.take((roles == role) & of_class))}
        for role in ROLES
        for name, of_class in _classes(records)
    ]


def audit(
    records: Records,
    roles: np.ndarray,
    images: np.ndarray,
    absent_synthetic: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Finds everything that test images share with training or validation images.

    Args:
        records: N images.
        roles: ``str [N]``: ``train``, ``val``, ``test``, ``excluded`` or ``unassigned``.
        images: ``uint8 [*, H, W, 3]`` RGB, the pixel array that ``records.row`` points into.
        absent_synthetic: number of synthetic images by role that the split lists and ``records``
            lack.

    Returns:
        A dict for JSON. ``verdict``, ``leaks`` and ``notes``: sentences. ``counts``: see
        :func:`count_leaks` and :func:`data.protocols.near_duplicates.count_near_duplicates`.
        ``overlap``: shared image content, slides and patients of each pair of roles, with names
        and numbers of images. ``near_duplicates``: pairs as in
        :func:`data.protocols.near_duplicates.near_duplicates`. ``synthetic``: synthetic images by
        role. ``balance``: images, slides and patients by role, class and magnification.
        ``filed_twice``: patients with more than one subtype, and the number of their images that
        are identical by content. ``unassigned``: file names.
    """
    absent = Counter(absent_synthetic or {})
    counts = count_leaks(records, roles)
    counts["synthetic_test_images"] += absent[TEST]
    pairs = near_duplicates(records, roles, images)
    near = count_near_duplicates(pairs)
    result = {
        "images": len(records),
        "counts": counts | near,
        "overlap": {
            level: [_overlap(records, getattr(records, column), roles, *pair) for pair in _PAIRS]
            for level, column in _LEVELS.items()
        },
        "near_duplicates": {
            "distance_at_most": NEAR_DISTANCE,
            "bits": HASH_BITS,
            "test_images": near[NEAR_DUPLICATES[0]],
            "test_images_near_another_accession": near[NEAR_DUPLICATES[1]],
            "pairs": pairs,
        },
        "synthetic": {
            role: int((records.is_synthetic & (roles == role)).sum()) + absent[role]
            for role in ROLES
        },
        "balance": _balance(records, roles),
        "filed_twice": _filed_twice(records, roles),
        "unassigned": records.file[roles == UNASSIGNED].tolist(),
    }
    leaks = _leaks(result)
    return {
        "verdict": _verdict(roles, leaks),
        "leaks": leaks,
        "notes": _notes(records, roles, result),
        **result,
    }


def _shared(
    keys: np.ndarray, roles: np.ndarray, left: tuple[str, ...], right: tuple[str, ...]
) -> np.ndarray:
    """Marks the images of both sides whose key is on both sides: ``bool [N]``."""
    in_left, in_right = np.isin(roles, left), np.isin(roles, right)
    common = np.intersect1d(keys[in_left], keys[in_right])
    return np.isin(keys, common) & (in_left | in_right)


def _overlap(
    records: Records,
    keys: np.ndarray,
    roles: np.ndarray,
    left: tuple[str, ...],
    right: tuple[str, ...],
) -> dict[str, Any]:
    shared = _shared(keys, roles, left, right)
    # A digest means nothing to a reader: content is named by its files.
    named = records.file if keys is records.digest else keys
    return {
        "roles": ["+".join(left), "+".join(right)],
        "shared": len(set(keys[shared].tolist())),
        "images": [int((shared & np.isin(roles, side)).sum()) for side in (left, right)],
        "names": sorted(set(named[shared].tolist())),
    }


def _sizes(part: Records) -> dict[str, int]:
    return {
        "images": len(part),
        "slides": len(set(part.slide.tolist())),
        "accessions": len(set(part.accession.tolist())),
    }


def _classes(records: Records) -> list[tuple[str, np.ndarray]]:
    return [(name, records.label == label) for label, name in enumerate(CLASS_NAMES)]


def _balance(records: Records, roles: np.ndarray) -> list[dict[str, Any]]:
    """Returns rows by role, class and magnification, which is None for all together."""
    return [
        {"role": role, "class": name, "magnification": magnification, **_sizes(records.take(part))}
        for role in (*ROLES, EXCLUDED, UNASSIGNED)
        for name, of_class in _classes(records)
        if role in ROLES or (of_class & (roles == role)).any()
        for magnification in (*np.unique(records.magnification).tolist(), None)
        for part in [
            (roles == role)
            & of_class
            & (magnification is None or records.magnification == magnification)
        ]
    ]


def _filed_twice(records: Records, roles: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for accession in np.unique(records.accession).tolist():
        of_accession = records.accession == accession
        part = records.take(of_accession & ~records.is_synthetic)
        if len(set(part.subtype.tolist())) < 2:
            continue
        copies = Counter(part.digest.tolist())
        rows.append(
            {
                "accession": accession,
                "slides": dict(Counter(part.slide.tolist())),
                "subtypes": dict(Counter(part.subtype.tolist())),
                "identical_images": sum(count > 1 for count in copies.values()),
                "excluded": int((of_accession & (roles == EXCLUDED)).sum()),
            }
        )
    return rows


def _leaks(result: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each kind of leak into the test set."""
    content, slide, patient = (rows[-1] for rows in result["overlap"].values())
    synthetic = result["synthetic"]
    leaks = []
    if content["shared"]:
        leaks.append(
            f"{_many(content['images'][1], 'test image')} also in training or validation, by "
            "identical pixels."
        )
    if warning := near_duplicate_warning(result["counts"]):
        leaks.append(warning)
    for row, noun in ((slide, "slide"), (patient, "patient")):
        if row["shared"]:
            leaks.append(
                f"{_many(row['shared'], noun)} in the test set, with "
                f"{_number(row['images'][1], 'image')}, and in training or validation too "
                f"({_some(row['names'])})."
            )
    if synthetic[TEST]:
        leaks.append(f"{_many(synthetic[TEST], 'test image')} synthetic: blends, not photographs.")
    return leaks


def _notes(records: Records, roles: np.ndarray, result: Mapping[str, Any]) -> list[str]:
    notes = [
        f"patient {row['accession']} is filed as {_filed_as(row)}: "
        f"{row['identical_images']} of the patient's images identical by content, "
        f"{row['excluded']} of them left out."
        for row in result["filed_twice"]
        if row["identical_images"]
    ]
    if excluded := int((roles == EXCLUDED).sum()):
        notes.append(f"{_many(excluded, 'image')} excluded from every role.")
    if unassigned := result["unassigned"]:
        notes.append(
            f"{_many(len(unassigned), 'image')} unassigned: the split does not list "
            f"{_some(unassigned)}."
        )
    if shared := result["overlap"]["accession"][0]["shared"]:
        notes.append(
            f"{_many(shared, 'patient')} in both training and validation: what is chosen on "
            "validation is chosen on known patients."
        )
    for role in (TRAIN, VAL):
        if not (roles == role).any():
            notes.append(f"the split has no {role} image.")
    notes += [
        f"the test set has no {name} image."
        for name, of_class in _classes(records)
        if (roles == TEST).any() and not (of_class & (roles == TEST)).any()
    ]
    return notes


def _filed_as(row: Mapping[str, Any]) -> str:
    """Returns the slides of a patient, or the subtypes where the slides are not known."""
    return " and ".join(row["slides"] if len(row["slides"]) > 1 else row["subtypes"])


def _verdict(roles: np.ndarray, leaks: list[str]) -> str:
    if not (roles == TEST).any():
        return "nothing to judge: the split has no test image."
    if not is_seen(roles).any():
        return "nothing to judge: the split has neither training nor validation images."
    if leaks:
        return (
            "NOT clean: metrics on this test set do not show how well unseen patients are "
            "diagnosed, for the reasons above."
        )
    return (
        "clean for unseen patients: no image, slide or patient of the test set trains or "
        "validates, no near-duplicate was found, and no test image is synthetic."
    )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _many(count: int, noun: str) -> str:
    """Returns for example ``1 image is`` or ``2 images are``."""
    return f"{_number(count, noun)} {'is' if count == 1 else 'are'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
