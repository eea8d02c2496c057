"""Decision threshold, temperature and margin of uncertainty, chosen on validation images."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.calibration import fit_temperature
from se_resnet.metrics.predictions import logit_of, probability_of

COVERAGE = 0.8  # fraction of the validation images that is not flagged as uncertain
_TARGETS = ("accuracy", "balanced_accuracy", "youden")


def parse_target(target: str) -> tuple[str, float]:
    """Parses the target of the threshold; a wrong target fails before the run starts.

    Args:
        target: ``accuracy``, ``balanced_accuracy``, ``youden`` or ``sensitivity>=x`` with
            0 < x <= 1, for example ``sensitivity>=0.95``; no spaces.

    Returns:
        The name and the minimum sensitivity, which is 0 for a target without a minimum.

    Raises:
        UserError: ``target`` is none of these.
    """
    if target in _TARGETS:
        return target, 0.0
    match = re.fullmatch(r"sensitivity>=([01]|[01]?\.[0-9]+)", target)
    if match and 0 < float(match[1]) <= 1:
        return "sensitivity", float(match[1])
    raise UserError(
        f"the threshold target {target!r} is unknown: choose {', '.join(_TARGETS)} or "
        "sensitivity>=x with x above 0 and at most 1, for example sensitivity>=0.95."
    )


def choose_threshold(
    label: np.ndarray, probability: np.ndarray, target: str = "balanced_accuracy"
) -> tuple[float, str]:
    """Chooses the threshold that is best on the given images. Pass validation images, never test.

    An image is predicted malignant if its probability is at least the threshold. The candidates are
    0, the midpoints between neighbouring distinct probabilities, and 1. Of equally good candidates
    the nearest to 0.5 is chosen. Of two equally near candidates the lower is chosen, because it
    misses fewer malignant images.

    ``accuracy`` and ``balanced_accuracy`` maximise the metric of that name. ``youden`` maximises
    sensitivity + specificity - 1 (Youden 1950). This equals 2 x balanced accuracy - 1 and gives the
    same threshold. ``sensitivity>=x`` maximises specificity among the candidates whose sensitivity
    on these images is at least x; the candidate 0 always qualifies.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]`` in [0, 1].
        target: see :func:`parse_target`.

    Returns:
        The threshold and an empty string. If a class is missing, no choice is possible: the result
        is 0.5 and the reason, and the run continues.

    Raises:
        UserError: ``target`` is unknown.
    """
    name, minimum = parse_target(target)
    label = np.asarray(label, dtype=bool)
    malignant, benign = np.sort(probability[label]), np.sort(probability[~label])
    for probabilities, class_name in ((malignant, "malignant"), (benign, "benign")):
        if not len(probabilities):
            return 0.5, f"no validation image is {class_name}, so the threshold stays at 0.5"

    distinct = np.unique(probability)
    candidates = np.concatenate([[0.0], (distinct[:-1] + distinct[1:]) / 2, [1.0]])
    tp = len(malignant) - np.searchsorted(malignant, candidates)
    tn = np.searchsorted(benign, candidates)
    # Scores are whole numbers, so that ties are exact.
    score = {
        "accuracy": tp + tn,
        "sensitivity": np.where(tp / len(malignant) >= minimum, tn, -1),
    }.get(name, tp * len(benign) + tn * len(malignant))
    best = candidates[score == score.max()]
    # Unlike |t - 0.5|, max(t, 1 - t) is equal for 0.3 and 0.7 in floating point.
    return float(best[np.argmin(np.maximum(best, 1 - best))]), ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """The rule from probability to prediction, chosen on validation and stored in the checkpoint.

    Attributes:
        target: criterion of the threshold.
        threshold: minimum probability of an image that is predicted malignant.
        temperature: divisor of the logit for calibrated probabilities.
        margin: distance from the threshold, in logits, below which an image is flagged as
            uncertain. The clearest 80 % of the validation images lie at least this far away.
        reason: reason for keeping the threshold at 0.5, or an empty string.

    Raises:
        ValueError: a value is not a number or is out of range.
    """

    target: str
    threshold: float
    temperature: float
    margin: float
    reason: str

    def __post_init__(self) -> None:
        numbers = (self.threshold, self.temperature, self.margin)
        if not all(isinstance(number, int | float) for number in numbers) or not (
            0 <= self.threshold <= 1
            and 0 < self.temperature < math.inf
            and 0 <= self.margin < math.inf
        ):
            raise ValueError(f"threshold, temperature or margin is out of range: {numbers}")

    def distance(self, probability: np.ndarray) -> np.ndarray:
        """Returns the distances from the threshold: ``float64`` logits, not negative."""
        # A threshold of 0 or 1 has an infinite logit. Clipping keeps the distances finite.
        logit = logit_of(np.clip(np.append(probability, self.threshold), 1e-12, 1 - 1e-12))
        return np.abs(logit[:-1] - logit[-1])


# Schema of a decision in a checkpoint, see se_resnet.runtime.schema.
FORM = {"target": str, "threshold": float, "temperature": float, "margin": float, "reason": str}


def decide(label: np.ndarray, logit: np.ndarray, target: str) -> Decision:
    """Chooses threshold, temperature and margin on the validation images.

    Args:
        label: ``int [n]``, 0 or 1.
        logit: ``float64 [n]``, the logit of malignant.
        target: see :func:`parse_target`.

    Raises:
        UserError: ``target`` is unknown.
    """
    probability = probability_of(logit)
    threshold, reason = choose_threshold(label, probability, target)
    chosen = Decision(target, threshold, fit_temperature(label, logit), 0.0, reason)
    margin = float(np.quantile(chosen.distance(probability), 1 - COVERAGE))
    return dataclasses.replace(chosen, margin=margin)
