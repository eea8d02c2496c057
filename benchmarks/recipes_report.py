"""Prints the comparisons of ``benchmarks.recipes`` from its predictions.

    python -m benchmarks.recipes_report WORKDIR [--out report.json]

``AUC`` is the image AUC over pairs of images of one outer fold, and ``patient AUC`` that of the
mean probabilities of patients. The threshold is 0.5. Differences are paired: both recipes tested
the same images with the same division and the same new weights. A difference is given for every
pair of runs, with its interval for new patients; ``patients and seeds`` is the interval of their
mean (:mod:`se_resnet.metrics.seeds`), where the members of an ensemble and the seeds of the
division are repeats. Repeats share their patients, so that this interval is conservative.

Tables:

* ``rows``: metrics of a single network of every arm, mean over the members that are finished;
  ``of each`` is their number in an outer fold.
* ``validation``: metrics of the images that validate, of every arm and of ``base`` with the same
  members: pairs of images of one member, mean over the outer folds.
* ``arms``: difference of every arm to ``base``: single networks of the members that both have, then
  ensembles of all members.
* ``chosen``: the arm that has the best validation metric, in every outer fold. Only the division
  outside of the test part of a fold decides there.
* ``choices``: the test images of the chosen arms, and the difference to ``base``. They are the
  estimate for a recipe that is chosen from all of them.
* ``ensembles``: metrics of the mean of several members; with fewer than all, the mean over the
  subsets of the members.
* ``gains``: difference of an ensemble to its members, and of the mean probability to the mean
  logit.
* ``equal_cost``: an ensemble of the base less one network of the same cost, with the epochs of all
  members, by its moving average (``averaged``) and its ``uniform`` average.
* ``weights``: averaged weights less last weights of single networks, ``base`` with intervals and
  the spread over all arms; for whole networks also the uniform less the moving average of ``base``.
* ``views``: mean logit of the dihedral views less the original view.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frozen_report import difference_rows, mean, metric, spread_rows, value_row
from benchmarks.measuring import finish, parser
from benchmarks.recipe_arms import ARMS, AVERAGED, BASE, DIHEDRAL, LAST, UNIFORM, Arm
from benchmarks.stage_training import FACTS, SETTINGS
from se_resnet.errors import UserError
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.levels import all_metrics
from se_resnet.metrics.predictions import (
    PREDICTIONS,
    Predictions,
    in_folds,
    logit_of,
    probability_of,
)
from se_resnet.runs.run_files import TEST, VAL
from se_resnet.runtime.cli import exit_on_user_error, path_argument
from se_resnet.runtime.files import read_json

COMPARED = ("AUC", "patient AUC", "Brier score", "balanced accuracy")
LOGIT, PROBABILITY = "mean logit", "mean probability"
# Metrics of validation images that choose an arm, with the factor that makes the largest the best.
CHOOSING = {"AUC": 1, "Brier score": -1}


def ensemble(runs: Sequence[Predictions], kind: str = LOGIT) -> Predictions:
    """Returns the mean of several networks on the same images.

    Args:
        runs: predictions of each network, in the same order of images.
        kind: ``mean logit`` or ``mean probability``.

    Raises:
        ValueError: the images differ.
    """
    first = runs[0]
    if not all(np.array_equal(first.file, run.file) for run in runs):
        raise ValueError("the networks of an ensemble predict different images")
    probabilities = np.stack([run.probability for run in runs])
    if kind == PROBABILITY:
        combined = probabilities.mean(axis=0)
    else:
        combined = probability_of(logit_of(probabilities).mean(axis=0))
    return dataclasses.replace(first, probability=combined)


@dataclasses.dataclass(frozen=True)
class Results:
    """The predictions of a measurement.

    Attributes:
        workdir: folder of the measurement.
        folds: number of outer folds.
        members: number of members of an ensemble.
        arms: the recipes, the base first.
    """

    workdir: Path
    folds: int
    members: int
    arms: tuple[Arm, ...] = ARMS

    @classmethod
    def open(cls, workdir: Path) -> Results:
        """Reads the settings of a measurement.

        Raises:
            UserError: there is no measurement in the folder.
        """
        try:
            settings = read_json(workdir / SETTINGS)
            return cls(workdir, settings["folds"], settings["members"])
        except (OSError, KeyError) as error:
            raise UserError(
                f"{workdir} has no measurement: run python -m benchmarks.recipes {workdir}."
            ) from error

    def seeds(self) -> list[int]:
        """Returns the seeds of the base that have begun."""
        found = (self.workdir / BASE.name).glob("seed*")
        return sorted(int(path.name.removeprefix("seed")) for path in found)

    def members_of(self, arms: Iterable[Arm], seed: int) -> list[int]:
        """Returns the members that all folds of all these arms have finished."""
        return [
            member
            for member in range(self.members)
            if all(
                (self._folder(arm, seed, fold, member) / FACTS).exists()
                for arm in arms
                for fold in range(self.folds)
            )
        ]

    def choices(self, *wanted: str) -> list[str]:
        """Returns the choices of the weights that the networks of the base have."""
        seed, member = self.repeats(self.arms[0])[0]
        folder = self._folder(self.arms[0], seed, 0, member)
        return [choice for choice in wanted if (folder / choice).is_dir()]

    def repeats(self, *arms: Arm) -> list[tuple[int, int]]:
        """Returns seed and member of the networks that all these arms have."""
        return [(seed, member) for seed in self.seeds() for member in self.members_of(arms, seed)]

    def complete_seeds(self, *arms: Arm) -> list[int]:
        """Returns the seeds in which all members of these arms are finished."""
        return [s for s in self.seeds() if len(self.members_of(arms, s)) == self.members]

    def tested(self, arm: Arm, seed: int, member: int, choice: str = AVERAGED) -> Predictions:
        """Returns the test images of all outer folds, predicted by one member of each."""
        return in_folds(
            [self._read(arm, seed, fold, member, choice, TEST) for fold in range(self.folds)]
        )

    def combined(
        self,
        arm: Arm,
        seed: int,
        members: Sequence[int],
        kind: str = LOGIT,
        choice: str = AVERAGED,
    ) -> Predictions:
        """Returns the test images of all outer folds, predicted by an ensemble of each."""
        return ensemble([self.tested(arm, seed, member, choice) for member in members], kind)

    def validated(self, arm: Arm, seed: int, fold: int, members: Sequence[int]) -> Predictions:
        """Returns the validation images of an outer fold. The fold of an image is its member."""
        return in_folds([self._read(arm, seed, fold, member, AVERAGED, VAL) for member in members])

    def _read(
        self, arm: Arm, seed: int, fold: int, member: int, choice: str, role: str
    ) -> Predictions:
        folder = self._folder(arm, seed, fold, member) / choice / role
        return Predictions.read_csv(folder / PREDICTIONS)

    def _folder(self, arm: Arm, seed: int, fold: int, member: int) -> Path:
        return self.workdir / arm.name / f"seed{seed}" / f"fold{fold}" / f"member{member}"


def validation_score(
    results: Results, arm: Arm, seed: int, fold: int, members: Sequence[int], name: str
) -> float:
    """Returns a metric of the validation images of an outer fold, NaN where it is undefined."""
    predictions = results.validated(arm, seed, fold, members)
    found = all_metrics(predictions, 0.5, Cohort.of(predictions))
    return float(metric(found, name).values[0])


def value_rows(results: Results) -> list[dict[str, Any]]:
    """Returns the metrics of a single network of every arm, the mean over its members."""
    rows = []
    for arm in results.arms:
        if repeats := results.repeats(arm):
            row = value_row(arm.name, [results.tested(arm, *repeat) for repeat in repeats])
            row["seeds"] = len({seed for seed, _ in repeats})
            rows.append({**row, "of each": len(repeats)})
    return rows


def validation_rows(results: Results) -> list[dict[str, Any]]:
    """Returns the validation metrics of every arm, and of the base with the same members."""
    base, *others = results.arms
    rows = []
    for arm in others:
        if not (repeats := results.repeats(base, arm)):
            continue
        row: dict[str, Any] = {"arm": arm.name, "of each": len(repeats)}
        for name in CHOOSING:
            for title, scored in (("base", base), ("arm", arm)):
                row[f"{name}, {title}"] = mean(
                    validation_score(results, scored, seed, fold, members, name)
                    for seed in results.seeds()
                    if (members := results.members_of([base, arm], seed))
                    for fold in range(results.folds)
                )
        rows.append(row)
    return rows


def arm_rows(results: Results) -> list[dict[str, Any]]:
    """Returns the difference of every arm to the base: single networks, then ensembles.

    The single networks are those of the members that both have.
    """
    base, *others = results.arms
    rows, everyone = [], range(results.members)
    for arm in others:
        if repeats := results.repeats(base, arm):
            pairs = [
                (f"{seed}/{member}", *(results.tested(a, seed, member) for a in (base, arm)))
                for seed, member in repeats
            ]
            rows += difference_rows(arm.name, pairs, COMPARED)
    for arm in others:
        if seeds := results.complete_seeds(base, arm):
            wholes = [
                (str(seed), *(results.combined(a, seed, everyone) for a in (base, arm)))
                for seed in seeds
            ]
            title = f"{arm.name}, ensembles of {results.members}"
            rows += difference_rows(title, wholes, COMPARED)
    return rows


def choice_rows(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the arm chosen in every outer fold, and the comparison of the choices to the base.

    The arms that have the first member are compared by their first networks, and the arms that
    have all members by their ensembles.
    """
    chosen_rows, rows = [], []
    for members in (range(1), range(results.members)):
        title = "first networks" if len(members) == 1 else f"ensembles of {len(members)}"

        def finished(seed: int, members: Sequence[int] = members) -> tuple[Arm, ...]:
            return tuple(
                arm for arm in results.arms if set(members) <= set(results.members_of([arm], seed))
            )

        candidates = finished(results.seeds()[0])
        # In every seed, the choice is made from the same arms.
        seeds = [seed for seed in results.seeds() if finished(seed) == candidates]
        if len(candidates) < 2:
            continue
        for name in CHOOSING:
            pairs = []
            for seed in seeds:
                chosen = [
                    _choose(results, candidates, seed, fold, members, name)
                    for fold in range(results.folds)
                ]
                facts = {"among": title, "candidates": len(candidates), "seed": seed}
                chosen_rows += [
                    {**facts, "fold": fold, **row} for fold, (_, row) in enumerate(chosen)
                ]
                tested = [results.combined(arm, seed, members) for arm, _ in chosen]
                parts = [run.take(run.fold == fold) for fold, run in enumerate(tested)]
                base = results.combined(results.arms[0], seed, members)
                pairs.append((str(seed), base, in_folds(parts)))
            rows += difference_rows(f"{title}, by validation {name}", pairs, COMPARED)
    return chosen_rows, rows


