r"""Trains at one magnification and tests at each; leaves out one magnification of the training.

    python -m benchmarks.magnifications WORKDIR --data_dir=/path/to/BreaKHis_v1

Prints a table of image ROC AUC with 95 % intervals for new patients. Rows are the magnifications of
the training images, columns those of the test images. ``all but that of the test`` has a network
for each column, ``all`` one network. ``calls agree`` is the share of pairs of magnifications whose
calls for a patient agree (:mod:`se_resnet.metrics.agreement`). A second table has the difference of
``all but that of the test`` to ``all`` on the same test images. ``--figure`` draws the first table
as a heat map.

The division is that of protocol ``strict``: the patients of a fold are the same in every row, and
the test images of all folds are evaluated together. AUC counts pairs of images within folds. Each
network is trained once by :mod:`benchmarks.frozen_stages`, with its options and its cheaper parts,
and predicts the test images of all magnifications; SE in the last stage, SMOTE within each
magnification, averaged weights after the last epoch, so that validation images choose nothing. With
several seeds, a value is the mean over the seeds, and its interval is that for patients and seeds
together (:mod:`se_resnet.metrics.seeds`).

A row that cannot be trained is named with the reason: a fold lacks training or validation images,
or it has fewer than ``--least`` training images of a class. The same command resumes an interrupted
measurement. ``--tables`` prints the tables of the finished fold runs without training.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.experiments import tested, with_interval
from benchmarks.frozen_report import Results
from benchmarks.frozen_stages import Arm, add_options, make_config, measure, roles_of
from benchmarks.measuring import finish, parser
from data.dataset import load_dataset
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.metrics.comparison import compare
from se_resnet.metrics.evaluation import evaluate
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions
from se_resnet.metrics.seeds import across_repeats, compare_repeats
from se_resnet.report.style import INK, png
from se_resnet.runs.run_files import TRAIN
from se_resnet.runtime.cli import exit_on_user_error, path_argument
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.runtime.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHERS, ALL = "all but that of the test", "all"
CHOICE = "averaged"  # weights of frozen_stages that need no validation image
LEAST = 20  # training images of each class
_AUC = "image_roc_auc"
NOT_TRAINED, NOT_FINISHED = "not trained", "not finished"
Estimate = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to choose the magnifications of the training images.

    Attributes:
        title: of the row.
        arms: the arm of each magnification of the test images.
    """

    title: str
    arms: dict[int, Arm]


def rows_of(scales: Sequence[int]) -> list[Row]:
    """Returns a row for each magnification, for all others and for all together."""
    rows = [
        Row(f"{scale}X", dict.fromkeys(scales, Arm(train_magnifications=(scale,))))
        for scale in scales
    ]
    others = {
        scale: Arm(train_magnifications=tuple(other for other in scales if other != scale))
        for scale in scales
    }
    return [*rows, Row(OTHERS, others), Row(ALL, dict.fromkeys(scales, Arm()))]


def obstacle(
    config: ConfigDict, records: Records, arm: Arm, seeds: Sequence[int], least: int
) -> str:
    """Returns the reason why an arm cannot be trained, empty if it can.

    Args:
        config: of all fold runs.
        records: all images.
        arm: the arm.
        seeds: of the divisions.
        least: required number of training images of each class in every fold.
    """
    for seed in seeds:
        for fold in range(config.split.folds):
            where = f"seed {seed}, fold {fold}"
            try:
                roles = roles_of(config, records, arm, seed, fold)
            except UserError as error:
                problem, _, _ = str(error).partition(";")  # the remedy is for train.py
                return f"{where}: {problem}"
            counts = np.bincount(records.label[roles == TRAIN], minlength=2).tolist()
            for name, count in zip(CLASS_NAMES, counts, strict=True):
                if count < least:
                    return f"{where} has {count} {name} training images, fewer than {least}"
    return ""


