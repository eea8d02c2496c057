"""Divides images as ``config.split`` says, and verifies the division."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from data.protocols import audit
from data.protocols.magnifications import exclude_magnifications
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.runs.run_files import NO_FOLD


def tested_fold(split: ConfigDict) -> int | None:
    """Returns the number of the configured test fold; None where nothing is tested."""
    return None if split.fold == NO_FOLD else int(split.fold)


def configured_roles(records: Records, split: ConfigDict, fold: int | None) -> np.ndarray:
    """Returns the role of every image in a fold, ``str [N]``.

    Args:
        records: N images.
        split: the fields of ``config.split``; ``fold`` is not read.
        fold: number of the test fold, from 0; None for no test set.

    Raises:
        UserError: the images cannot be divided, or the division breaks the promise of its protocol.
    """
    roles = assign_roles(
        records,
        split.protocol,
        folds=split.folds,
        fold=fold,
        val_folds=split.val_folds,
        seed=split.seed,
        val_fold=split.val_fold,
        file=split.file,
        name=split.name,
        repaired=split.repaired,
    )
    roles = exclude_magnifications(
        records, roles, split.train_magnifications, split.test_magnifications
    )
    is_tested = fold is not None
    audit.verify(records, roles, split.protocol, split.repaired, is_tested=is_tested)
    return roles
