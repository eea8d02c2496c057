r"""Compares training recipes on patients never seen, and ensembles with single networks.

    python -m benchmarks.recipes WORKDIR --data_dir=/path/to/BreaKHis_v1 [--network=whole]

The division is nested. A seed divides the patients into outer folds. The patients outside of the
test part of a fold are divided once more: member ``k`` validates on inner part ``k`` and trains on
the others. The members of a fold form an ensemble, every patient outside of the test part is
validated by exactly one member, and a recipe can be chosen by validation alone. Every member
predicts the test images.

``--network=frozen``, for a CPU, trains the last stage on features of augmented images
(:mod:`benchmarks.recipes_frozen`). ``--network=whole``, for a GPU, trains as ``train.py`` does
(:mod:`benchmarks.recipes_whole`).

An arm differs from ``configs/breakhis.py`` in the fields that
:data:`benchmarks.recipe_arms.ARMS` lists. A finished training has its predictions in
``WORKDIR/ARM/seedS/foldF/memberK/{last,averaged}/{val,test}/predictions.csv`` and the facts of its
training in ``facts.json``. ``last`` has the weights after the last epoch, ``averaged`` their moving
average over the steps; ``uniform``, of whole networks only, has the mean of the weights after each
epoch of the second half. Member 0 of ``base`` also has ``dihedral``, the mean logit of
``averaged`` over the eight dihedral views of the test images. The same command resumes an
interrupted measurement. ``--parts`` divides the trainings over processes, and ``--minutes`` starts
no training after that time. ``python -m benchmarks.recipes_report WORKDIR`` prints the comparisons.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from benchmarks import frozen_stages
from benchmarks.recipe_arms import (
    AVERAGED,
    MEMBERS,
    OTHERS,
    WHOLE_OTHERS,
    Arm,
    Member,
    Round,
    jobs,
    roles_of,
    rounds_of,
)
from benchmarks.stage_training import FACTS, claim, write_predictions
from data.balance import Plan, make_plan
from data.dataset import Dataset, load_dataset
from data.protocols import audit
from se_resnet.runs.run_files import TRAIN, VAL
from se_resnet.runtime.cli import exit_on_user_error
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from se_resnet.training.validation import validation_metrics

FROZEN, WHOLE = "frozen", "whole"


class Network(Protocol):
    """Trains members and keeps what several members share."""

    def dataset(self, arm: Arm) -> Dataset:
        """Returns the images of an arm."""

    def train(
        self, member: Member, roles: np.ndarray, plan: Plan
    ) -> tuple[dict[str, dict[str, np.ndarray]], list[float]]:
        """Trains a member and predicts its images.

        Returns:
            Logits ``float64 [n]`` by choice of the weights and role, and the mean loss of each
            epoch.
        """

    def settings(self) -> dict[str, Any]:
        """Returns settings of a measurement beside those of its configuration."""


def run(network: Network, config: ConfigDict, workdir: Path, members: int, training: tuple) -> None:
    """Trains and predicts one member, unless it is finished.

    Args:
        network: trains it.
        config: of the base.
        workdir: folder of the measurement.
        members: number of members of an ensemble.
        training: arm, seed, fold and number of the member.
    """
    arm, seed, fold, number = training
    folder = workdir / arm.name / f"seed{seed}" / f"fold{fold}" / f"member{number}"
    if (folder / FACTS).exists():
        return
    start = time.monotonic()
    dataset, changed = network.dataset(arm), arm.config(config)
    records, balance = dataset.records, changed.balance
    roles = roles_of(changed, records, seed, fold, number, members)
    member = Member(arm, seed, fold, number, seed * members + number)
    plan = make_plan(
        records.take(roles == TRAIN),
        dataset.images,
        method=balance.method,
        features=balance.features,
        within_magnification=balance.within_magnification,
        k_neighbors=balance.k_neighbors,
        seed=member.training_seed,
    )
    logits, losses = network.train(member, roles, plan)
    label = records.label[roles == VAL]
    facts = {
        "arm": arm.name,
        "changes": {name: list(v) if isinstance(v, tuple) else v for name, v in arm.changes},
        "epochs": changed.epochs,
        "seed": seed,
        "fold": fold,
        "member": number,
        "training_images": np.bincount(records.label[roles == TRAIN], minlength=2).tolist(),
        "plan_rows": np.bincount(plan.label, minlength=2).tolist(),
        "steps": changed.epochs * (len(plan) // changed.batch_size),
        "losses": losses,
        "validation": {
            choice: validation_metrics(label, of_role[VAL])
            for choice, of_role in logits.items()
            if VAL in of_role
        },
        "audit": audit.count_leaks(records, roles),
        "seconds": time.monotonic() - start,
    }
    write_predictions(folder, records, roles, logits, facts)
    auc = facts["validation"][AVERAGED]["val/roc_auc"]
    print(
        f"{arm.name} seed {seed} fold {fold} member {number}: {facts['seconds']:.1f} s, "
        f"{facts['steps']} steps, validation AUC "
        f"{'undefined' if auc is None else format(auc, '.3f')}",
        flush=True,
    )


def measure(
    config: ConfigDict,
    workdir: Path,
    rounds: Sequence[Round],
    members: int = MEMBERS,
    part: tuple[int, int] = (0, 1),
    open_network: Callable[[ConfigDict, Path], Network] | None = None,
    seconds: float = float("inf"),
) -> None:
    """Trains every member of every arm, in the order of ``rounds``; skips finished trainings.

    Args:
        config: of the base.
        workdir: folder of the measurement.
        rounds: see :func:`benchmarks.recipe_arms.rounds_of`.
        members: number of members of an ensemble.
        part: number of this process, from 0, and number of processes that divide the trainings.
        open_network: opens the network; by default that with frozen stages.
        seconds: time after which no training begins.

    Raises:
        UserError: the images are not available, or ``workdir`` has a measurement with other
            settings.
    """
    start = time.monotonic()
    dataset = load_dataset(config.data.dir, size=tuple(config.data.size))
    print(dataset.description, flush=True)
    network = (open_network or NETWORKS[FROZEN])(config, workdir)
    settings = frozen_stages.settings_of(config, dataset)
    claim(workdir, {**settings, "members": members, **network.settings()})
    for training in jobs(rounds, config.split.folds, part):
        if time.monotonic() - start > seconds:
            print("the time is over: the same command resumes", flush=True)
            return
        run(network, config, workdir, members, training)


def _frozen(config: ConfigDict, workdir: Path) -> Network:
    from benchmarks.recipes_frozen import FrozenStagesNetwork

    return FrozenStagesNetwork(config, workdir)


def _whole(config: ConfigDict, workdir: Path) -> Network:
    from benchmarks.recipes_whole import WholeNetwork

    return WholeNetwork(config)


NETWORKS: Mapping[str, Callable[[ConfigDict, Path], Network]] = {FROZEN: _frozen, WHOLE: _whole}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    frozen_stages.add_options(parser)
    parser.set_defaults(size=None, epochs=None, batch_size=32)
    parser.add_argument("--network", choices=tuple(NETWORKS), default=FROZEN)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    options = parser.parse_args()
    whole = options.network == WHOLE
    options.size = options.size or (224 if whole else 112)
    options.epochs = options.epochs or (10 if whole else 3)
    keep_compiled_programs()
    with exit_on_user_error():
        measure(
            frozen_stages.make_config(options),
            options.workdir,
            rounds_of(options.seeds, options.members, WHOLE_OTHERS if whole else OTHERS),
            options.members,
            (options.part, options.parts),
            NETWORKS[options.network],
            60 * options.minutes,
        )


if __name__ == "__main__":
    main()
