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
import io
from pathlib import Path
from typing import Any

import numpy as np

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

# Floats held at once while ranking; larger falls out of the processor's cache.
_CHUNK = 1_000_000


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

        ``counts``: ``images``, ``slides`` and ``accessions``, each over ``all``, ``benign`` and
        ``malignant``. ``threshold``, ``resamples`` and ``seed`` as given.

    Raises:
        UserError: there is no image, or ``threshold`` or ``resamples`` is out of range.
    """
    if not len(predictions):
        raise UserError("there are no predictions to evaluate: choose a split that holds images.")
    if not 0 <= threshold <= 1:
        raise UserError(f"the threshold {threshold} is not a probability: choose one from 0 to 1.")
    if resamples < 1:
        raise UserError(f"{resamples} bootstrap resamples are too few: choose at least 1.")

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
        "counts": _counts(predictions, patient["patients"]),
        "threshold": float(threshold),
        "resamples": int(resamples),
        "seed": int(seed),
    }


def bootstrap_weights(accessions: int, resamples: int, seed: int) -> np.ndarray:
    """How often each accession is drawn in each resample.

    Returns:
        ``float64 [resamples, accessions]`` of whole numbers; every row sums to ``accessions``.
    """
    draw = np.random.default_rng(seed).multinomial(
        accessions, np.full(accessions, 1 / accessions), size=resamples
    )
    return draw.astype(np.float64)


def probability_of(logit: np.ndarray) -> np.ndarray:
    """The logistic function: ``float64`` of the same shape, without overflow at either end."""
    return np.exp(-np.logaddexp(0, -np.asarray(logit, np.float64)))


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
    order, last = _order(probability)
    tp = np.cumsum(label[order])[last]
    fp = last + 1 - tp
    return (
        np.append(0.0, fp / fp[-1]),
        np.append(0.0, tp / tp[-1]),
        np.append(np.inf, np.asarray(probability)[order][last]),
    )


def _image_and_patient(
    predictions: Predictions, threshold: float, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    names, group = np.unique(predictions.accession, return_inverse=True)
    weights = np.vstack([np.ones((1, len(names))), bootstrap_weights(len(names), resamples, seed)])
    label = predictions.label == 1
    predicted = predictions.probability >= threshold

    image = _figures("image", label, predictions.probability, predicted, group, weights)
    image["recognition_rate"] = image["accuracy"]

    images = np.bincount(group)
    correct = np.bincount(group, label == predicted).astype(int)
    score = correct / images
    mean_probability = np.bincount(group, predictions.probability) / images
    votes = np.bincount(group, predicted).astype(int)
    malignant = np.bincount(group, label) > 0

    # One unit per group from here on: the patient.
    own = np.arange(len(names))
    called = mean_probability >= threshold
    voted = 2 * votes >= images
    by_vote = _figures("patient", malignant, votes / images, voted, own, weights)
    patient = {
        "recognition_rate": _mean_figure(score, np.ones_like(malignant), "", weights),
        "recognition_rate_benign": _mean_figure(score, ~malignant, "benign", weights),
        "recognition_rate_malignant": _mean_figure(score, malignant, "malignant", weights),
        "mean_probability": _figures("patient", malignant, mean_probability, called, own, weights),
        "majority_vote": {name: by_vote[name] for name in (*_VOTE_NAMES, "confusion")},
        "patients": [
            {
                "accession": str(names[i]),
                "label": int(malignant[i]),
                "images": int(images[i]),
                "correct": int(correct[i]),
                "patient_score": float(score[i]),
                "mean_probability": float(mean_probability[i]),
            }
            for i in own
        ],
    }
    return image, patient


def _figures(
    unit: str,
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Any]:
    """Figures of all metrics and the confusion; the first row of ``weights`` is the estimate."""
    values = binary_metrics(label, probability, predicted, group, weights)
    tally = _tally(label, predicted, group, weights.shape[1])
    figures: dict[str, Any] = {}
    for name, needs in _NEEDS.items():
        supply = {need: np.asarray(tally[:, _OUTCOMES[need]].sum(axis=1) > 0) for need in needs}
        figures[name] = _figure(values[name], unit, supply, weights.shape[1])
    tp, fp, tn, fn = tally.sum(axis=0).astype(int).tolist()
    figures["confusion"] = {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    return figures


def _mean_figure(
    score: np.ndarray, chosen: np.ndarray, need: str, weights: np.ndarray
) -> dict[str, Any]:
    """Figure of the mean of ``score [G]`` over the ``chosen [G]`` accessions."""
    count = weights @ chosen
    with np.errstate(invalid="ignore"):
        values = (weights @ (score * chosen)) / count
    return _figure(values, "patient", {need: chosen} if need else {}, len(score))


def _figure(
    values: np.ndarray, unit: str, supply: dict[str, np.ndarray], accessions: int
) -> dict[str, Any]:
    """Figure from the estimate ``values[0]`` and the resamples ``values[1:]``.

    ``supply`` maps each thing the metric needs to ``bool [accessions]``: who has any of it.
    """
    for need, has in supply.items():
        if not has.any():
            return {"value": None, "low": None, "high": None, "reason": f"no {unit} is {need}"}
    value = float(values[0])
    for need, has in [("", np.ones(accessions)), *supply.items()]:
        if has.sum() < 2:
            reason = f"{need} {unit}s in one accession only" if need else "only one accession"
            return {"value": value, "low": None, "high": None, "reason": reason}
    defined = values[1:][np.isfinite(values[1:])]
    if not len(defined):
        reason = "undefined in every resample"
        return {"value": value, "low": None, "high": None, "reason": reason}
    low, high = np.quantile(defined, (0.025, 0.975)).tolist()
    return {"value": value, "low": low, "high": high}


def _tally(label: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Outcomes per group, ``float64 [groups, 4]`` in the order TP, FP, TN, FN."""
    outcome = np.where(label, np.where(predicted, TP, FN), np.where(predicted, FP, TN))
    return np.bincount(group * 4 + outcome, minlength=groups * 4).reshape(groups, 4).astype(float)


def _order(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of falling probability and, in it, the position of the last of each run of ties."""
    order = np.argsort(-np.asarray(probability), kind="stable")
    return order, np.flatnonzero(np.append(np.diff(np.asarray(probability)[order]) != 0, True))


def _ranking(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC (trapezoids) and average precision (steps), ``float64 [R]`` each, ties as one."""
    order, last = _order(probability)
    roc_auc, average_precision = np.empty(len(weights)), np.empty(len(weights))
    rows = max(1, _CHUNK // len(label))
    for start in range(0, len(weights), rows):
        part = weights[start : start + rows, group[order]]
        tp = np.cumsum(part * label[order], axis=1)[:, last]
        fp = np.cumsum(part * ~label[order], axis=1)[:, last]
        gained = np.diff(tp, axis=1, prepend=0)
        area = (np.diff(fp, axis=1, prepend=0) * (tp - gained / 2)).sum(axis=1)
        precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
        chunk = slice(start, start + rows)
        roc_auc[chunk] = area / (tp[:, -1] * fp[:, -1])
        average_precision[chunk] = (gained * precision).sum(axis=1) / tp[:, -1]
    return roc_auc, average_precision


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