def _choose(
    results: Results,
    candidates: Sequence[Arm],
    seed: int,
    fold: int,
    members: Sequence[int],
    name: str,
) -> tuple[Arm, dict[str, Any]]:
    """Returns the arm with the best validation metric in an outer fold, and a row about it."""
    scores = {arm: validation_score(results, arm, seed, fold, members, name) for arm in candidates}
    best = max(scores, key=lambda arm: CHOOSING[name] * scores[arm])
    row = {
        "by": f"validation {name}",
        "chosen": best.name,
        "its score": scores[best],
        "score of the base": scores[results.arms[0]],
    }
    return best, row


def ensemble_rows(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the metrics of ensembles of every size, and their differences."""
    rows, differences = [], []
    for arm in results.arms:
        if not (seeds := results.complete_seeds(arm)):
            continue
        everyone = range(results.members)
        for size in range(1, results.members + 1):
            subsets = list(itertools.combinations(everyone, size))
            for kind in (LOGIT, PROBABILITY)[: 1 if size == 1 else 2]:
                runs = [
                    results.combined(arm, seed, subset, kind)
                    for seed in seeds
                    for subset in subsets
                ]
                row = value_row(arm.name, runs)
                row["networks averaged"] = size
                row["by"] = "" if size == 1 else kind
                rows.append({**row, "seeds": len(seeds)})
        gains = [
            (
                f"{seed}/{member}",
                results.tested(arm, seed, member),
                results.combined(arm, seed, everyone),
            )
            for seed in seeds
            for member in everyone
        ]
        title = f"{arm.name}: {results.members} networks less one"
        differences += difference_rows(title, gains, COMPARED)
        kinds = [
            (
                str(seed),
                *(results.combined(arm, seed, everyone, kind) for kind in (LOGIT, PROBABILITY)),
            )
            for seed in seeds
        ]
        title = f"{arm.name}: {PROBABILITY} less {LOGIT}"
        differences += difference_rows(title, kinds, COMPARED)
    return rows, differences


def equal_cost_rows(results: Results) -> list[dict[str, Any]]:
    """Returns the differences of ensembles to one network that trains as many epochs."""
    base, *others = results.arms
    rows = []
    for arm in others:
        size = arm.times_epochs
        if arm.changes or size == 1 or not (repeats := results.repeats(base, arm)):
            continue
        seeds = [
            seed
            for seed, member in repeats
            if member == 0 and set(range(size)) <= set(results.members_of([base], seed))
        ]
        for choice in results.choices(AVERAGED, UNIFORM):
            pairs = [
                (
                    str(seed),
                    results.tested(arm, seed, 0, choice),
                    results.combined(base, seed, range(size)),
                )
                for seed in seeds
            ]
            if pairs:
                rows += difference_rows(
                    f"{size} networks less {arm.name}, {choice}", pairs, COMPARED
                )
    return rows


def weight_rows(results: Results) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the differences of averages to other weights: of the base, and their spread."""

    def pairs_of(arm: Arm, first: str, second: str) -> list[tuple[str, Predictions, Predictions]]:
        return [
            (f"{s}/{m}", *(results.tested(arm, s, m, choice) for choice in (first, second)))
            for s, m in results.repeats(arm)
        ]

    base = results.arms[0]
    rows = difference_rows("averaged less last", pairs_of(base, LAST, AVERAGED), COMPARED)
    if results.choices(UNIFORM):
        pairs = pairs_of(base, AVERAGED, UNIFORM)
        rows += difference_rows("uniform less averaged", pairs, COMPARED)
    every = [(a, b) for arm in results.arms for _, a, b in pairs_of(arm, LAST, AVERAGED)]
    return rows, spread_rows(every, COMPARED)


def view_rows(results: Results) -> list[dict[str, Any]]:
    """Returns the differences of the dihedral views to the original view, for first members."""
    rows = []
    for arm in (arm for arm in results.arms if arm.dihedral):
        pairs = [
            (
                f"{seed}/{member}",
                *(results.tested(arm, seed, member, choice) for choice in (AVERAGED, DIHEDRAL)),
            )
            for seed, member in results.repeats(arm)
            if member == 0
        ]
        if pairs:
            rows += difference_rows(arm.name, pairs, COMPARED)
    return rows


def report(results: Results, out: Path | None) -> None:
    """Prints all tables, and writes them to a JSON file.

    Raises:
        UserError: no member of the base is finished.
    """
    if not results.repeats(results.arms[0]):
        raise UserError(
            f"no network of {results.arms[0].name} in {results.workdir} has finished all folds: "
            "wait for it."
        )
    chosen, choices = choice_rows(results)
    ensembles, gains = ensemble_rows(results)
    weights, weights_spread = weight_rows(results)
    tables = {
        "validation": validation_rows(results),
        "arms": arm_rows(results),
        "chosen": chosen,
        "choices": choices,
        "ensembles": ensembles,
        "gains": gains,
        "equal_cost": equal_cost_rows(results),
        "weights": weights,
        "weights_of_all_arms": weights_spread,
        "views": view_rows(results),
    }
    finished = {name: rows for name, rows in tables.items() if rows}
    finish(value_rows(results), out, **finished)


def main() -> None:
    """The command."""
    flags = parser(__doc__)
    flags.add_argument("workdir", type=path_argument)
    options = flags.parse_args()
    with exit_on_user_error():
        report(Results.open(options.workdir), options.out)


if __name__ == "__main__":
    main()
