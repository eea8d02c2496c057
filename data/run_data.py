"""What a run is made of, kept in its folder: which images, in which roles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from data.dataset import Dataset
from data.protocols import audit
from data.protocols.roles import is_seen
from data.protocols.split_file import read_roles, write_split
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import DATA, SPLIT
from se_resnet.runtime.files import atomic_write, write_json


def keep(workdir: Path, dataset: Dataset, roles: np.ndarray) -> None:
    """Writes ``split.csv``, ``data.json`` and, where files were skipped, ``skipped_files.csv``."""
    write_split(workdir / SPLIT, dataset.records, roles)
    if dataset.skipped:
        with atomic_write(workdir / "skipped_files.csv") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "reason"])
            writer.writerows(dataset.skipped)
    write_json(
        workdir / DATA,
        {
            "fingerprint": dataset.fingerprint,
            "description": dataset.description,
            "audit": audit.count_leaks(dataset.records, roles),
            "split": audit.summarise(dataset.records, roles),
            "seen_digests": sorted(set(dataset.records.digest[is_seen(roles)].tolist())),
        },
    )


def check_kept(workdir: Path, fingerprint: str, dataset: Dataset, roles: np.ndarray) -> None:
    """A run that goes on must find the images that it began with, in the same roles.

    Args:
        workdir: the run's folder.
        fingerprint: of the images it began with, as in its ``data.json``.
        dataset: the images found now.
        roles: theirs now.

    Raises:
        UserError: images or roles differ.
    """
    if fingerprint != dataset.fingerprint:
        raise UserError(
            f"the images are no longer those that the run in {workdir} began with: restore them, "
            "or choose another --workdir."
        )
    split = workdir / SPLIT
    if (read_roles(split, dataset.records) != roles).any():
        raise UserError(
            f"the images would be divided otherwise than {split} says: restore that file and the "
            "library versions of the run's start, or choose another --workdir."
        )


def describe_split(
    protocol: str, fold: str, folds: int, records: Records, roles: np.ndarray
) -> str:
    """Lines for the log: the protocol, images by role and class, and a leak's warning.

    Args:
        protocol: a protocol's name.
        fold: which fold is tested.
        folds: how many the protocol has.
        records: the images.
        roles: theirs.
    """
    lines = [f"{protocol}, fold {fold} of {folds}"]
    for row in audit.summarise(records, roles):
        lines.append(
            f"{row['role']:<6}{row['class']:<10}{row['images']:>5} images of "
            f"{row['accessions']} accessions"
        )
    counts = audit.count_leaks(records, roles)
    if counts["straddling_accessions"]:
        lines.append(
            f"WARNING: {counts['straddling_accessions']} accessions of the test set, with "
            f"{counts['straddling_test_images']} images, also train or validate"
        )
    return "\n".join(lines)