def matrix(
    rows: Sequence[Row], runs: dict[Arm, list[Predictions]], untrained: Collection[Arm]
) -> dict[str, dict[int, Estimate | str]]:
    """Returns the image ROC AUC by title of the row and magnification of the test images.

    Args:
        rows: of the table.
        runs: predictions of the test images of all folds, by finished arm and seed. The entries of
            other arms are the reason.
        untrained: arms that cannot be trained.
    """

    def entry(scale: int, arm: Arm) -> Estimate | str:
        if arm in runs:
            return _auc([at(run, scale) for run in runs[arm]])
        return NOT_TRAINED if arm in untrained else NOT_FINISHED

    return {
        row.title: {scale: entry(scale, arm) for scale, arm in row.arms.items()} for row in rows
    }


def at(predictions: Predictions, scale: int) -> Predictions:
    """Returns the images of one magnification."""
    return predictions.take(predictions.magnification == scale)


def _auc(runs: list[Predictions]) -> Estimate:
    if len(runs) == 1:
        return evaluate(runs[0], permutations=1)["image"]["roc_auc"]
    return _as_estimate(across_repeats(runs)[_AUC])


def _as_estimate(summary: dict[str, Any]) -> Estimate:
    return summary | {"value": summary["mean"]}


def agreement(row: Row, runs: dict[Arm, list[Predictions]]) -> str:
    """Returns the agreement of the calls over magnifications, by a network for all of them."""
    if len(arms := set(row.arms.values())) > 1 or not arms <= runs.keys():
        return ""
    found = [evaluate(run, permutations=1)["magnification_agreement"] for run in runs[arms.pop()]]
    estimates = [part["all_pairs"] for part in found]
    if len(estimates) == 1:
        return with_interval(estimates[0])
    return " / ".join(with_interval(estimate) for estimate in estimates)


def difference(first: list[Predictions], second: list[Predictions]) -> Estimate:
    """Returns the image ROC AUC of the second runs less that of the first, on the same images."""
    if len(first) == 1:
        return compare(second[0], first[0])["image"]["roc_auc"]["difference"]
    return _as_estimate(compare_repeats(second, first)[_AUC])


def cell(estimate: Estimate | str, sign: str = "") -> str:
    """Formats an entry; a metric without a value or an interval is followed by the reason."""
    if isinstance(estimate, str):
        return estimate
    text = with_interval(estimate, sign)
    remark = estimate.get("reason") or estimate.get("remark")
    return f"{text}: {remark}" if remark else text


def report(
    results: Results, rows: Sequence[Row], seeds: Sequence[int], untrained: Collection[Arm]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, dict[int, Estimate | str]]]:
    """Returns the table, the differences, and the entries of the table.

    Args:
        results: of the fold runs.
        rows: of :func:`rows_of`.
        seeds: of the fold runs.
        untrained: arms that cannot be trained.

    Raises:
        UserError: no row is finished.
    """
    scales, runs = list(rows[0].arms), {}
    for arm in {arm for row in rows for arm in row.arms.values()} - {*untrained}:
        finished = [run for seed in seeds if (run := results.of(arm, seed)) is not None]
        if len(finished) == len(seeds):
            runs[arm] = finished
    found = matrix(rows, runs, untrained)
    example = next(iter(runs.values()), None)
    if example is None:
        raise UserError(
            "no row is finished: wait for the processes that train, or give more images, fewer "
            "--folds or a lower --least where no row can be trained."
        )
    counted = {
        scale: tested(evaluate(at(example[0], scale), permutations=1)["counts"]) for scale in scales
    }
    table: list[dict[str, Any]] = [
        {"trained at": "tested", **{f"{scale}X": counted[scale] for scale in scales}}
        | {"calls agree": ""}
    ]
    for row in rows:
        cells = {f"{scale}X": cell(estimate) for scale, estimate in found[row.title].items()}
        table.append({"trained at": row.title, **cells, "calls agree": agreement(row, runs)})
    others, everything = rows[-2].arms, rows[-1].arms
    differences = [
        {
            "tested at": f"{scale}X",
            f"{OTHERS}, less all": cell(
                difference(
                    *(
                        [at(run, scale) for run in runs[arms[scale]]]
                        for arms in (everything, others)
                    )
                ),
                "+",
            ),
        }
        for scale in scales
        if {everything[scale], others[scale]} <= runs.keys()
    ]
    return table, differences, found


