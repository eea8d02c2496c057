"""Prints the comparisons of ``benchmarks.frozen_stages`` from its predictions.

    python -m benchmarks.frozen_report WORKDIR [--choice averaged] [--out report.json]
    python -m benchmarks.frozen_report WORKDIR --rivals FOLDER ...

Every comparison is paired: both arms tested the same images with the same seed. An AUC counts pairs
of images of one fold, and ``AUC, pooled`` counts all pairs. ``strict`` and ``random`` divide the
images differently, so that their AUC counts the pairs that are in one fold of both, and once more
those at one magnification. ``logit offset`` is the arm without balancing, with the log prior odds
of the training images of each fold subtracted from the logits. The threshold is 0.5.

A seed counts where all folds of both arms are finished. The differences of the seeds are listed,
each with its interval for new patients. ``patients and seeds`` is the interval of their mean
(:mod:`se_resnet.metrics.seeds`); with two seeds it is wide, because two values hardly show how much
seeds differ.

``--rivals`` names folders of ``benchmarks.embeddings`` with the same images, folds and split seeds,
which are compared with SE and SMOTE under ``strict``.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments import with_interval
from benchmarks.frozen_stages import (
    BASE,
    CHOICES,
    LEAK,
    Arm,
    arms_of_rounds,
    attention_arms,
    balancing_arms,
)
from benchmarks.measuring import finish, parser
from benchmarks.stage_training import FACTS, SETTINGS
from se_resnet.errors import UserError
from se_resnet.metrics.calibration_line import calibration_line
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.comparison import compare, same_partition
from se_resnet.metrics.levels import all_metrics
from se_resnet.metrics.predictions import (
    PREDICTIONS,
    Predictions,
    in_folds,
    logit_of,
    probability_of,
)
from se_resnet.metrics.seeds import compare_repeats
from se_resnet.runs.run_files import TEST
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error, path_argument
from se_resnet.runtime.files import read_json

# Paths of the metrics in the results of `all_metrics` and `compare`, by their titles in the tables.
METRICS: dict[str, tuple[str, ...]] = {
    "AUC": ("image", "roc_auc"),
    "AUC, pooled": ("image", "roc_auc_pooled"),
    "patient AUC": ("patient", "mean_probability", "roc_auc"),
    "Brier score": ("image", "brier"),
    "balanced accuracy": ("image", "balanced_accuracy"),
    "sensitivity": ("image", "recall"),
    "specificity": ("image", "specificity"),
}
COMPARED = ("AUC", "Brier score", "balanced accuracy")
# Those with an interval for patients and seeds together, by their names there.
WITH_SEEDS = {
    "AUC": "image_roc_auc",
    "patient AUC": "patient_roc_auc",
    "balanced accuracy": "image_balanced_accuracy",
}
OFFSET = "logit offset"
WANTED = 0.02  # half of the width of an interval, for the number of patients


@dataclasses.dataclass(frozen=True)
class Results:
    """The predictions of a measurement.

    Attributes:
        workdir: folder of the measurement.
        choice: one of ``CHOICES``.
        folds: number of folds.
    """

    workdir: Path
    choice: str
    folds: int

    @classmethod
    def open(cls, workdir: Path, choice: str) -> Results:
        """Reads the settings of a measurement.

        Raises:
            UserError: there is no measurement in the folder.
        """
        try:
            return cls(workdir, choice, read_json(workdir / SETTINGS)["folds"])
        except OSError as error:
            raise UserError(
                f"{workdir} has no measurement: run python -m benchmarks.frozen_stages {workdir}."
            ) from error

    def of(self, arm: Arm, seed: int, choice: str = "") -> Predictions | None:
        """Returns the test images of all folds; None while a fold is not finished."""
        runs = self._runs(arm, seed)
        if not all((run / FACTS).exists() for run in runs):
            return None
        path = Path(choice or self.choice) / TEST / PREDICTIONS
        return in_folds([Predictions.read_csv(run / path) for run in runs])

    def with_offset(self, arm: Arm, seed: int) -> Predictions | None:
        """Returns :meth:`of` with the log prior odds of the training images subtracted."""
        predictions = self.of(arm, seed)
        if predictions is None:
            return None
        counts = [read_json(run / FACTS)["training_images"] for run in self._runs(arm, seed)]
        odds = np.array([np.log(malignant / benign) for benign, malignant in counts])
        logit = logit_of(predictions.probability) - odds[predictions.fold]
        return dataclasses.replace(predictions, probability=probability_of(logit))

    def facts(self, arm: Arm, seed: int) -> list[dict[str, Any]]:
        """Returns the facts of the finished folds."""
        paths = [run / FACTS for run in self._runs(arm, seed)]
        return [read_json(path) for path in paths if path.exists()]

    def _runs(self, arm: Arm, seed: int) -> list[Path]:
        folder = self.workdir / arm.name / f"seed{seed}"
        return [folder / f"fold{fold}" for fold in range(self.folds)]

    def seeds(self, arms: Iterable[Arm]) -> list[int]:
        """Returns the seeds for which all folds of these arms are finished."""
        arms = list(arms)
        found = (self.workdir / arms[0].name).glob("seed*")
        seeds = sorted(int(path.name.removeprefix("seed")) for path in found)
        return [
            seed for seed in seeds if all(len(self.facts(arm, seed)) == self.folds for arm in arms)
        ]


def metric(results: Mapping[str, Any], name: str) -> Any:
    """Returns the entry of a metric of ``METRICS`` in the results of all metrics."""
    return functools.reduce(lambda entry, key: entry[key], METRICS[name], results)


def value_row(title: str, runs: Sequence[Predictions]) -> dict[str, Any]:
    """Returns the metrics of an arm, each the mean over the seeds."""
    row: dict[str, Any] = {"arm": title, "seeds": len(runs)}
    metrics = [all_metrics(run, 0.5, Cohort.of(run)) for run in runs]
    for name in METRICS:
        row[name] = mean([float(metric(found, name).values[0]) for found in metrics])
    lines = [calibration_line(run.label, run.probability, Cohort.of(run)) for run in runs]
    for name in ("intercept", "slope"):
        row[f"calibration {name}"] = mean([line[name]["value"] for line in lines])
    return row


def difference_rows(
    title: str,
    pairs: Sequence[tuple[int | str, Predictions, Predictions]],
    compared: Iterable[str] = COMPARED,
) -> list[dict[str, Any]]:
    """Returns a row for each metric: the difference of every seed, and the mean.

    Args:
        title: of the second arm.
        pairs: seed, predictions of the first arm, predictions of the second.
        compared: titles of the metrics.
    """
    comparisons = {seed: compare(b, a) for seed, a, b in pairs}
    two_level = {}
    if len(pairs) > 1:
        two_level = compare_repeats([b for _, _, b in pairs], [a for _, a, _ in pairs])
    rows = []
    for name in compared:
        estimates = {seed: metric(comparison, name) for seed, comparison in comparisons.items()}
        values = [estimate["difference"]["value"] for estimate in estimates.values()]
        rows.append(
            {
                "arm": title,
                "metric": name,
                "first": mean([estimate["value_b"] for estimate in estimates.values()]),
                "second": mean([estimate["value_a"] for estimate in estimates.values()]),
                "differences": ", ".join(
                    with_interval(estimate["difference"], "+") for estimate in estimates.values()
                ),
                "mean": _signed(mean(values)),
                "patients and seeds": _bounds(two_level.get(WITH_SEEDS.get(name, ""))),
                "SD of seeds": statistics.stdev(values) if len(values) > 1 else None,
                f"patients for ±{WANTED}": _patients_for(comparisons, name),
            }
        )
    return rows


def _patients_for(comparisons: dict[int | str, dict], name: str) -> int | None:
    """Returns the patients for intervals of half the width ``WANTED``, the median over the seeds.

    The width of an interval falls with the square root of the number of patients.
    """
    needed = []
    for comparison in comparisons.values():
        difference = metric(comparison, name)["difference"]
        if difference["low"] is not None:
            half = (difference["high"] - difference["low"]) / 2
            needed.append(comparison["accessions"] * (half / WANTED) ** 2)
    return round(statistics.median(needed)) if needed else None


def _bounds(summary: Mapping[str, Any] | None) -> str | None:
    if summary is None:
        return None
    if summary["low"] is None:
        return summary["reason"]
    return f"{_signed(summary['low'])} to {_signed(summary['high'])}"


def leak_rows(results: Results) -> list[dict[str, Any]]:
    """Returns ``random`` less ``strict``, over three kinds of pairs of images."""
    strict, random = LEAK
    seeds = results.seeds(LEAK)
    rows = []
    for title, divide in (
        ("random, all pairs", lambda a, b: np.zeros(len(a), np.int64)),
        ("random, pairs within folds", lambda a, b: _cells(a.fold, b.fold)),
        (
            "random, pairs within folds and magnification",
            lambda a, b: _cells(a.fold, b.fold, a.magnification),
        ),
    ):
        pairs = []
        for seed in seeds:
            a, b = _aligned(results.of(strict, seed), results.of(random, seed))
            cells = divide(a, b)
            pairs.append((seed, *(dataclasses.replace(run, fold=cells) for run in (a, b))))
        # Folds change an AUC only, so that the other metrics are in one of the three.
        compared = COMPARED if len(rows) == 0 else ("AUC",)
        rows += difference_rows(title, pairs, compared)
    return rows


def _aligned(a: Predictions, b: Predictions) -> tuple[Predictions, Predictions]:
    """Returns the rows of both in the order of the file names."""
    a, b = a.take(np.argsort(a.file)), b.take(np.argsort(b.file))
    if not np.array_equal(a.file, b.file):
        raise UserError("strict and random tested different images: delete the folder.")
    return a, b


def _cells(*columns: np.ndarray) -> np.ndarray:
    """Returns the number of the combination of values of each image: ``int [N]``."""
    return np.unique(np.stack(columns), axis=1, return_inverse=True)[1].reshape(-1)


def arm_rows(
    results: Results, arms: Sequence[Arm], title: Callable[[Arm], str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the metrics of the arms, and the differences to the first arm."""
    first, *others = arms
    rows, differences = [], []
    for arm in arms:
        if seeds := results.seeds([first, arm]):
            rows.append(value_row(title(arm), [results.of(arm, seed) for seed in seeds]))
    for arm in others:
        if seeds := results.seeds([first, arm]):
            pairs = [(seed, results.of(first, seed), results.of(arm, seed)) for seed in seeds]
            differences += difference_rows(title(arm), pairs)
    return rows, differences


