"""The images and roles of a run: prepared before the first step, kept in the folder of the run."""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data.balance import Plan, make_plan
from data.config_check import unread_records
from data.dataset import Dataset, load_configured
from data.protocols import audit, source_notebook
from data.protocols.configured import configured_roles, tested_fold
from data.protocols.magnifications import describe_magnifications
from data.protocols.near_duplicates import count_near_duplicates, near_duplicates
from data.protocols.roles import (
    SEEN,
    SOURCE,
    TABLE,
    is_seen,
    number_of_folds,
)
from data.protocols.split_file import read_roles, write_split
from data.records import Records
from data.scales import check_scales
from data.table.columns import Reading
from se_resnet.errors import UserError
from se_resnet.images.image_table import is_table
from se_resnet.images.scale import configured_scale
from se_resnet.report.remarks import near_duplicate_warning
from se_resnet.runs.run_files import (
    EXCLUDED,
    PUBLISHED,
    TEST,
    TRAIN,
    VAL,
    keeps_patients_apart,
)
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime import processes
from se_resnet.runtime.files import atomic_write, write_json
from se_resnet.runtime.log import log


@dataclasses.dataclass(frozen=True)
class RunData:
    """The images of a run, divided and balanced.

    Attributes:
        dataset: pixels and records.
        roles: ``str [N]``, of every image.
        near: counts of near-duplicates, see
            :func:`data.protocols.near_duplicates.count_near_duplicates`.
        plan: the balanced training rows of an epoch.
        validation: records of the validation images.
        is_augmented: True where the images themselves are augmented, by protocol ``source``.
    """

    dataset: Dataset
    roles: np.ndarray
    near: dict[str, int]
    plan: Plan
    validation: Records
    is_augmented: bool


def prepare(
    config: ConfigDict, run: RunFolder, augment: Callable[[np.ndarray], np.ndarray]
) -> RunData:
    """Loads the images, assigns and verifies their roles, and balances the training set.

    Args:
        config: of the run.
        run: its folder. A run that has begun must find the same images in the same roles.
        augment: changes ``uint8 [N, H, W, 3]`` once, for protocol ``source``.

    Raises:
        UserError: images are missing or broken, they or their roles differ from those that the
            run began with, or a new run that promises unseen patients has near-duplicates of
            different patients in test and training or validation.
    """
    protocol = config.split.protocol
    dataset = processes.primary_first(lambda: _load(config, run, augment))
    records = dataset.records
    log("data", dataset.description)
    tested = tested_fold(config.split)
    roles = configured_roles(records, config.split, tested)
    if run.has_begun:
        _require_unchanged(run, dataset, roles)
    near = _check_near_duplicates(config, run, dataset, roles)
    title = f"{_describe_protocol(config.split)}, "
    title += "no test set" if tested is None else f"fold {tested}"
    if tested is not None and (protocol != TABLE or "fold" in records.extra):
        title += f" of {number_of_folds(protocol, config.split.folds, config.split.name)}"
    magnifications = config.split.train_magnifications, config.split.test_magnifications
    if described := describe_magnifications(*magnifications):
        title += f", {described}"
    log("split", _describe_split(title, records, roles, near))
    is_augmented = protocol == SOURCE  # and balanced, before it is divided
    method = "none" if is_augmented else config.balance.method
    plan = make_plan(
        records.take(roles == TRAIN),
        dataset.images,
        method=method,
        features=config.balance.features,
        within_magnification=config.balance.within_magnification,
        k_neighbors=config.balance.k_neighbors,
        seed=config.seed,
    )
    log("balance", f"{method}: {plan.describe()}")
    processes.require_same({"images": dataset.fingerprint, "plans": plan.columns()})
    return RunData(dataset, roles, near, plan, records.take(roles == VAL), is_augmented)


def save(
    run: RunFolder,
    dataset: Dataset,
    roles: np.ndarray,
    near: Mapping[str, int],
    plan: Plan | None = None,
) -> None:
    """Writes ``split.csv``, ``data.json`` and, where files were skipped, ``skipped_files.csv``.

    Args:
        run: the folder.
        dataset: of the run.
        roles: ``str [N]``.
        near: see :class:`RunData`; empty if near-duplicates were not checked.
        plan: the balanced rows, whose sizes ``data.json`` holds; None leaves them out.
    """
    records = dataset.records
    write_split(run.split_path, records, roles)
    if dataset.skipped:
        with atomic_write(run.skipped_path) as file:
            writer = csv.writer(file)
            writer.writerow(["path", "reason"])
            writer.writerows(dataset.skipped)
    write_json(
        run.data_path,
        {
            "fingerprint": dataset.fingerprint,
            "description": dataset.description,
            "audit": {**audit.count_leaks(records, roles), **near},
            "split": audit.summarise(records, roles),
            **({"plan": plan.sizes()} if plan else {}),
            "seen_digests": sorted(set(records.digest[is_seen(roles)].tolist())),
            "magnifications": sorted(set(records.magnification.tolist()) - {0}),
            **dataset.source.facts(),
        },
    )


