"""From a probability to a call: threshold, temperature and doubt, chosen on validation only."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.calibration import fit_temperature
from se_resnet.metrics.predictions import logit_of, probability_of

COVERAGE = 0.8  # share of the validation images that is not flagged as uncertain
_NAMED = ("accuracy", "balanced_accuracy", "youden")


def parse_target(target: str) -> tuple[str, float]:
    """Reads the name of a target, so that a wrong one is told before a run begins.

    Args:
        target: ``accuracy``, ``balanced_accuracy``, ``youden`` or ``sensitivity>=x`` with
            0 < x <= 1, for example ``sensitivity>=0.95``; no spaces.

    Returns:
        The name and the least sensitivity, which is 0 where the target asks for none.

    Raises:
        UserError: ``target`` is none of these.
    """
    if target in _NAMED:
        return target, 0.0
    match = re.fullmatch(r"sensitivity>=([01]|[01]?\.[0-9]+)", target)
    if match and 0 < float(match[1]) <= 1:
        return "sensitivity", float(match[1])
    raise UserError(
        f"the threshold target {target!r} is unknown: choose {', '.join(_NAMED)} or "
        "sensitivity>=x with x above 0 and at most 1, for example sensitivity>=0.95."
    )


def choose_threshold(
    label: np.ndarray, probability: np.ndarray, target: str = "balanced_accuracy"
) -> tuple[float, str]:
    """The threshold that does best on the given images; pass validation images, never test.

    An image is called malignant when its probability is at least the threshold. The candidates are
    0, the midpoints between neighbouring distinct probabilities, and 1. Of those that do equally
    well the nearest to 0.5 is taken, and of two equally near the lower, which misses fewer
    malignant images.

    ``accuracy`` and ``balanced_accuracy`` maximise what they say. ``youden`` maximises the index
    sensitivity + specificity - 1 (Youden 1950), which is 2 x balanced accuracy - 1 and so gives the
    same threshold. ``sensitivity>=x`` maximises specificity among the candidates whose sensitivity
    on these images is at least x; 0 is always one of them.

    Args:
        label: ``int [n]``, 0 or 1.
        probability: ``float64 [n]`` in [0, 1].
        target: as in :func:`parse_target`.

    Returns:
        The threshold and an empty string; or 0.5 and the reason, where no choice is possible
        because one class is missing, so that such a validation set does not end a run.

    Raises:
        UserError: ``target`` is unknown.
    """
    name, least = parse_target(target)
    label = np.asarray(label, dtype=bool)
    malignant, benign = np.sort(probability[label]), np.sort(probability[~label])
    for of_class, called in ((malignant, "malignant"), (benign, "benign")):
        if not len(of_class):
            return 0.5, f"no validation image is {called}, so the threshold stays at 0.5"

    distinct = np.unique(probability)
    candidates = np.concatenate([[0.0], (distinct[:-1] + distinct[1:]) / 2, [1.0]])
    tp = len(malignant) - np.searchsorted(malignant, candidates)
    tn = np.searchsorted(benign, candidates)
    # Whole numbers, so that what ties does tie.
    score = {
        "accuracy": tp + tn,
        "sensitivity": np.where(tp / len(malignant) >= least, tn, -1),
    }.get(name, tp * len(benign) + tn * len(malignant))
    best = candidates[score == score.max()]
    # The larger of the two shares, unlike |t - 0.5|, is the same for 0.3 and 0.7 in floating point.
    return float(best[np.argmin(np.maximum(best, 1 - best))]), ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """How a probability becomes a call; chosen on validation and stored with the checkpoint.

    Attributes:
        target: what the threshold was chosen for.
        threshold: probability from which an image is called malignant.
        temperature: the logit is divided by it before a probability is shown as calibrated.
        margin: the least distance from the threshold, in logits, of the clearest 80 % of the
            validation images; an image nearer to the threshold is flagged as uncertain.
        reason: why the threshold stayed at 0.5, or an empty string.

    Raises:
        ValueError: a number is none, or out of range.
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
        """How far a probability lies from the threshold: ``float64`` logits, not negative."""
        # A threshold of 0 or 1 has an infinite logit; this far out is certain enough.
        logit = logit_of(np.clip(np.append(probability, self.threshold), 1e-12, 1 - 1e-12))
        return np.abs(logit[:-1] - logit[-1])


# What a checkpoint keeps of it, for se_resnet.runtime.schema.
FORM = {"target": str, "threshold": float, "temperature": float, "margin": float, "reason": str}


def decide(label: np.ndarray, logit: np.ndarray, target: str) -> Decision:
    """Chooses all parts of a decision from the validation images.

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