def draw(found: dict[str, dict[int, Estimate | str]]) -> tuple[Callable[[Axes], None], tuple]:
    """Returns the function that draws the heat map of image ROC AUC, and its size in inches."""
    titles, scales = list(found), list(next(iter(found.values())))
    values = np.array([[_value(entry) for entry in row.values()] for row in found.values()])

    def plot(axes: Axes) -> None:
        axes.grid(False)
        axes.set_facecolor("#E5E7EB")
        axes.imshow(values, cmap="Blues", vmin=0.3, vmax=1.1, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            text = _short(found[titles[y]][scales[x]])
            axes.text(x, y, text, ha="center", va="center", color="white" if value > 0.8 else INK)
        axes.set_xticks(range(len(scales)), [f"{scale}×" for scale in scales])
        axes.set_yticks(range(len(titles)), [title.replace("X", "×") for title in titles])
        axes.set(
            xlabel="magnification of the test images", ylabel="magnification of the training images"
        )
        axes.set_title("Image ROC AUC with 95 % interval", fontsize=11)

    return plot, (3.2 + 1.2 * len(scales), 1.2 + 0.65 * len(titles))


def _value(estimate: Estimate | str) -> float:
    """Returns the value of an entry, NaN if it has none."""
    if isinstance(estimate, str) or estimate["value"] is None:
        return float("nan")
    return estimate["value"]


def _short(estimate: Estimate | str) -> str:
    """Returns the text of a cell of the heat map."""
    if isinstance(estimate, str):
        return estimate
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}\nno interval"
    return f"{estimate['value']:.2f}\n{estimate['low']:.2f}–{estimate['high']:.2f}"


def main() -> None:
    """The command."""
    flags = parser(__doc__)
    add_options(flags)
    flags.add_argument("--seeds", type=int, default=1)
    flags.add_argument(
        "--least", type=int, default=LEAST, help="training images of each class that a row needs"
    )
    flags.add_argument("--tables", action="store_true", help="print tables without training")
    flags.add_argument("--figure", type=path_argument, help="PNG file to write")
    options = flags.parse_args()
    keep_compiled_programs()
    with exit_on_user_error():
        run(make_config(options), options)


def run(config: ConfigDict, options: argparse.Namespace) -> None:
    """Trains the missing fold runs, prints the tables, and writes the requested files.

    Args:
        config: of all fold runs.
        options: ``workdir``, ``seeds``, ``least``, ``part``, ``parts``, ``tables``, ``figure`` and
            ``out``.

    Raises:
        UserError: the images are not available or have one magnification, ``workdir`` has a
            measurement with other settings, or no row is finished.
    """
    seeds = range(options.seeds)
    records = load_dataset(config.data.dir, size=tuple(config.data.size)).records
    scales = np.unique(records.magnification).tolist()
    if len(scales) < 2:
        raise UserError(
            f"all images of {config.data.dir} have one magnification: give images of several."
        )
    arms = list(dict.fromkeys(arm for row in rows_of(scales) for arm in row.arms.values()))
    found = {arm: obstacle(config, records, arm, seeds, options.least) for arm in arms}
    untrained = {arm: reason for arm, reason in found.items() if reason}
    notes = [f"not trained: {_name(arm)}, since {reason}" for arm, reason in untrained.items()]
    print(*notes, sep="\n", flush=True)
    # Each arm is a round, so that the processes divide the fold runs evenly.
    rounds = [(seed, (arm,)) for seed in seeds for arm in arms if arm not in untrained]
    if not options.tables:
        measure(config, options.workdir, rounds, (options.part, options.parts))
    results = Results.open(options.workdir, CHOICE)
    table, differences, estimates = report(results, rows_of(scales), seeds, untrained)
    if options.figure:
        plot, size = draw(estimates)
        with atomic_write(options.figure, "wb") as file:
            file.write(png("magnifications", "Image ROC AUC by magnification", plot, size))
    further = {"differences": differences} if differences else {}
    finish(table, options.out, *notes, **further)


def _name(arm: Arm) -> str:
    scales = " + ".join(f"{scale}X" for scale in arm.train_magnifications)
    return scales or ALL


if __name__ == "__main__":
    main()
