"""Balances the classes of the training set by a plan instead of by new pixels.

SMOTE is linear, ``x_new = (1 - t) x_base + t x_neighbour`` (Chawla et al. 2002), so a synthetic
image is three numbers until a batch needs its pixels. imbalanced-learn computes these numbers. Its
over-sampler runs on one-hot rows that stand for the images, with a neighbour search that compares
the images. Each synthetic row then holds ``1 - t`` at the base and ``t`` at the neighbour. The plan
takes a few numbers per image, and the neighbour search a few per pair of minority images.
Over-sampling the 224x224 pixels directly takes 18 GB for the full data set.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from data.records import Records
from se_resnet.errors import UserError, one_line
from se_resnet.metrics.labels import CLASS_NAMES, magnification_name

FEATURES = ("pixels", "thumbnail")
METHODS = ("smote", "borderline_smote", "adasyn", "oversample", "class_weights", "none")
# Their cluster and support-vector models are fitted to the rows, and a one-hot row does not
# describe the image that it stands for.
_NEED_PIXELS = ("svm_smote", "kmeans_smote")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The rows of one training epoch, in no particular order.

    A row's pixels are ``(1 - weight) * images[base] + weight * images[neighbour]``.

    Attributes:
        base: ``int64 [P]``, rows of the pixel array.
        neighbour: ``int64 [P]``, rows of the pixel array; equal to ``base`` for a real image.
        weight: ``float64 [P]`` in [0, 1), share of the neighbour; 0 for a real image.
        label: ``int64 [P]``, 0 benign, 1 malignant.
        importance: ``float64 [P]``, factor of the row in the loss, with a mean of 1.
        notes: lines for the user about special cases of this plan.
    """

    base: np.ndarray
    neighbour: np.ndarray
    weight: np.ndarray
    label: np.ndarray
    importance: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.base)

    def columns(self) -> np.ndarray:
        """Returns all columns: ``float64 [5, P]``."""
        return np.stack([self.base, self.neighbour, self.weight, self.label, self.importance])

    @property
    def num_synthetic(self) -> int:
        """Number of rows that blend two images."""
        return int((self.base != self.neighbour).sum())

    def sizes(self) -> dict[str, int]:
        """Returns the number of rows of each class, and of all ``synthetic`` rows."""
        rows = np.bincount(self.label, minlength=len(CLASS_NAMES)).tolist()
        return dict(zip(CLASS_NAMES, rows, strict=True)) | {"synthetic": self.num_synthetic}

    def describe(self) -> str:
        """Returns the numbers of rows by class and kind, and the notes, for the log."""
        sizes = self.sizes()
        text = (
            f"{len(self)} rows an epoch ({sizes['benign']} benign, {sizes['malignant']} "
            f"malignant), {sizes['synthetic']} of them synthetic"
        )
        return "\n".join([text, *self.notes])


def check_method(method: str, features: str, k_neighbors: int) -> None:
    """Checks arguments of :func:`make_plan`.

    Raises:
        UserError: a name is unknown, or ``k_neighbors`` is below 1.
    """
    if method in _NEED_PIXELS:
        raise UserError(
            f"config.balance.method = {method!r} cannot run as a plan, because it fits a model to "
            "the pixels: use smote, borderline_smote or adasyn."
        )
    if method not in METHODS:
        raise UserError(
            f"config.balance.method = {method!r} is unknown: choose from {', '.join(METHODS)}."
        )
    if features not in FEATURES:
        raise UserError(
            f"config.balance.features = {features!r} is unknown: choose from {', '.join(FEATURES)}."
        )
    if k_neighbors < 1:
        raise UserError(f"config.balance.k_neighbors = {k_neighbors} is too small: give 1 or more.")


