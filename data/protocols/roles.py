"""Assigns images to training, validation and test, by a protocol with a promise.

* ``strict``: k folds of accessions, stratified by class, so that training sees no patient of the
  test set. The headline protocol. It divides patients evenly, not images: one benign accession has
  a fifth of all benign images, and with equal numbers of images a fold would test on it only.
* ``official``: the authors' five folds (Spanhol et al. 2016). They separate slide folders. Ten
  accessions have several folders, so some patients are in both training and test.
* ``random``: k folds of images, stratified by class. Leaks patients by design, as the control that
  shows the effect of leakage.
* ``source``: the procedure of the notebook that claimed 98.29 % accuracy: a random fifth of the
  images that :func:`data.protocols.source_notebook.derive` has augmented and balanced by SMOTE
  before. Promises nothing: the test may contain known patients, blends of training images and
  second copies.
* ``published``: a split that somebody published, see :mod:`data.protocols.published`. These leak
  patients, unless they are repaired: then every accession has one role, as under ``strict``.
* ``table``: roles or folds that the user gives, see :mod:`data.protocols.given_roles`. Promises
  nothing by itself: leaks are counted and reported.

Every protocol takes its validation set from its training part, by accession under ``strict``,
``official``, ``published`` and ``table``, unless the split or the table gives one. All protocols
except ``source`` use each distinct image once: accession 14-13412 is filed twice, as ductal and as
lobular carcinoma, and its second copy is left out.
"""

from __future__ import annotations

import numpy as np

from data.breakhis.official import slide_table
from data.protocols.given_roles import given_roles
from data.protocols.published.assignment import published_roles
from data.protocols.published.splits import find
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.runs.run_files import EXCLUDED, NO_FOLD, PUBLISHED, TEST, TRAIN, VAL

SOURCE, TABLE = "source", "table"
PROTOCOLS = ("strict", "official", "random", SOURCE, PUBLISHED, TABLE)
SEEN = (TRAIN, VAL)  # used for training or for the choice of a checkpoint
_FOLDS = "config.split.folds"
_FIXED_FOLDS = {"official": 5, SOURCE: 1}
_DIVIDED = ("strict", "random")  # divide all images into equal folds


def assign_roles(
    records: Records,
    protocol: str,
    *,
    folds: int,
    fold: int | None,
    val_folds: int,
    seed: int,
    val_fold: int = 0,
    file: str = "",
    name: str = "",
    repaired: bool = False,
) -> np.ndarray:
    """Returns the role of every image.

    Args:
        records: N images; for ``source`` the images of
            :func:`data.protocols.source_notebook.derive`, with its order in ``row``.
        protocol: a name of ``PROTOCOLS``.
        folds: number of folds of ``strict`` and ``random``. ``official`` has five folds, ``source``
            has one, ``published`` those of the split.
        fold: number of the test fold, from 0. Fold 0 of ``official`` is fold 1 of the authors. None
            for no test set, under ``strict`` and ``random``: all images train or validate.
        val_folds: number of parts of the training part. One part validates: 5 means a fifth.
        val_fold: number of the part that validates, from 0.
        seed: seed of the folds. ``official``, ``source``, ``published`` and ``table`` use it only
            for the validation set.
        file: table of roles of protocol ``table``, see :mod:`data.protocols.given_roles`.
        name: split of protocol ``published``.
        repaired: True for the repaired split of protocol ``published``.

    Returns:
        ``str [N]``: ``train``, ``val``, ``test``, or ``excluded`` for the second copy of an image
        and for an image without a role in a table or published split.

    Raises:
        UserError: a value is out of range, the accessions are too few for the folds, the authors'
            folds lack a slide, the images are not those of ``source``, there are no roles of
            ``table``, or the images lack a role of the published split.
    """
    folds = number_of_folds(protocol, folds, name)
    check_split(protocol, folds, fold, val_folds, file, name, repaired, val_fold)
    roles = np.full(len(records), EXCLUDED, dtype="<U8")
    if protocol in (TABLE, PUBLISHED):
        if protocol == TABLE:
            given = given_roles(records, file, folds, fold or 0)
        else:
            given = published_roles(records, find(name), fold or 0, repaired)
        listed = np.flatnonzero(given != EXCLUDED)
        used = listed[records.take(listed).first_copies()]
        if (given == VAL).any():
            if val_fold:
                raise UserError(
                    f"config.split.val_fold = {val_fold} does not exist, because the split gives "
                    "its validation images itself, as it does to all members of an ensemble: leave "
                    "config.split.val_fold and config.ensemble.members out."
                )
            roles[used] = given[used]
            return roles
    else:
        used = np.arange(len(records)) if protocol == SOURCE else records.first_copies()
    images = records.take(used)
    grouped = protocol in ("strict", "official", TABLE, PUBLISHED)
    if fold is None:
        is_test = np.zeros(len(used), bool)
    elif protocol in (TABLE, PUBLISHED):
        is_test = given[used] == TEST
    elif protocol == "official":
        is_test = _official_test_images(images, fold)
    elif protocol == SOURCE:
        is_test = _source_test_images(images)
    else:
        is_test = mark_fold(images, folds, fold, seed, grouped, _FOLDS)
    roles[used] = np.where(is_test, TEST, TRAIN)
    rest = used[~is_test]
    is_val = mark_fold(
        records.take(rest),
        val_folds,
        val_fold,
        seed,
        grouped,
        "config.split.val_folds",
    )
    roles[rest[is_val]] = VAL
    return roles