def load_again(
    config: dict,
    run: RunFolder,
    data_dir: str | None,
    size: tuple[int, int],
    resize: str,
    reading: Reading,
) -> Dataset:
    """Loads the images of a run, or others, as its network takes them.

    Args:
        config: of the run, as ``config.json`` has it.
        run: its folder.
        data_dir: other images than those of the run, or None. All images of another table are
            loaded, of any magnification.
        size: height and width.
        resize: the resize rule.
        reading: labels and patients of another table.

    Raises:
        UserError: the images cannot be loaded, or those of protocol ``source`` by this rule.
    """
    if config["split"]["protocol"] == SOURCE and not data_dir:
        if resize != config["data"]["resize"]:
            raise UserError(
                "protocol 'source' keeps augmented images, from which no tiles can be cut: choose "
                "--tta=none or dihedral."
            )
        return source_notebook.reopen(run.source_path)
    changed: dict[str, Any] = {"size": size, "resize": resize}
    if data_dir:
        changed |= {"dir": data_dir, **dataclasses.asdict(reading)}
        if is_table(data_dir):
            changed["magnifications"] = ()
    settings = {**config["data"], **changed}
    scale = configured_scale(settings)
    try:
        if data_dir and scale and (records := unread_records(settings)):
            check_scales(records, scale)  # before the first image is read
        return load_configured(settings)
    except UserError as error:
        if not data_dir:
            raise
        # The message names fields of a configuration, which are options here.
        fields = r"config\.data\.(positive|negative|patient)\b"
        raise UserError(re.sub(fields, r"--\1", str(error))) from error


def choose(records: Records, run: RunFolder, split: str) -> Records:
    """Returns the images of a split of the run; of ``all`` images each content once.

    Raises:
        UserError: no image is in the split.
    """
    if split == "all":
        return records.take(records.first_copies())
    chosen = records.take(read_roles(run.split_path, records) == split)
    if not len(chosen):
        raise UserError(
            f"none of these images is in the run's split {split!r}: use --split=all to evaluate "
            "images that the run did not know."
        )
    return chosen


def count_seen(
    records: Records, networks: Sequence[RunFolder], seen_digests: Iterable[str]
) -> dict[str, int]:
    """Counts the images, by content, and patients that a network was trained or validated on.

    Args:
        records: N images.
        networks: runs of the networks.
        seen_digests: digests of the images that a network was trained or validated on.
    """
    digests = set(seen_digests)
    accessions = set[str]().union(*(network.patients(*SEEN) for network in networks))
    return {
        "evaluated_images_seen": sum(digest in digests for digest in records.digest.tolist()),
        "evaluated_images_of_seen_accessions": sum(
            accession in accessions for accession in records.accession.tolist()
        ),
        "evaluated_accessions_seen": len(accessions & set(records.accession.tolist())),
    }


def _load(
    config: ConfigDict, run: RunFolder, augment: Callable[[np.ndarray], np.ndarray]
) -> Dataset:
    dataset = load_configured(config.data)
    if config.split.protocol != SOURCE:
        return dataset
    return source_notebook.derive(dataset, run.source_path, augment, config.seed)


def _require_unchanged(run: RunFolder, dataset: Dataset, roles: np.ndarray) -> None:
    """Refuses images or roles other than those that the run began with."""
    if run.data_facts()["fingerprint"] != dataset.fingerprint:
        raise UserError(
            f"the images are no longer those that the run in {run.path} began with: restore them, "
            "or choose another --workdir."
        )
    if (read_roles(run.split_path, dataset.records) != roles).any():
        raise UserError(
            f"the images would be divided otherwise than {run.split_path} says: restore that file "
            "and the library versions of the run's start, or choose another --workdir."
        )


def _check_near_duplicates(
    config: ConfigDict, run: RunFolder, dataset: Dataset, roles: np.ndarray
) -> dict[str, int]:
    """Counts near-duplicates, and refuses those of patients that are promised to be apart.

    A run that has begun is not refused. Version 0.1 did not check near-duplicates, and its runs
    must resume.

    Process 0 compares the images, one after another. ``python -m benchmarks.near_duplicates``
    measured 0.03 s of CPU time for the 116 images of the sample, 0.3 s for 944 images and 3 s for
    7,909.
    """
    compare = functools.partial(near_duplicates, dataset.records, roles, dataset.images)
    pairs = processes.from_primary(compare)
    allowed = config.split.allow_near_duplicates
    if keeps_patients_apart(config.split) and not allowed and not run.has_begun:
        audit.refuse_near_duplicates(pairs, config.split.repaired)
    return count_near_duplicates(pairs)


def _describe_protocol(split: ConfigDict) -> str:
    if split.protocol != PUBLISHED:
        return split.protocol
    return (
        f"{split.protocol} split {split.name!r}, {'repaired' if split.repaired else 'unrepaired'}"
    )


def _describe_split(
    title: str, records: Records, roles: np.ndarray, near: Mapping[str, int]
) -> str:
    """Returns lines for the log: images by role and class, near-duplicates, warnings of leaks."""
    lines = [title]
    for row in audit.summarise(records, roles):
        lines.append(
            f"{row['role']:<6}{row['class']:<10}{row['images']:>5} images of "
            f"{row['accessions']} patients"
        )
    counts = audit.count_leaks(records, roles)
    if left_out := int((roles == EXCLUDED).sum()) - counts["excluded_copies"]:
        lines.append(f"left out: {left_out:,} images that the split does not contain")
    if counts["straddling_accessions"]:
        lines.append(
            f"WARNING: {counts['straddling_accessions']} patients of the test set, with "
            f"{counts['straddling_test_images']} images, also train or validate"
        )
    warning = near_duplicate_warning(near)
    if not (roles == TEST).any():
        return "\n".join(lines)
    lines.append(f"WARNING: {warning}" if warning else "no near-duplicate of a test image found")
    return "\n".join(lines)
