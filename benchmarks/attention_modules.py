"""Measures the gain of each attention module, with one recipe and seed, on unseen patients.

    python -m benchmarks.attention_modules --data_dir=SUBSET --workdir=runs/attention

Trains ``--config`` with every module of ``--modules`` and every seed of ``--seeds``, with all folds
of ``strict``, and writes ``attention.md`` and ``attention.json`` into the workdir. The seed decides
the order of the images, augmentation, SMOTE and new weights, but not the folds. By default the stem
and the first two stages, with their attention, stay frozen. The gain of a module is its difference
to ``none``, with a 95 % interval from the gain of each patient. With several seeds, the logits of
each image are averaged over the seeds first, which makes an ensemble; the interval then holds
patients only. The same command resumes an interrupted measurement. It reads finished runs, so that
``--modules`` can add rows to a table.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.experiments import METRICS, results_of, run_all, tested, with_interval
from benchmarks.measuring import table
from se_resnet.metrics.comparison import compare
from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.predictions import Predictions, logit_of, probability_of
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error, path_argument, path_option
from se_resnet.runtime.files import atomic_write, write_json

BASELINE = "none"
RULES = "stem|stage[12]=0 stage[34]|head=1"  # for the budget of a CPU


def configure(options: argparse.Namespace, module: str, seed: int) -> ConfigDict:
    config = importlib.import_module(f"configs.{options.config}").get_config()
    config.seed = seed
    config.data.dir = options.data_dir
    config.data.size = (options.size, options.size)
    config.data.magnifications = tuple(options.magnifications)
    config.epochs = options.epochs
    config.batch_size = options.batch_size
    config.split.folds = options.folds
    config.split.fold = "all"
    config.optim.rules = options.rules
    config.model.attention = module
    return config


def predictions_of(workdir: Path, module: str, seeds: list[int]) -> Predictions:
    """Returns test predictions of all folds, with logits averaged over the seeds."""
    runs = [RunFolder(workdir / f"{module}-{seed}").evaluation().predictions() for seed in seeds]
    logit = np.mean([logit_of(run.probability) for run in runs], axis=0)
    return dataclasses.replace(runs[0], probability=probability_of(logit))


def rows_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns one row per module: the metrics of each seed, and the gain over the baseline."""
    baseline = predictions_of(options.workdir, BASELINE, options.seeds)
    rows = []
    for module in options.modules:
        seeds = [results_of(options.workdir / f"{module}-{seed}") for seed in options.seeds]
        gain = compare(predictions_of(options.workdir, module, options.seeds), baseline)
        rows.append({"module": module, "seeds": seeds, "gain": headline(gain)})
    return rows


def in_words(row: dict[str, Any]) -> dict[str, str]:
    """Formats a row for the table: one seed with intervals, or several seeds; and the gains."""
    cells = {"attention": row["module"]}
    for title in METRICS:
        estimates = [seed[title] for seed in row["seeds"]]
        single = len(estimates) == 1
        cells[title] = ", ".join(
            with_interval(estimate) if single else f"{estimate['value']:.3f}"
            for estimate in estimates
        )
    for title in ("image ROC AUC", "image accuracy", "patient recognition rate"):
        difference = row["gain"][METRICS[title]]["difference"]
        same = row["module"] == BASELINE
        cells[f"{title}, gain"] = "" if same else with_interval(difference, "+")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=path_option, required=True)
    parser.add_argument("--workdir", type=path_argument, required=True)
    parser.add_argument("--config", default="breakhis", help="file of configs/ with the recipe")
    parser.add_argument("--modules", nargs="+", default=[BASELINE, "se", "eca", "cbam"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--magnifications", nargs="+", type=int, default=[200])
    parser.add_argument("--rules", default=RULES, help="config.optim.rules; empty trains all")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--folds", type=int, default=3)
    options = parser.parse_args()
    options.modules = [BASELINE, *(name for name in options.modules if name != BASELINE)]
    configs = {
        f"{module}-{seed}": configure(options, module, seed)
        for seed in options.seeds
        for module in options.modules
    }
    with exit_on_user_error():
        run_all(configs, options.workdir)
        rows = rows_of(options)
        text = table([in_words(row) for row in rows])
        print(f"\n{tested(rows[0]['seeds'][0]['counts'])}\n\n{text}")
        with atomic_write(options.workdir / "attention.md") as file:
            file.write(text + "\n")
        write_json(options.workdir / "attention.json", rows)


if __name__ == "__main__":
    main()
