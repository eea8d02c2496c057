"""Measures how often the 95 % intervals contain the true value, on simulated patients.

    python -m benchmarks.coverage

Every simulated data set has as many benign and malignant patients as its cell says; their numbers
of images are drawn from those of BreaKHis at 200X (``data/breakhis/slides.csv``). Two models of
patients: ``normal`` gives each image a normal score with an effect of its patient; ``beta`` draws
the share of correctly classified images of each patient from a beta distribution, and then the
scores. ``--shares`` is the share of the variance that belongs to the patient. The functions of
``se_resnet.metrics`` compute the intervals, and ``compare`` the difference of two runs of the same
quality. The true values are those of a population of 40,000 patients.

Prints, for each kind of metric and number of patients, the least and the mean coverage over all
true AUCs, shares and models, the median width and the share of intervals without width; then how
often the interval of a difference of two equal runs excludes 0. ``--out`` writes every cell.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri

from benchmarks.measuring import table
from data.breakhis.official import slide_table
from se_resnet.metrics import calibration, clinical, selective
from se_resnet.metrics.binary import binary_metrics
from se_resnet.metrics.calibration_line import calibration_line
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.comparison import compare
from se_resnet.metrics.curves import pr_band, pr_curve, roc_band, roc_curve
from se_resnet.metrics.estimates import Metric
from se_resnet.metrics.levels import all_metrics, map_metrics
from se_resnet.metrics.predictions import Predictions, probability_of
from se_resnet.metrics.simulation import separation
from se_resnet.runtime.cli import exit_on_user_error, path_option
from se_resnet.runtime.files import write_json

PATIENTS = {8: (2, 6), 16: (4, 12), 44: (12, 32), 70: (16, 54)}  # benign and malignant
AUCS = (0.80, 0.90, 0.95, 0.99)
SHARES = (0.25, 0.5, 0.75)
MODELS = ("normal", "beta")
POPULATION = 40_000
_RATES = (0.1, 0.2, 0.5)  # false positive rates of the ROC band
_RECALLS = (0.5, 0.8, 0.9)
_BENIGN_TYPES = ("A", "F", "PT", "TA")


@dataclasses.dataclass(frozen=True)
class Cell:
    """The parameters of a simulation.

    Attributes:
        benign: number of benign patients.
        malignant: number of malignant patients.
        auc: true AUC of images of different patients.
        share: share of the variance between images of a class that is between patients.
        model: ``normal`` or ``beta``.
    """

    benign: int
    malignant: int
    auc: float
    share: float
    model: str

    def draw(self, rng: np.random.Generator, runs: int = 1, scale: int = 1) -> list[Predictions]:
        """Simulates the same images, predicted by ``runs`` networks of the same quality.

        Three quarters of the variance of the effect of a patient, and half of that of an image,
        are common to all networks. ``scale`` multiplies the patients of both classes.
        """
        images_by_class = image_counts()
        label_of = np.repeat([0, 1], [self.benign * scale, self.malignant * scale])
        images = np.where(
            label_of == 0,
            rng.choice(images_by_class[0], len(label_of)),
            rng.choice(images_by_class[1], len(label_of)),
        )
        patient = np.repeat(np.arange(len(label_of)), images)
        effects = _mixed(rng, len(label_of), runs, 0.75)
        noises = _mixed(rng, len(patient), runs, 0.5)
        return [
            _predictions(label_of, patient, self._scores(label_of, patient, effect, noise))
            for effect, noise in zip(effects, noises, strict=True)
        ]

    def _scores(
        self, label_of: np.ndarray, patient: np.ndarray, effect: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        """Returns log odds of malignant from standard normal effects and noises."""
        distance, sign = separation(self.auc), 2 * label_of - 1
        if self.model == "normal":
            score = np.sqrt(self.share) * effect[patient] + np.sqrt(1 - self.share) * noise
            return distance * (score + distance / 2 * sign[patient])
        # A patient's share of right images is beta distributed; a score, given that it is right,
        # is normal beyond the threshold. Images have the same normal distribution as above.
        right = ndtr(distance / 2)
        strength = 1 / self.share - 1
        of_patient = betaincinv(right * strength, (1 - right) * strength, ndtr(effect))
        rank = np.clip(ndtr(noise), 1e-12, 1 - 1e-12)
        of_image = 1 - of_patient[patient]  # the rank below which an image is wrong
        is_wrong = rank < of_image
        within = np.where(
            is_wrong,
            (1 - right) * rank / np.maximum(of_image, 1e-12),
            1 - right * (1 - rank) / np.maximum(1 - of_image, 1e-12),
        )
        score = ndtri(np.clip(within, 1e-12, 1 - 1e-12)) + distance / 2
        return distance * score * sign[patient]


def _mixed(rng: np.random.Generator, count: int, runs: int, common: float) -> np.ndarray:
    """Returns standard normal numbers ``[runs, count]`` whose rows have the correlation."""
    shared, own = rng.standard_normal(count), rng.standard_normal((runs, count))
    if runs == 1:
        return own
    return np.sqrt(common) * shared + np.sqrt(1 - common) * own


def image_counts() -> list[np.ndarray]:
    """Returns the images at 200X of each benign and of each malignant patient of BreaKHis."""
    counts: list[collections.Counter[str]] = [collections.Counter(), collections.Counter()]
    for slide in slide_table():
        label = int(slide["subtype"] not in _BENIGN_TYPES)
        counts[label][slide["accession"]] += int(slide["n200"])
    return [np.array(sorted(count.values())) for count in counts]


def _predictions(label_of: np.ndarray, patient: np.ndarray, log_odds: np.ndarray) -> Predictions:
    names = np.array([f"{number:05d}" for number in range(len(label_of))])[patient]
    return Predictions(
        file=np.char.mod("%d", np.arange(len(patient))),
        slide=names,
        accession=names,
        magnification=np.full(len(patient), 200),
        subtype=np.where(label_of[patient] == 1, "DC", "A"),
        label=label_of[patient],
        probability=probability_of(log_odds),
    )


def intervals_of(predictions: Predictions) -> dict[str, tuple[float, float]]:
    """Returns the defined intervals of the functions of ``se_resnet.metrics`` by kind of metric."""
    cohort = Cohort.of(predictions)
    estimates = _flat(map_metrics(Metric.estimate, all_metrics(predictions, 0.5, cohort)))
    described = calibration_line(predictions.label, predictions.probability, cohort)
    losses = calibration.losses(predictions, predictions.probability, cohort)
    estimates |= {f"image {name}": estimate for name, estimate in described.items()}
    estimates["image nll"] = losses["nll"].estimate()
    accepted = selective.risk_coverage(predictions, points=10)
    estimates |= {f"image {name}": accepted[name] for name in ("aurc", "accuracy_at_80")}
    bounds = {
        name: (estimate["low"], estimate["high"])
        for name, estimate in estimates.items()
        if estimate["low"] is not None
    }
    clinical_part = clinical.describe(predictions, 0.5)
    for name in ("ppv", "npv"):
        bounds[f"patient {name}"] = (clinical_part[name]["low"], clinical_part[name]["high"])
    benefit = clinical_part["decision_curve"]
    index = benefit["threshold"].index(0.5)
    bounds["net benefit at 0.5"] = (benefit["low"][index], benefit["high"][index])
    for band, curve, points in ((roc_band, "ROC", _RATES), (pr_band, "PR", _RECALLS)):
        result = band(predictions, points=11)
        for point in points:
            index = round(10 * point)
            bounds[f"{curve} at {point}"] = (result["low"][index], result["high"][index])
    risk = accepted["curve"]
    bounds["risk at 0.5"] = (risk["low"][4], risk["high"][4])
    return bounds


def true_values(cell: Cell) -> dict[str, float]:
    """Returns the values of :func:`intervals_of` in the population."""
    scale = POPULATION // (cell.benign + cell.malignant)
    (predictions,) = cell.draw(np.random.default_rng(0), scale=scale)
    label, probability = predictions.label == 1, predictions.probability
    _, patient = np.unique(predictions.accession, return_inverse=True)
    images = np.bincount(patient)
    right = (probability >= 0.5) == label
    values: dict[str, float] = {}
    votes = np.bincount(patient, probability >= 0.5) / images
    of_patient = np.bincount(patient, label) > 0
    mean = np.bincount(patient, probability) / images
    for level, unit_label, unit_probability, called in (
        ("image", label, probability, probability >= 0.5),
        ("patient mean_probability", of_patient, mean, mean >= 0.5),
        ("patient majority_vote", of_patient, votes, votes >= 0.5),
    ):
        one_group = np.zeros(len(unit_label), int)
        metrics = binary_metrics(unit_label, unit_probability, called, one_group, np.ones((1, 1)))
        values |= {f"{level} {name}": float(value[0]) for name, value in metrics.items()}
    values["image recognition_rate"] = values["image accuracy"]
    score = np.bincount(patient, right) / images
    values["patient recognition_rate"] = score.mean()
    values["patient recognition_rate_benign"] = score[~of_patient].mean()
    values["patient recognition_rate_malignant"] = score[of_patient].mean()

    one_patient = dataclasses.replace(predictions, accession=np.full(len(label), "all"))
    whole = Cohort.of(one_patient)
    described = calibration_line(predictions.label, probability, whole)
    values |= {f"image {name}": estimate["value"] for name, estimate in described.items()}
    losses = calibration.losses(one_patient, probability, whole)
    values["image nll"] = float(losses["nll"].values[0])
    accepted = selective.risk_coverage(one_patient, points=10)
    values |= {f"image {name}": accepted[name]["value"] for name in ("aurc", "accuracy_at_80")}
    sensitivity, specificity = (
        values[f"patient mean_probability {name}"] for name in ("recall", "specificity")
    )
    values["patient ppv"] = sensitivity / (sensitivity + 1 - specificity)  # at a prevalence of 0.5
    values["patient npv"] = specificity / (specificity + 1 - sensitivity)
    values["net benefit at 0.5"] = (sensitivity + specificity - 1) / 2
    values["risk at 0.5"] = accepted["curve"]["risk"][4]
    false_positives, true_positives, _ = roc_curve(predictions.label, probability)
    precision, recall, _ = pr_curve(predictions.label, probability)
    values |= {
        f"ROC at {rate}": np.interp(rate, false_positives, true_positives) for rate in _RATES
    }
    values |= {f"PR at {point}": precision[np.searchsorted(recall, point)] for point in _RECALLS}
    return values


def measure(cell: Cell, samples: int) -> dict[str, Any]:
    """Simulates ``samples`` data sets of a cell.

    Returns:
        ``intervals``: for each kind of metric ``coverage``, median ``width`` and share of ``zero``
        width, of the samples in which it is defined. ``excluded``: for each metric the share of
        comparisons of two equal runs whose interval excludes 0.
    """
    truth, rng = true_values(cell), np.random.default_rng(1)
    found, excluded = collections.defaultdict(list), collections.defaultdict(list)
    for _ in range(samples):
        a, b = cell.draw(rng, runs=2)
        for name, (low, high) in intervals_of(a).items():
            covers = low - 1e-9 <= truth[name] <= high + 1e-9
            found[name].append((covers, high - low, high - low < 1e-9))
        for name, row in _flat(
            {level: compare(a, b)[level] for level in ("image", "patient")}, "value_a"
        ).items():
            difference = row["difference"]
            if difference["low"] is not None:
                excluded[name].append(not difference["low"] <= 0 <= difference["high"])
    return {
        "cell": dataclasses.asdict(cell),
        "intervals": {
            name: {
                "coverage": float(np.mean([row[0] for row in rows])),
                "width": float(np.median([row[1] for row in rows])),
                "zero": float(np.mean([row[2] for row in rows])),
                "defined": len(rows),
            }
            for name, rows in found.items()
        },
        "excluded": {
            name: {"share": float(np.mean(rows)), "defined": len(rows)}
            for name, rows in excluded.items()
        },
    }


def _flat(tree: dict[str, Any], leaf: str = "value", prefix: str = "") -> dict[str, Any]:
    """Returns the estimates of a tree, which have the entry ``leaf``, by their joined names."""
    flat: dict[str, Any] = {}
    for name, entry in tree.items():
        if not isinstance(entry, dict):
            continue
        if leaf in entry:
            flat[f"{prefix}{name}"] = entry
        else:
            flat |= _flat(entry, leaf, f"{prefix}{name} ")
    return flat


def summarise(cells: list[dict[str, Any]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Returns the rows of both tables: coverage by kind, and false positives by metric.

    A cell of a table is over all true AUCs, shares and models of a number of patients: coverage as
    least / mean, median width, and the largest share of zero width if there is any.
    """
    groups = collections.defaultdict(list)
    for cell in cells:
        groups[cell["cell"]["benign"] + cell["cell"]["malignant"]].append(cell)
    coverage, excluded = [], []
    for name in cells[-1]["intervals"]:
        row = {"metric": name.replace("_", " ")}
        for patients, group in groups.items():
            found = [cell["intervals"][name] for cell in group if name in cell["intervals"]]
            found = [entry for entry in found if entry["defined"] >= 0.8 * _most(group)]
            if not found:
                row[f"{patients} patients"] = "–"
                continue
            covered = [entry["coverage"] for entry in found]
            zero = max(entry["zero"] for entry in found)
            row[f"{patients} patients"] = (
                f"{100 * min(covered):.1f} / {100 * np.mean(covered):.1f}, width "
                f"{np.median([entry['width'] for entry in found]):.2f}"
                + (f", zero {100 * zero:.0f} %" if zero else "")
            )
        coverage.append(row)
    for name in cells[-1]["excluded"]:
        row = {"metric": name.replace("_", " ")}
        for patients, group in groups.items():
            shares = [cell["excluded"][name]["share"] for cell in group if name in cell["excluded"]]
            text = f"{100 * max(shares):.1f} / {100 * np.mean(shares):.1f}" if shares else "–"
            row[f"{patients} patients"] = text
        excluded.append(row)
    return coverage, excluded


def _most(group: list[dict[str, Any]]) -> int:
    return max(entry["defined"] for cell in group for entry in cell["intervals"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=600, help="data sets of a cell")
    parser.add_argument("--patients", type=int, nargs="+", default=[*PATIENTS], choices=PATIENTS)
    parser.add_argument("--aucs", type=float, nargs="+", default=AUCS)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--out", type=path_option, help="JSON file to write")
    options = parser.parse_args()
    cells = [
        Cell(*PATIENTS[patients], auc, share, model)
        for patients, auc, share, model in itertools.product(
            options.patients, options.aucs, options.shares, options.models
        )
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(measure, cells, itertools.repeat(options.samples)))
    if options.out:
        write_json(options.out, results)
    coverage, excluded = summarise(results)
    print("Coverage of 95 % intervals in %: least / mean over the cells, median width\n")
    print(table(coverage))
    print("\nComparisons of equal runs whose interval excludes 0, in %: largest / mean\n")
    print(table(excluded))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