def offset_rows(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns metrics and differences of ``logit offset`` against no balancing."""
    none = balancing_arms()[0]
    seeds = results.seeds([none])
    if not seeds:
        return [], []
    runs = [(seed, results.of(none, seed), results.with_offset(none, seed)) for seed in seeds]
    return [value_row(OFFSET, [run for _, _, run in runs])], difference_rows(OFFSET, runs)


def rival_rows(
    results: Results, folders: Sequence[Path]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the metrics of the network and of features made elsewhere, and the differences.

    Args:
        results: of the networks.
        folders: folders of ``benchmarks.embeddings``.

    Raises:
        UserError: a folder cannot be read, or does not test the same images in the same folds.
    """
    network = BASE
    rows, differences = [], []
    for folder in folders:
        run = RunFolder(folder)
        count = run.config()["repeats"]
        pairs = []
        for repeat in run.repeats(count) if count > 1 else [run]:
            seed, b = repeat.config()["split"]["seed"], repeat.tested()
            if (a := results.of(network, seed)) is None:
                raise UserError(f"{results.workdir} has no finished {network.name} of seed {seed}.")
            if not _are_pairs(a, b):
                raise UserError(
                    f"{repeat.path} and {network.name} of seed {seed} test other images, or in "
                    "other folds: run benchmarks.embeddings with the images, config.split.folds "
                    "and config.split.seed of the networks."
                )
            pairs.append((seed, a, b))
        if not rows:
            rows.append(value_row(network.name, [a for _, a, _ in pairs]))
        rows.append(value_row(folder.name, [b for _, _, b in pairs]))
        differences += difference_rows(folder.name, pairs)
    return rows, differences


def _are_pairs(a: Predictions, b: Predictions) -> bool:
    """Returns True where both runs test the same images in the same folds."""
    a, b = a.take(np.argsort(a.file)), b.take(np.argsort(b.file))
    return np.array_equal(a.file, b.file) and same_partition(a.fold, b.fold)


def choice_rows(results: Results) -> list[dict[str, Any]]:
    """Returns the differences of the choices of a checkpoint to the last epoch.

    Every arm and seed is a comparison. Comparisons of one seed share images, so that the share of
    positive differences is no test.
    """
    runs = [
        (arm, seed)
        for arm in sorted({a for _, arms in arms_of_rounds(1, 1) for a in arms}, key=str)
        for seed in results.seeds([arm])
    ]
    rows = []
    for choice in CHOICES[1:]:
        pairs = [
            (results.of(arm, seed, "last"), results.of(arm, seed, choice)) for arm, seed in runs
        ]
        rows += [{"checkpoint": f"{choice} less last", **row} for row in spread_rows(pairs)]
    return rows


def spread_rows(
    pairs: Iterable[tuple[Predictions, Predictions]], compared: Iterable[str] = COMPARED
) -> list[dict[str, Any]]:
    """Returns a row for each metric: the spread of the differences, second less first."""
    comparisons, rows = [compare(b, a) for a, b in pairs], []
    for name in compared:
        values = [metric(comparison, name)["difference"]["value"] for comparison in comparisons]
        rows.append(
            {
                "metric": name,
                "comparisons": len(values),
                "mean": _signed(mean(values)),
                "lowest": _signed(min(values)),
                "highest": _signed(max(values)),
                "above 0": f"{sum(value > 0 for value in values)} of {len(values)}",
            }
        )
    return rows


def mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the defined values with four decimals; None if there is none."""
    defined = [value for value in values if value is not None]
    return round(statistics.fmean(defined), 4) if defined else None


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def main() -> None:
    """The command."""
    flags = parser(__doc__)
    flags.add_argument("workdir", type=path_argument)
    flags.add_argument("--choice", choices=CHOICES, default="averaged", help="of the weights")
    flags.add_argument("--rivals", type=Path, nargs="+", help="folders of benchmarks.embeddings")
    options = flags.parse_args()
    with exit_on_user_error():
        results = Results.open(options.workdir, options.choice)
        if options.rivals:
            rows, differences = rival_rows(results, options.rivals)
            finish(rows, options.out, f"weights: {results.choice}", differences=differences)
        else:
            report(results, options.out)


def report(results: Results, out: Path | None) -> None:
    """Prints all tables, and writes them to a JSON file.

    Raises:
        UserError: no seed of an arm is finished.
    """
    if not results.seeds(LEAK):
        raise UserError(f"no seed of {LEAK[1].name} in {results.workdir} is finished: wait for it.")
    leak_values = arm_rows(results, LEAK, lambda arm: arm.protocol)[0]
    attention_values, attention = arm_rows(results, attention_arms(), lambda arm: arm.attention)
    balancing_values, balancing = arm_rows(results, balancing_arms(), lambda arm: arm.balancing)
    offset_values, offset = offset_rows(results)
    tables = {
        "leak": leak_rows(results),
        "attention_values": attention_values,
        "attention": attention,
        "balancing_values": [*balancing_values, *offset_values],
        "balancing": [*balancing, *offset],
        "checkpoint": choice_rows(results),
    }
    # No seed of a comparison may be finished yet.
    finished = {name: rows for name, rows in tables.items() if rows}
    finish(leak_values, out, f"weights: {results.choice}", **finished)


if __name__ == "__main__":
    main()
