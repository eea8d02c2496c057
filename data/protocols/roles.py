"""Which image trains, validates and tests: the protocols, and the promise each one keeps.

* ``strict``: k folds of accessions, stratified by class, so no patient of the test set was seen in
  training. The headline protocol. Patients are divided evenly, not images: one benign accession
  holds a fifth of all benign images, and folds of equal image counts would test on it alone.
* ``official``: the authors' five folds (Spanhol et al. 2016). They separate slide folders; ten
  accessions span several folders, so some patients stand on both sides.
* ``random``: k folds stratified by class over images. Leaks patients by design: the control that
  shows what leakage is worth.
* ``source``: the procedure of the notebook that claimed 98.29 % accuracy: a random fifth of the
  images that :func:`data.protocols.source_notebook.derive` has augmented and evened out by SMOTE
  already. Promises
  nothing: patients, blends of training images and second copies may all be tested on.

Every protocol carves its validation set out of its training part, by accession where the protocol
knows patients. All but ``source`` use each distinct image once: accession 14-13412 is filed twice,
as ductal and as lobular carcinoma, and its second copy is left out.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from data.breakhis.official import slide_table
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runs.run_files import EXCLUDED, TEST, TRAIN, VAL
from se_resnet.runs.run_files import ROLES as ROLES
from se_resnet.runs.run_files import read_split as read_split

SOURCE = "source"
PROTOCOLS = ("strict", "official", "random", SOURCE)
SEEN = (TRAIN, VAL)  # learned from, or chosen on
_OWN_FOLDS = {"official": 5, SOURCE: 1}


def assign_roles(
    records: Records, protocol: str, *, folds: int, fold: int, val_folds: int, seed: int
) -> np.ndarray:
    """Gives every image its role.

    Args:
        records: N images; for ``source`` those that :func:`data.protocols.source_notebook.derive`
            made, with ``row`` in the order that it gave them.
        protocol: ``strict``, ``official``, ``random`` or ``source``.
        folds: number of folds of ``strict`` and ``random``; ``official`` has five, ``source`` one.
        fold: which fold is the test set, from 0; ``official`` fold 0 is the authors' fold 1.
        val_folds: the training part is divided into so many folds and one becomes the validation
            set: 5 means a fifth.
        seed: decides the folds; ``official`` and ``source`` use it for the validation set only.

    Returns:
        ``str [N]``: ``train``, ``val``, ``test``, or ``excluded`` for the second copy of an image.

    Raises:
        UserError: a value out of range, too few accessions for the folds, slides that the
            authors' folds do not know, or images that are not what ``source`` divides.
    """
    folds = number_of_folds(protocol, folds)
    if not 0 <= fold < folds:
        choice = "choose 0" + (f" to {folds - 1}" if folds > 1 else "")
        raise UserError(f"config.split.fold = {fold} does not exist: {choice}.")
    if val_folds < 2:
        raise UserError(f"config.split.val_folds = {val_folds} trains on nothing: give 2 or more.")

    roles = np.full(len(records), EXCLUDED, dtype="<U8")
    used = np.arange(len(records)) if protocol == SOURCE else records.first_copies()
    images = records.take(used)
    grouped = protocol in ("strict", "official")
    if protocol == "official":
        is_test = _official_test_images(images, fold)
    elif protocol == SOURCE:
        is_test = _source_test_images(images)
    else:
        is_test = _fold(images, folds, fold, seed, grouped, "config.split.folds")
    roles[used] = np.where(is_test, TEST, TRAIN)
    rest = used[~is_test]
    is_val = _fold(
        records.take(rest),
        val_folds,
        0,
        seed,
        grouped,
        "config.split.val_folds",
    )
    roles[rest[is_val]] = VAL
    return roles


def number_of_folds(protocol: str, folds: int) -> int:
    """How many test sets a protocol has, given ``config.split.folds``.

    Raises:
        UserError: the protocol is unknown, or ``folds`` is below 2.
    """
    if protocol not in PROTOCOLS:
        raise UserError(
            f"config.split.protocol = {protocol!r} is unknown: choose from {', '.join(PROTOCOLS)}."
        )
    if protocol in _OWN_FOLDS:
        return _OWN_FOLDS[protocol]
    if folds < 2:
        raise UserError(f"config.split.folds = {folds} leaves no test set: give 2 or more.")
    return folds


def _fold(
    images: Records, folds: int, fold: int, seed: int, grouped: bool, option: str
) -> np.ndarray:
    """Marks the held-out images of one fold: ``bool [N]``."""
    # The unit that is divided: a patient with all images, or an image by itself.
    _, first, unit = np.unique(
        images.accession if grouped else images.file, return_index=True, return_inverse=True
    )
    label = images.label[first]
    for value, name in enumerate(CLASS_NAMES):
        available = int((label == value).sum())
        if available < folds:
            raise UserError(
                f"{folds} folds need {folds} {'accessions' if grouped else 'images'} of each "
                f"class, but there are only {available} {name} ones to divide: lower {option} or "
                "bring more data."
            )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(first, label)
    held_out = np.zeros(len(first), bool)
    held_out[list(parts)[fold][1]] = True
    return held_out[unit]


def _official_test_images(images: Records, fold: int) -> np.ndarray:
    role_of = {row["slide"]: row[f"fold{fold + 1}"] for row in slide_table()}
    unknown = sorted(set(images.slide.tolist()) - set(role_of))
    if unknown:
        raise UserError(
            f"the authors' folds do not know slide {', '.join(unknown[:5])}"
            f"{' and others' if len(unknown) > 5 else ''}: use config.split.protocol = 'strict'."
        )
    return np.array([role_of[slide] == TEST for slide in images.slide.tolist()])


def _source_test_images(images: Records) -> np.ndarray:
    """The notebook's own call on the images in its own order: ``bool [N]``."""
    benign, malignant = np.bincount(images.label, minlength=2)
    if benign != malignant:
        raise UserError(
            f"protocol 'source' divides images whose classes SMOTE has evened out, but these are "
            f"{benign} benign and {malignant} malignant: audit the split.csv of a run of train.py "
            "or choose another config.split.protocol."
        )
    _, test = train_test_split(np.argsort(images.row), test_size=0.2, random_state=42)
    is_test = np.zeros(len(images), bool)
    is_test[test] = True
    return is_test


def is_seen(roles: np.ndarray) -> np.ndarray:
    """``bool [N]``: the run has learned from these images or chosen its checkpoint on them."""
    return np.isin(roles, SEEN)
