"""Divides images as ``config.split`` says, and verifies the division."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from data.protocols import audit
from data.protocols.magnifications import exclude_magnifications
from data.protocols.roles import assign_roles
from data.records import Records


def configured_roles(records: Records, split: ConfigDict, fold: int) -> np.ndarray:
    """Returns the role of every image in a fold, ``str [N]``.

    Args:
        records: N images.
        split: the fields of ``config.split``; ``fold`` is not read.
        fold: number of the test fold, from 0.

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
        file=split.file,
        name=split.name,
        repaired=split.repaired,
    )
    roles = exclude_magnifications(
        records, roles, split.train_magnifications, split.test_magnifications
    )
    audit.verify(records, roles, split.protocol, split.repaired)
    return roles
