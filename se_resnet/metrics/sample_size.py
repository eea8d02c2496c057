"""Numbers of patients that an interval of a wanted width, or a difference, needs.

python -m se_resnet.metrics patients --auc=0.9 --width=0.1 --malignant=0.7
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import stats

from se_resnet.errors import UserError
from se_resnet.metrics.intervals import clopper_pearson, newcombe_auc

MOST = 10**7


def patients_for_auc(auc: float, width: float, malignant: float) -> int | None:
    """Returns the patients for an interval of this width of the AUC of patients.

    Args:
        auc: expected AUC, from 0 to 1.
        width: of the 95 % interval (Newcombe 2006, method 5), between 0 and 1.
        malignant: share of malignant patients, between 0 and 1.

    Returns:
        The least number of patients; None where it is above 10 million.

    Raises:
        UserError: an argument is out of range.
    """
    _require("AUC", auc, 0 <= auc <= 1)
    _require("share of malignant patients", malignant, 0 < malignant < 1)

    def reached(patients: int) -> bool:
        low, high = newcombe_auc(auc, (1 - malignant) * patients, malignant * patients)
        return high - low <= width

    return _least(reached, width)


def patients_for_share(share: float, width: float) -> int | None:
    """Returns the patients of a class for an interval of this width of a share of them.

    Args:
        share: expected sensitivity, specificity or accuracy of patients, from 0 to 1.
        width: of the 95 % interval (Clopper-Pearson), between 0 and 1.

    Raises:
        UserError: an argument is out of range.
    """
    _require("share", share, 0 <= share <= 1)

    def reached(patients: int) -> bool:
        low, high = clopper_pearson(share * patients, patients)
        return bool(high - low <= width)

    return _least(reached, width)


def patients_for_difference(difference: float, error: float, patients: int) -> int | None:
    """Returns the patients to detect a difference as large as that observed, with a power of 80 %.

    The standard error is taken to shrink with the root of the number of patients. The test is
    two-sided at 5 %.

    Args:
        difference: observed.
        error: its standard error, positive.
        patients: number of patients that the standard error comes from.

    Returns:
        None where the number is above 10 million, as for no difference.
    """
    if abs(difference) < 1e-9:
        return None
    needed = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    count = math.ceil(patients * (needed * error / difference) ** 2)
    return count if count <= MOST else None


def _least(reached: Callable[[int], bool], width: float) -> int | None:
    _require("width", width, 0 < width < 1)
    high = 2
    if reached(high):
        return high
    while not reached(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _require(name: str, value: float, fits: bool) -> None:
    if not fits:
        raise UserError(f"the {name} {value} is out of range: give a share between 0 and 1.")
