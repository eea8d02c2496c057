"""Training and testing at different magnifications, with the patients of each fold unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.records import Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import EXCLUDED, TEST, TRAIN, VAL


def exclude_magnifications(
    records: Records, roles: np.ndarray, train: Sequence[int], test: Sequence[int]
) -> np.ndarray:
    """Excludes the images of other magnifications than those of their role.

    The validation images follow the training images. The patients of each role stay the same, so
    that results at different magnifications compare the same division of the patients.

    Args:
        records: N images.
        roles: ``str [N]``, of :func:`data.protocols.roles.assign_roles`.
        train: ``config.split.train_magnifications``; empty for all.
        test: ``config.split.test_magnifications``; empty for all.

    Returns:
        ``str [N]``, the roles; ``excluded`` for the excluded images.

    Raises:
        UserError: no image has one of these magnifications, or a role has no image left.
    """
    kept = roles.copy()
    for option, wanted, chosen_roles in (
        ("train_magnifications", train, (TRAIN, VAL)),
        ("test_magnifications", test, (TEST,)),
    ):
        if not wanted:
            continue
        field = f"config.split.{option} = {tuple(wanted)}"
        present = np.unique(records.magnification[records.magnification > 0]).tolist()
        if absent := sorted(set(wanted) - set(present)):
            raise UserError(
                f"{field}: no image has the magnification {_listed(absent)}; "
                + (
                    f"choose from {_listed(present)}, the magnifications of these images."
                    if present
                    else "the magnifications of these images are not known."
                )
            )
        is_wanted = np.isin(records.magnification, wanted)
        kept[np.isin(roles, chosen_roles) & ~is_wanted] = EXCLUDED
        for role in chosen_roles:
            if not (kept == role).any() and (roles == role).any():
                found = np.unique(records.magnification[roles == role]).tolist()
                raise UserError(
                    f"{field} leaves no {role} image: the {role} patients have images at "
                    f"{_listed(found)} only; choose from these, or another config.split.fold or "
                    "config.split.seed."
                )
    return kept


def describe_magnifications(train: Sequence[int], test: Sequence[int]) -> str:
    """Returns the options as text for the log, empty where all magnifications have every role.

    >>> describe_magnifications((100,), (200, 400))
    'training and validation at 100X, test at 200X, 400X'
    """
    parts = [("training and validation", train), ("test", test)]
    return ", ".join(f"{name} at {_listed(wanted)}" for name, wanted in parts if wanted)


def _listed(magnifications: Sequence[int]) -> str:
    return ", ".join(f"{magnification}X" for magnification in magnifications)