def check_split(
    protocol: str,
    folds: int,
    fold: int | None,
    val_folds: int,
    file: str,
    name: str = "",
    repaired: bool = False,
    val_fold: int = 0,
) -> None:
    """Checks arguments of :func:`assign_roles`, without images.

    Raises:
        UserError: a fold does not exist, ``val_folds`` is below 2, the protocol needs a test set,
            ``file`` is given for another protocol than ``table``, or ``name`` or ``repaired`` for
            another than ``published``.
    """
    if fold is None and protocol not in _DIVIDED:
        raise UserError(
            f"config.split.fold = '{NO_FOLD}' trains on all images, and config.split.protocol = "
            f"{protocol!r} has its own test images: set the protocol to 'strict', or give a fold."
        )
    if fold is not None and not 0 <= fold < folds:
        choice = "choose 0" + (f" to {folds - 1}" if folds > 1 else "")
        raise UserError(f"config.split.fold = {fold} does not exist: {choice}.")
    if val_folds < 2:
        raise UserError(
            f"config.split.val_folds = {val_folds} leaves no training images: give 2 or more."
        )
    if not 0 <= val_fold < val_folds:
        raise UserError(
            f"config.split.val_fold = {val_fold} does not exist: choose 0 to {val_folds - 1}, as "
            f"config.split.val_folds = {val_folds}."
        )
    if file and protocol != TABLE:
        raise UserError(
            f"config.split.file = {file!r} is for config.split.protocol = {TABLE!r}: set it, or "
            "leave the file out."
        )
    for option, value in (("name", name), ("repaired", repaired)):
        if value and protocol != PUBLISHED:
            raise UserError(
                f"config.split.{option} = {value!r} is for config.split.protocol = {PUBLISHED!r}: "
                f"set it, or leave config.split.{option} out."
            )


def number_of_folds(protocol: str, folds: int, name: str = "") -> int:
    """Returns the number of folds of a protocol.

    Args:
        protocol: as in :func:`assign_roles`.
        folds: ``config.split.folds``.
        name: ``config.split.name``, of protocol ``published``.

    Raises:
        UserError: the protocol or the name is unknown, or ``folds`` is below 2.
    """
    if protocol not in PROTOCOLS:
        raise UserError(
            f"config.split.protocol = {protocol!r} is unknown: choose from {', '.join(PROTOCOLS)}."
        )
    if protocol == PUBLISHED:
        return len(find(name).folds)
    if protocol in _FIXED_FOLDS:
        return _FIXED_FOLDS[protocol]
    if folds < 2:
        raise UserError(f"config.split.folds = {folds} leaves no test set: give 2 or more.")
    return folds


def mark_fold(
    images: Records, folds: int, fold: int, seed: int, grouped: bool, option: str
) -> np.ndarray:
    """Marks the held-out images of one of several folds, which are stratified by class.

    Args:
        images: N images.
        folds: number of folds.
        fold: number of the fold, from 0.
        seed: of the division.
        grouped: True to divide patients, each with all images; False to divide images.
        option: name of the number of folds, for the message.

    Returns:
        ``bool [N]``.

    Raises:
        UserError: a class has fewer patients, or images, than there are folds.
    """
    # A unit of the division is a patient with all images, or a single image.
    _, first, unit = np.unique(
        images.accession if grouped else images.file, return_index=True, return_inverse=True
    )
    unit_name = "patients" if grouped else "images"
    label = np.zeros(len(first), np.int64)
    np.maximum.at(label, unit, images.label)  # a patient with any malignant image is malignant
    for value, name in enumerate(CLASS_NAMES):
        available = int((label == value).sum())
        if available < folds:
            # A test fold must leave two units, of which one trains and one validates.
            least = 3 if option == _FOLDS else 2
            remedy = f"lower {option} to {available} or less, or " if available >= least else ""
            count = f"only {available}" if available else "no"
            raise UserError(
                f"{folds} folds need {folds} {unit_name} of each class, but there are {count} "
                f"{name} {unit_name}: {remedy}bring more {name} {unit_name}."
            )
    from sklearn.model_selection import StratifiedKFold  # takes seconds

    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(first, label)
    held_out = np.zeros(len(first), bool)
    held_out[list(parts)[fold][1]] = True
    return held_out[unit]


def _official_test_images(images: Records, fold: int) -> np.ndarray:
    role_of = {row["slide"]: row[f"fold{fold + 1}"] for row in slide_table()}
    unknown = sorted(set(images.slide.tolist()) - set(role_of))
    if unknown:
        raise UserError(
            f"the authors' folds lack the slide {', '.join(unknown[:5])}"
            f"{' and others' if len(unknown) > 5 else ''}: use config.split.protocol = 'strict'."
        )
    return np.array([role_of[slide] == TEST for slide in images.slide.tolist()])


def _source_test_images(images: Records) -> np.ndarray:
    """Marks the test images by the call and the order of the notebook: ``bool [N]``."""
    benign, malignant = np.bincount(images.label, minlength=2)
    if benign != malignant:
        raise UserError(
            f"protocol 'source' divides images whose classes SMOTE has balanced, but these are "
            f"{benign} benign and {malignant} malignant: audit the split.csv of a run of train.py "
            "or choose another config.split.protocol."
        )
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(np.argsort(images.row), test_size=0.2, random_state=42)
    is_test = np.zeros(len(images), bool)
    is_test[test] = True
    return is_test


def is_seen(roles: np.ndarray) -> np.ndarray:
    """Marks the training and validation images: ``bool [N]``."""
    return np.isin(roles, SEEN)