def make_plan(
    records: Records,
    images: np.ndarray,
    *,
    method: str,
    features: str = "pixels",
    within_magnification: bool = True,
    k_neighbors: int = 5,
    seed: int = 0,
) -> Plan:
    """Returns the plan of a balanced training epoch.

    Args:
        records: the training images only, because neighbours are searched among all of them.
        images: ``uint8 [N, H, W, 3]``, the pixel array that ``records.row`` points into.
        method: ``smote``, ``borderline_smote`` (Han et al. 2005) and ``adasyn`` (He et al. 2008)
            blend new minority images. ``oversample`` repeats minority images. ``class_weights``
            weighs the loss by inverse class frequency. ``none`` does not balance the classes.
        features: features of the neighbour search: ``pixels``, exactly as SMOTE on flattened
            images, or ``thumbnail``, 32x32 area averages, about 50 times cheaper at 224x224.
        within_magnification: balance each magnification by itself, so that no image blends two.
        k_neighbors: number of neighbours that a base image may blend with.
        seed: ``random_state`` of imbalanced-learn.

    Raises:
        UserError: a name is unknown, or the over-sampler fails on these images.
    """
    check_method(method, features, k_neighbors)
    real = _real_rows(records, weigh_classes=method == "class_weights")
    if method in ("class_weights", "none"):
        return real
    groups = records.magnification if within_magnification else np.zeros(len(records), np.int64)
    parts, notes = [real], []
    for group in np.unique(groups):
        members = records.take(groups == group)
        group_name = magnification_name(group) if within_magnification else "the training set"
        counts = np.bincount(members.label, minlength=2)
        if counts.min() == 0:
            missing = CLASS_NAMES[int(counts.argmin())]
            notes.append(f"{group_name} has no {missing} image and cannot be balanced")
        elif counts[0] != counts[1]:
            new, note = _oversample(members, images, method, features, k_neighbors, seed)
            parts.append(new)
            notes += [f"{group_name}: {note}"] if note else []
    columns = [field.name for field in dataclasses.fields(Plan) if field.name != "notes"]
    return Plan(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        notes=tuple(notes),
    )


def _real_rows(records: Records, weigh_classes: bool) -> Plan:
    importance = np.ones(len(records))
    if weigh_classes:
        importance = (len(records) / (2 * np.bincount(records.label, minlength=2)))[records.label]
    return Plan(records.row, records.row, np.zeros(len(records)), records.label, importance)


def _oversample(
    members: Records, images: np.ndarray, method: str, features: str, k: int, seed: int
) -> tuple[Plan, str]:
    """Returns the new minority rows of one group, and a note if the method had to be adapted."""
    # These imports take a second, and only a training needs them.
    from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler

    from data.image_neighbours import ImageNeighbours, image_features

    counts = np.bincount(members.label)
    minority, available = int(counts.argmin()), int(counts.min())
    note = ""
    if method != "oversample" and available <= k:
        note = f"only {available} {CLASS_NAMES[minority]} images, so " + (
            f"k_neighbors is {available - 1}" if available > 1 else "that image is repeated"
        )
        k = available - 1
    one_hot = sparse.identity(len(members), dtype=np.float64, format="csr")
    if method == "oversample" or k == 0:
        sampler = RandomOverSampler(random_state=seed)
    else:
        nearest = ImageNeighbours(*image_features(members, images, features), k + 1)
        if method == "smote":
            sampler = SMOTE(k_neighbors=nearest, random_state=seed)
        elif method == "adasyn":
            sampler = ADASYN(n_neighbors=nearest, random_state=seed)
        else:
            wider = ImageNeighbours(nearest.features, nearest.rows, min(11, len(members)))
            sampler = BorderlineSMOTE(k_neighbors=nearest, m_neighbors=wider, random_state=seed)
    try:
        resampled, _ = sampler.fit_resample(one_hot, members.label)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"config.balance.method = {method!r} cannot balance these images "
            f"({one_line(error)}): use 'smote'."
        ) from error
    new = sparse.csr_matrix(resampled)[len(members) :]
    new.eliminate_zeros()
    new.sort_indices()
    if new.shape[0] == 0:
        note = f"{method} found no image worth blending, so nothing was added"
    first, last = new.indptr[:-1], new.indptr[1:] - 1
    size = new.shape[0]
    plan = Plan(
        base=members.row[new.indices[first]],
        neighbour=members.row[new.indices[last]],
        weight=np.where(first == last, 0.0, new.data[last]),
        label=np.full(size, minority),
        importance=np.ones(size),
    )
    return plan, note
