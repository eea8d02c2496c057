"""How well a classifier does, per image and per patient, with an interval on every figure.

Malignant is the positive class; an image or a patient is called malignant when its probability is
at least the threshold. A patient is an accession, and a patient is malignant when any of the
patient's images is. The patient score and the recognition rates are those of Spanhol et al.,
"A Dataset for Breast Cancer Histopathological Image Classification" (IEEE TBME 2016). Later papers
mean other things by "patient accuracy", so the accuracy of the mean probability and of the majority
vote stand beside the recognition rate under their own names.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.bootstrap import cumulated, figure, interval, rank, resample, too_few
from se_resnet.errors import UserError
from se_resnet.files import atomic_write

# Columns of a tally of outcomes.
TP, FP, TN, FN = range(4)

# What must occur for a metric to mean something, and the outcomes that count as its occurring.
_OUTCOMES = {
    "malignant": (TP, FN),
    "benign": (TN, FP),
    "predicted malignant": (TP, FP),
    "predicted benign": (TN, FN),
}
_NEEDS: dict[str, tuple[str, ...]] = {
    "accuracy": (),
    "balanced_accuracy": ("malignant", "benign"),
    "precision": ("predicted malignant",),
    "recall": ("malignant",),
    "specificity": ("benign",),
    "f1": ("malignant",),
    "roc_auc": ("malignant", "benign"),
    "average_precision": ("malignant", "benign"),
    "mcc": ("malignant", "benign", "predicted malignant", "predicted benign"),
    "brier": (),
}
METRIC_NAMES = tuple(_NEEDS)
_VOTE_NAMES = ("accuracy", "precision", "recall", "specificity", "f1", "mcc")

# The figures to look at first, and where the results of `evaluate` hold them.
HEADLINE: dict[str, tuple[str, ...]] = {
    "image_accuracy": ("image", "accuracy"),
    "image_balanced_accuracy": ("image", "balanced_accuracy"),
    "image_roc_auc": ("image", "roc_auc"),
    "patient_recognition_rate": ("patient", "recognition_rate"),
    "patient_accuracy": ("patient", "mean_probability", "accuracy"),
    "patient_roc_auc": ("patient", "mean_probability", "roc_auc"),
}


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Columns of equal length N, one row per image.

    Attributes:
        file: ``str [N]``, file name.
        slide: ``str [N]``, slide folder.
        accession: ``str [N]``, the patient.
        magnification: ``int [N]``, for example 200.
        subtype: ``str [N]``, tumour type, for example ``DC``.
        label: ``int [N]``, 0 benign, 1 malignant.
        probability: ``float64 [N]`` in [0, 1], predicted probability of malignant.

    Raises:
        ValueError: columns differ in length, a label is not 0 or 1, or a probability is outside
            [0, 1] or not a number.
    """

    file: np.ndarray
    slide: np.ndarray
    accession: np.ndarray
    magnification: np.ndarray
    subtype: np.ndarray
    label: np.ndarray
    probability: np.ndarray

    def __post_init__(self) -> None:
        shapes = {name: column.shape for name, column in self.columns().items()}
        if len(set(shapes.values())) != 1 or self.file.ndim != 1:
            raise ValueError(f"columns must be one-dimensional and of equal length, got {shapes}")
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError("label must be 0 or 1")
        if not ((self.probability >= 0) & (self.probability <= 1)).all():
            raise ValueError("probability must be a number in [0, 1]")

    def __len__(self) -> int:
        return len(self.file)

    def columns(self) -> dict[str, np.ndarray]:
        """Column name to array, in the order of the CSV file."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def take(self, index: np.ndarray) -> Predictions:
        """The rows named by ``index``, an ``int [M]`` or ``bool [N]`` array."""
        return Predictions(**{name: column[index] for name, column in self.columns().items()})

    def write_csv(self, path: str | Path) -> None:
        """Writes a header and one line per image; a probability is read back exactly as it was."""
        columns = self.columns()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        with atomic_write(path, "wb") as file:
            # A file name need not be valid UTF-8 on Linux; surrogateescape keeps its bytes.
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    @classmethod
    def read_csv(cls, path: str | Path) -> Predictions:
        """Reads what :meth:`write_csv` wrote.

        Raises:
            UserError: the file is missing, its header is another, or a line is malformed.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            raise UserError(
                f"cannot read the predictions {path} ({error.strerror}): run eval.py to make them."
            ) from error
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = []
        try:
            if (header := next(reader, [])) != names:
                raise ValueError(f"the header must be {','.join(names)}, not {','.join(header)}")
            rows = [_parse(names, line) for line in reader]
        except (ValueError, csv.Error) as error:
            raise UserError(
                f"{path}, line {max(reader.line_num, 1)}: {error}; "
                "put the line right or run eval.py again."
            ) from error
        return cls(
            **{
                name: np.array([row[name] for row in rows], dtype=_DTYPES.get(name, np.str_))
                for name in names
            }
        )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """The rows of all parts, in order; an image may stand in several, as one row of each."""
    columns = [part.columns() for part in parts]
    return Predictions(
        **{name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    )


_DTYPES: dict[str, Any] = {
    "magnification": np.int64,
    "label": np.int64,
    "probability": np.float64,
}


def _parse(names: list[str], line: list[str]) -> dict[str, Any]:
    if len(line) != len(names):
        raise ValueError(f"{len(line)} values instead of {len(names)}")
    row: dict[str, Any] = dict(zip(names, line, strict=True))
    if not row["magnification"].isdecimal():
        raise ValueError(f"the magnification {row['magnification']!r} is not a whole number")
    if row["label"] not in ("0", "1"):
        raise ValueError(f"the label {row['label']!r} is neither 0 nor 1")
    try:
        probability = float(row["probability"])
    except ValueError:
        probability = float("nan")
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability {row['probability']!r} is not a number from 0 to 1")
    return row | {
        "magnification": int(row["magnification"]),
        "label": int(row["label"]),
        "probability": probability,
    }


def evaluate(
    predictions: Predictions, threshold: float = 0.5, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """All figures of one set of predictions, ready for JSON.

    A figure is ``{"value", "low", "high"}``. The interval is the 95 % percentile bootstrap over
    accessions (the cluster bootstrap, Davison and Hinkley 1997, section 3.8): accessions are drawn
    with replacement, unstratified by class, and all images of a drawn accession follow, so that the
    interval speaks of new patients and not of new images of the same patients. Resamples in which a
    metric is undefined are left out of its interval.

    An undefined figure is ``{"value": None, "low": None, "high": None, "reason": "..."}``: AUC with
    one class only, precision when nothing is predicted malignant. Where all that a metric depends
    on comes from one accession, the value stands and ``low`` and ``high`` are None with the reason,
    because drawing one accession again and again says nothing about the next.

    Args:
        predictions: N >= 1 images.
        threshold: probability in [0, 1] from which an image or a patient is called malignant.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.

    Returns:
        ``image``: the metrics of ``METRIC_NAMES``, ``recognition_rate`` (the accuracy under its
        authors' name) and ``confusion`` (``tp``, ``fp``, ``tn``, ``fn``).

        ``patient``: ``recognition_rate`` (mean over patients of the patient score, that is of
        correct images / images), the same over the patients of one class as
        ``recognition_rate_benign`` and ``recognition_rate_malignant``; ``mean_probability``, the
        metrics of ``METRIC_NAMES`` and ``confusion`` of one probability per patient, the mean over
        its images; ``majority_vote``, accuracy, precision, recall, specificity, F1, MCC and
        ``confusion`` when each image votes and a tie counts as malignant, the error that costs a
        patient less; ``patients``, one row each.

        ``by_magnification``: ``"40"``, ...: as ``image`` with ``patient_recognition_rate``, over
        the images of one magnification and the accessions that have any.

        ``by_subtype``: ``"A"``, ``"F"``, ...: ``images`` and ``accessions`` (counts), ``accuracy``
        (the share of the subtype's images called right; with one class in it, no more can be said)
        and ``patient_recognition_rate``. Benign subtypes come first, each class in order of name.

        ``counts``: ``images``, ``slides`` and ``accessions``, each over ``all``, ``benign`` and
        ``malignant``. ``threshold``, ``resamples`` and ``seed`` as given.

    Raises:
        UserError: there is no image, or ``threshold`` or ``resamples`` is out of range.
    """
    if not len(predictions):
        raise UserError("there are no predictions to evaluate: choose a split that holds images.")
    if not 0 <= threshold <= 1:
        raise UserError(f"the threshold {threshold} is not a probability: choose one from 0 to 1.")

    image, patient = _image_and_patient(predictions, threshold, resamples, seed)
    by_magnification = {}
    for magnification in np.unique(predictions.magnification):
        part = predictions.take(predictions.magnification == magnification)
        figures, patients = _image_and_patient(part, threshold, resamples, seed)
        figures["patient_recognition_rate"] = patients["recognition_rate"]
        by_magnification[str(magnification)] = figures
    return {
        "image": image,
        "patient": patient,
        "by_magnification": by_magnification,
        "by_subtype": _by_subtype(predictions, threshold, resamples, seed),
        "counts": _counts(predictions, patient["patients"]),
        "threshold": float(threshold),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def headline(results: dict[str, Any]) -> dict[str, Any]:
    """The figures of ``HEADLINE`` out of what :func:`evaluate` returned, by name."""
    return {
        name: functools.reduce(dict.__getitem__, path, results) for name, path in HEADLINE.items()
    }


def compare(a: Predictions, b: Predictions, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """What run B gains over run A, by a paired bootstrap over accessions.

    Only images that both runs hold, by file name, are compared. Each resample draws the same
    accessions for both runs, so that what makes a patient hard for both cancels in the difference
    (Efron and Tibshirani 1993). Both runs are judged at the threshold 0.5.

    Args:
        a: predictions of run A.
        b: predictions of run B.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.

    Returns:
        ``image`` and ``patient`` as in :func:`evaluate`, without ``confusion`` and ``patients``;
        in place of each figure stand ``value_a``, ``value_b``, ``difference`` (B minus A, a figure)
        and ``probability_above_zero``, the share of the resamples in which B's value is strictly
        above A's, which is None where there is no interval. Mind that a lower Brier score is the
        better one.

        ``images``, ``accessions``: what was compared. ``only_a``, ``only_b``: images left out
        because the other run lacks them. ``resamples`` and ``seed`` as given.

    Raises:
        UserError: no image is common, a file name occurs twice in a run, the runs disagree on a
            label or an accession, or ``resamples`` is below 1.
    """
    part_a, part_b = _common(a, b)
    names, group, weights = resample(part_a.accession, resamples, seed)
    draws_a, draws_b = (_draws(part, 0.5, group, weights) for part in (part_a, part_b))
    return {
        **_each(_difference, draws_a, draws_b),
        "images": len(part_a),
        "accessions": len(names),
        "only_a": len(a) - len(part_a),
        "only_b": len(b) - len(part_b),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def probability_of(logit: np.ndarray) -> np.ndarray:
    """The logistic function: ``float64`` of the same shape, without overflow at either end."""
    return np.exp(-np.logaddexp(0, -np.asarray(logit, np.float64)))


def logit_of(probability: np.ndarray) -> np.ndarray:
    """The inverse of :func:`probability_of`: ``float64``, infinite at 0 and 1."""
    probability = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def binary_metrics(
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    """The metrics of ``METRIC_NAMES`` under R weightings at once.

    Args:
        label: ``bool [n]``, malignant.
        probability: ``float64 [n]``.
        predicted: ``bool [n]``, called malignant.
        group: ``int [n]``, in [0, G), the group (accession) each unit belongs to.
        weights: ``float64 [R, G]``, weight of each group, not negative; every row counts some unit.

    Returns:
        Name to ``float64 [R]``, NaN where the metric is undefined.
    """
    tally = _tally(label, predicted, group, weights.shape[1])
    tp, fp, tn, fn = (weights @ tally).T
    total = tp + fp + tn + fn
    error = np.bincount(group, (probability - label) ** 2, minlength=weights.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = tp / (tp + fn)
        specificity = tn / (tn + fp)
        roc_auc, average_precision = _ranking(label, probability, group, weights)
        values = {
            "accuracy": (tp + tn) / total,
            "balanced_accuracy": (recall + specificity) / 2,
            "precision": tp / (tp + fp),
            "recall": recall,
            "specificity": specificity,
            "f1": 2 * tp / (2 * tp + fp + fn),
            "roc_auc": roc_auc,
            "average_precision": average_precision,
            "mcc": (tp * tn - fp * fn)
            / np.sqrt((tp + fn) * (tn + fp))
            / np.sqrt((tp + fp) * (tn + fn)),
            "brier": (weights @ error) / total,
        }
    for name, needs in _NEEDS.items():
        for need in needs:
            occurs = weights @ tally[:, _OUTCOMES[need]].sum(axis=1)
            values[name] = np.where(occurs > 0, values[name], np.nan)
    return values


def roc_curve(
    label: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The receiver operating characteristic, one point per distinct probability.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]``.

    Returns:
        False positive rate, true positive rate and threshold, each ``float64 [m + 1]``, from (0, 0)
        at an infinite threshold to (1, 1) at the smallest probability.

    Raises:
        ValueError: only one class is present.
    """
    label = np.asarray(label, dtype=bool)
    if label.all() or not label.any():
        raise ValueError("a ROC curve needs both classes")
    order, last = rank(probability)
    tp = np.cumsum(label[order])[last]
    fp = last + 1 - tp
    return (
        np.append(0.0, fp / fp[-1]),
        np.append(0.0, tp / tp[-1]),
        np.append(np.inf, np.asarray(probability)[order][last]),
    )


def pr_curve(
    label: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision against recall, one point per distinct probability.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]``.

    Returns:
        Precision, recall and threshold, each ``float64 [m]``, from the largest probability to the
        smallest, where recall is 1. Draw it as steps, precision at a recall being that of the next
        point: a straight line between two points promises more than any threshold gives (Davis and
        Goadrich 2006), and the area under the steps is the average precision.

    Raises:
        ValueError: no label is 1.
    """
    label = np.asarray(label, dtype=bool)
    if not label.any():
        raise ValueError("a precision-recall curve needs malignant images")
    order, last = rank(probability)
    tp = np.cumsum(label[order])[last]
    return tp / (last + 1), tp / tp[-1], np.asarray(probability)[order][last]


def roc_band(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 101
) -> dict[str, Any]:
    """The ROC curve of the images on an even grid, with a pointwise 95 % band.

    The band is the bootstrap of :func:`evaluate` applied to the true positive rate at each false
    positive rate (vertical averaging, Fawcett 2006). Pointwise means that it speaks of any one
    false positive rate, not of the whole curve at once.

    Args:
        predictions: N images.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.
        points: size of the grid, at least 2.

    Returns:
        Lists of ``points`` floats: ``false_positive_rate``, from 0 to 1; ``true_positive_rate``,
        linear between the points of :func:`roc_curve` and the highest where the curve is upright;
        ``low`` and ``high``. These two are None, and ``reason`` says why, where benign or malignant
        images come from one accession only.

    Raises:
        ValueError: only one class is present.
    """
    label = predictions.label == 1
    if label.all() or not label.any():
        raise ValueError("a ROC curve needs both classes")

    def read(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        # A whole number of images times a whole number: exact, so that a grid point which falls on
        # an upright stretch of the curve does not depend on rounding.
        at = np.arange(points) * fp[-1] / (points - 1)
        return np.interp(at, np.append(0, fp), np.append(0, tp)) / tp[-1]

    return {
        "false_positive_rate": np.linspace(0, 1, points).tolist(),
        **_band("true_positive_rate", predictions, ("malignant", "benign"), read, resamples, seed),
    }


def pr_band(
    predictions: Predictions, resamples: int = 2000, seed: int = 0, points: int = 101
) -> dict[str, Any]:
    """The precision-recall curve of the images on an even grid, with a pointwise 95 % band.

    Args:
        predictions: N images.
        resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resamples.
        points: size of the grid, at least 2.

    Returns:
        Lists of ``points`` floats: ``recall``, from 0 to 1; ``precision``, that of the highest
        threshold which reaches the recall, as average precision has it, and at recall 0 of the
        highest that finds anything malignant; ``low`` and ``high``, as in :func:`roc_band`, with
        ``reason`` where malignant images come from one accession only.

    Raises:
        ValueError: no image is malignant.
    """
    if not (predictions.label == 1).any():
        raise ValueError("a precision-recall curve needs malignant images")

    def read(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        reach = np.maximum(np.arange(points) * tp[-1] / (points - 1), np.finfo(float).tiny)
        at = np.searchsorted(tp, reach)
        return tp[at] / (tp[at] + fp[at])

    return {
        "recall": np.linspace(0, 1, points).tolist(),
        **_band("precision", predictions, ("malignant",), read, resamples, seed),
    }


@dataclasses.dataclass(frozen=True)
class _Draws:
    """A metric's estimate and resamples, with what :func:`figure` needs to judge them."""

    values: np.ndarray
    unit: str
    supply: dict[str, np.ndarray]
    accessions: int

    def figure(self) -> dict[str, Any]:
        return figure(self.values, self.unit, self.supply, self.accessions)


@dataclasses.dataclass(frozen=True)
class _Patients:
    """Columns with one row per accession."""

    malignant: np.ndarray
    images: np.ndarray
    correct: np.ndarray
    mean_probability: np.ndarray
    called: np.ndarray
    vote: np.ndarray
    voted: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions, threshold: float, group: np.ndarray) -> _Patients:
        predicted = predictions.probability >= threshold
        images = np.bincount(group)
        mean_probability = np.bincount(group, predictions.probability) / images
        votes = np.bincount(group, predicted).astype(int)
        return cls(
            malignant=np.bincount(group, predictions.label) > 0,
            images=images,
            correct=np.bincount(group, (predictions.label == 1) == predicted).astype(int),
            mean_probability=mean_probability,
            called=mean_probability >= threshold,
            vote=votes / images,
            voted=2 * votes >= images,
        )


def _image_and_patient(
    predictions: Predictions, threshold: float, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    names, group, weights = resample(predictions.accession, resamples, seed)
    figures = _each(_Draws.figure, _draws(predictions, threshold, group, weights))
    image, patient = figures["image"], figures["patient"]
    patients = _Patients.of(predictions, threshold, group)
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    image["confusion"] = _confusion(label, predicted)
    patient["mean_probability"]["confusion"] = _confusion(patients.malignant, patients.called)
    patient["majority_vote"]["confusion"] = _confusion(patients.malignant, patients.voted)
    patient["patients"] = [
        {
            "accession": str(name),
            "label": int(patients.malignant[i]),
            "images": int(patients.images[i]),
            "correct": int(patients.correct[i]),
            "patient_score": float(patients.correct[i] / patients.images[i]),
            "mean_probability": float(patients.mean_probability[i]),
        }
        for i, name in enumerate(names)
    ]
    return image, patient


def _draws(
    predictions: Predictions, threshold: float, group: np.ndarray, weights: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Every metric at ``image`` and ``patient`` level; the first row of ``weights`` estimates."""
    label, predicted = predictions.label == 1, predictions.probability >= threshold
    image = _metric_draws("image", label, predictions.probability, predicted, group, weights)
    image["recognition_rate"] = image["accuracy"]

    # One unit per group from here on: the patient.
    patients = _Patients.of(predictions, threshold, group)
    malignant, own = patients.malignant, np.arange(weights.shape[1])
    by_mean, by_vote = (
        _metric_draws("patient", malignant, probability, called, own, weights)
        for probability, called in (
            (patients.mean_probability, patients.called),
            (patients.vote, patients.voted),
        )
    )
    score = patients.correct / patients.images
    patient = {
        "recognition_rate": _mean_draws(score, np.ones_like(malignant), "", weights),
        "recognition_rate_benign": _mean_draws(score, ~malignant, "benign", weights),
        "recognition_rate_malignant": _mean_draws(score, malignant, "malignant", weights),
        "mean_probability": by_mean,
        "majority_vote": {name: by_vote[name] for name in _VOTE_NAMES},
    }
    return {"image": image, "patient": patient}


def _metric_draws(
    unit: str,
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Any]:
    values = binary_metrics(label, probability, predicted, group, weights)
    tally = _tally(label, predicted, group, weights.shape[1])
    return {
        name: _Draws(
            values[name],
            unit,
            {need: np.asarray(tally[:, _OUTCOMES[need]].sum(axis=1) > 0) for need in needs},
            weights.shape[1],
        )
        for name, needs in _NEEDS.items()
    }


def _mean_draws(score: np.ndarray, chosen: np.ndarray, need: str, weights: np.ndarray) -> _Draws:
    """The mean of ``score [G]`` over the ``chosen [G]`` accessions."""
    with np.errstate(invalid="ignore"):
        values = (weights @ (score * chosen)) / (weights @ chosen)
    return _Draws(values, "patient", {need: chosen} if need else {}, len(score))


def _each(function: Callable[..., Any], *trees: dict[str, Any]) -> dict[str, Any]:
    """Applies ``function`` to the draws in the same place of each tree."""
    return {
        key: function(*parts) if isinstance(parts[0], _Draws) else _each(function, *parts)
        for key, *parts in ((key, *(tree[key] for tree in trees)) for key in trees[0])
    }


def _difference(a: _Draws, b: _Draws) -> dict[str, Any]:
    figures = [a.figure(), b.figure()]
    value_a, value_b = (one["value"] for one in figures)
    difference: dict[str, Any] = {"value": None, "low": None, "high": None}
    if value_a is not None and value_b is not None:
        difference = figure(b.values - a.values, a.unit, {}, a.accessions)
    probability = None
    for run, one in zip("AB", figures, strict=True):
        if "reason" in one:
            difference |= {"low": None, "high": None, "reason": f"run {run}: {one['reason']}"}
            break
    if difference["low"] is not None:
        draws = (b.values - a.values)[1:]
        # Runs that tie differ by rounding where the metric is a mean of fractions.
        probability = float((draws[np.isfinite(draws)] > 1e-12).mean())
    return {
        "value_a": value_a,
        "value_b": value_b,
        "difference": difference,
        "probability_above_zero": probability,
    }


def _common(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """The rows of both runs that show the same images, in the same order."""
    for run, predictions in (("A", a), ("B", b)):
        names, times = np.unique(predictions.file, return_counts=True)
        if (times > 1).any():
            raise UserError(
                f"run {run} holds {names[times > 1][0]} more than once: compare runs in which "
                "every image has a name of its own."
            )
    common, row_a, row_b = np.intersect1d(a.file, b.file, assume_unique=True, return_indices=True)
    if not len(common):
        raise UserError("the two runs have no image in common: compare the same split of both.")
    a, b = a.take(row_a), b.take(row_b)
    for name in ("label", "accession"):
        column_a, column_b = a.columns()[name], b.columns()[name]
        if len(differs := np.flatnonzero(column_a != column_b)):
            at = differs[0]
            raise UserError(
                f"the two runs disagree on the {name} of {common[at]} ({column_a[at]} in A, "
                f"{column_b[at]} in B): compare runs on the same images."
            )
    return a, b


def _by_subtype(
    predictions: Predictions, threshold: float, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    order = np.lexsort((predictions.subtype, predictions.label))
    found = {}
    for subtype in dict.fromkeys(predictions.subtype[order].tolist()):
        part = predictions.take(predictions.subtype == subtype)
        names, group, weights = resample(part.accession, resamples, seed)
        correct = (part.probability >= threshold) == (part.label == 1)
        images, right = np.bincount(group), np.bincount(group, correct)
        share = figure((weights @ right) / (weights @ images), "image", {}, len(names))
        rate = _mean_draws(right / images, np.ones(len(names), bool), "", weights).figure()
        found[subtype] = {
            "images": len(part),
            "accessions": len(names),
            "accuracy": share,
            "patient_recognition_rate": rate,
        }
    return found


def _band(
    name: str,
    predictions: Predictions,
    needs: tuple[str, ...],
    read: Callable[[np.ndarray, np.ndarray], np.ndarray],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """A curve under ``name`` with its band; ``read`` makes a curve of running TP and FP counts."""
    names, group, weights = resample(predictions.accession, resamples, seed)
    label = predictions.label == 1
    classes = {"malignant": label, "benign": ~label}
    supply = {need: np.bincount(group, classes[need]) > 0 for need in needs}
    curves = np.array(
        [
            read(tp, fp)
            for chunk in cumulated(predictions.probability, (label, ~label), group, weights)
            for tp, fp in zip(*chunk, strict=True)
            if all({"malignant": tp, "benign": fp}[need][-1] > 0 for need in needs)
        ]
    )
    band: dict[str, Any] = {name: curves[0].tolist()}
    reason = too_few("image", supply, len(names))
    if not reason and len(curves) == 1:
        reason = "undefined in every resample"
    if reason:
        return band | {"low": None, "high": None, "reason": reason}
    low, high = interval(curves[1:]).tolist()
    return band | {"low": low, "high": high}


def _tally(label: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Outcomes per group, ``float64 [groups, 4]`` in the order TP, FP, TN, FN."""
    outcome = np.where(label, np.where(predicted, TP, FN), np.where(predicted, FP, TN))
    return np.bincount(group * 4 + outcome, minlength=groups * 4).reshape(groups, 4).astype(float)


def _confusion(label: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    tally = _tally(label, predicted, np.zeros(len(label), int), 1)[0].astype(int).tolist()
    return dict(zip(("tp", "fp", "tn", "fn"), tally, strict=True))


def _ranking(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC (trapezoids) and average precision (steps), ``float64 [R]`` each, ties as one."""
    roc_auc, average_precision = [], []
    for tp, fp in cumulated(probability, (label, ~label), group, weights):
        gained = np.diff(tp, axis=1, prepend=0)
        area = (np.diff(fp, axis=1, prepend=0) * (tp - gained / 2)).sum(axis=1)
        precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
        roc_auc.append(area / (tp[:, -1] * fp[:, -1]))
        average_precision.append((gained * precision).sum(axis=1) / tp[:, -1])
    return np.concatenate(roc_auc), np.concatenate(average_precision)


def _counts(predictions: Predictions, patients: list[dict]) -> dict[str, dict[str, int]]:
    malignant = predictions.label == 1
    positive = sum(row["label"] for row in patients)
    return {
        "images": {
            "all": len(predictions),
            "benign": int((~malignant).sum()),
            "malignant": int(malignant.sum()),
        },
        "slides": {
            "all": len(np.unique(predictions.slide)),
            "benign": len(np.unique(predictions.slide[~malignant])),
            "malignant": len(np.unique(predictions.slide[malignant])),
        },
        "accessions": {
            "all": len(patients),
            "benign": len(patients) - positive,
            "malignant": positive,
        },
    }


if __name__ == "__main__":
    from se_resnet.comparison import main

    main()
