"""Decision threshold, temperature and margin of uncertainty, chosen on images not trained on."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from se_resnet.errors import UserError
from se_resnet.metrics.calibration import fit_temperature, scale
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.intervals import kish
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions, concatenate, logit_of

FEWEST_PATIENTS = 10  # of each class, who can choose a threshold and a temperature
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
        benign_patients: patients who chose; None if written by a version that did not record it.
        malignant_patients: the same for malignant patients.

    Raises:
        ValueError: a value is not a number or is out of range.
    """

    target: str
    threshold: float
    temperature: float
    margin: float
    reason: str
    benign_patients: int | None = None
    malignant_patients: int | None = None

    def __post_init__(self) -> None:
        numbers = (self.threshold, self.temperature, self.margin)
        if not all(isinstance(number, int | float) for number in numbers) or not (
            0 <= self.threshold <= 1
            and 0 < self.temperature < math.inf
            and 0 <= self.margin < math.inf
        ):
            raise ValueError(f"threshold, temperature or margin is out of range: {numbers}")

    @property
    def calibrated_threshold(self) -> float:
        """The threshold for calibrated probabilities: ``threshold`` after temperature scaling."""
        return float(scale(np.array(self.threshold), self.temperature))

    def with_threshold(self, threshold: float) -> Decision:
        """Returns the decision with a threshold that the user gives.

        Raises:
            UserError: the threshold is not in [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise UserError(
                f"the threshold {threshold} is not a probability: choose a number from 0 to 1."
            )
        reason = f"the threshold was given, in place of the run's {self.threshold:.3f}"
        return dataclasses.replace(self, threshold=float(threshold), reason=reason)

    def call(self, probability: float) -> str:
        """Returns ``'benign'`` or ``'malignant'``: the class on this side of the threshold."""
        return CLASS_NAMES[int(probability >= self.threshold)]

    def distance(self, probability: np.ndarray) -> np.ndarray:
        """Returns the distances from the threshold: ``float64`` logits, not negative."""
        return logit_distance(probability, self.threshold)

    def describe(self) -> str:
        """Returns a sentence on threshold and temperature, and on who chose them."""
        rule = f"Threshold {self.threshold:.3f} and temperature {self.temperature:.2f}"
        if self.reason:
            return f"{rule}: {self.reason}."
        chosen_by = "by an unrecorded number of validation patients"
        if self.benign_patients is not None and self.malignant_patients is not None:
            chosen_by = (
                f"by {self.benign_patients} benign and {self.malignant_patients} malignant "
                "validation patients"
            )
        return f"{rule} were chosen {chosen_by}, for {self.target}."


# Schema of a decision in a checkpoint, see se_resnet.runtime.schema.
FORM = {"target": str, "threshold": float, "temperature": float, "margin": float, "reason": str}


def logit_distance(probability: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """Returns the distances of probabilities from a threshold: ``float64 [N]`` logits.

    Args:
        probability: ``float64 [N]``.
        threshold: one for all, or one for each of them.
    """
    # A threshold of 0 or 1 has an infinite logit. Clipping keeps the distances finite.
    thresholds = np.broadcast_to(np.asarray(threshold, np.float64), np.shape(probability))
    pair = logit_of(np.clip(np.stack([probability, thresholds]), 1e-12, 1 - 1e-12))
    return np.abs(pair[0] - pair[1])


def decide(predictions: Predictions, target: str) -> Decision:
    """Chooses threshold, temperature and margin on images that were not trained on.

    A threshold and a temperature chosen by few patients are worse on new patients than 0.5 and 1.
    They are therefore chosen only where there are at least 10 patients of each class, and the
    temperature is drawn towards 1 (:func:`se_resnet.metrics.calibration.fit_temperature`).

    Args:
        predictions: of the validation images; may be empty.
        target: see :func:`parse_target`.

    Raises:
        UserError: ``target`` is unknown.
    """
    parse_target(target)
    cohort = Cohort.of(predictions)
    benign, malignant = (cohort.images > 0).sum(axis=0).tolist()
    threshold, temperature, reason = 0.5, 1.0, ""
    if min(benign, malignant) < FEWEST_PATIENTS:
        reason = (
            f"{benign} benign and {malignant} malignant validation patients are too few to choose "
            f"({FEWEST_PATIENTS} of each are needed), so the threshold stays at 0.5 and the "
            "temperature at 1"
        )
    else:
        logit = logit_of(np.clip(predictions.probability, 1e-12, 1 - 1e-12))
        threshold, reason = choose_threshold(predictions.label, predictions.probability, target)
        effective = float(kish(cohort.images.sum(axis=1)))
        temperature = fit_temperature(predictions.label, logit, effective)
    chosen = Decision(target, threshold, temperature, 0.0, reason, benign, malignant)
    if not len(predictions):
        return chosen
    margin = float(np.quantile(chosen.distance(predictions.probability), 1 - COVERAGE))
    return dataclasses.replace(chosen, margin=margin)


def decide_left_out(
    validation: Sequence[Predictions], tested: Sequence[Predictions], target: str
) -> list[Decision]:
    """Chooses the decision of each fold of a cross-validation without the patients it tests.

    The validation images of all folds, each predicted by its own fold, choose together, except
    those of patients whom the fold tests (the left-out rule). No patient therefore takes part in
    the choice of the threshold that is applied to the patient.

    Args:
        validation: predictions of the validation images of each fold, by its own network.
        tested: predictions of the test images of each fold.
        target: see :func:`parse_target`.

    Raises:
        UserError: ``target`` is unknown.
    """
    everyone = concatenate(validation)
    return [
        decide(everyone.take(~np.isin(everyone.accession, fold.accession)), target)
        for fold in tested
    ]


def combine(decisions: Sequence[Decision]) -> Decision:
    """Returns the mean decision of the folds of a cross-validation.

    Threshold and margin are arithmetic means, the temperature is a geometric mean. The patients who
    chose are those of the fold with the fewest.
    """
    if len(decisions) == 1:
        return decisions[0]
    fewest = min(decisions, key=lambda d: min(d.benign_patients or 0, d.malignant_patients or 0))
    reasons = [decision.reason for decision in decisions if decision.reason]
    reason = reasons[0] if reasons else ""
    if 0 < len(reasons) < len(decisions):
        reason = f"mean over folds, of which {len(reasons)} of {len(decisions)} keep 0.5 and 1"
    return Decision(
        target=decisions[0].target,
        threshold=float(np.mean([decision.threshold for decision in decisions])),
        temperature=float(
            np.exp(np.mean([np.log(decision.temperature) for decision in decisions]))
        ),
        margin=float(np.mean([decision.margin for decision in decisions])),
        reason=reason,
        benign_patients=fewest.benign_patients,
        malignant_patients=fewest.malignant_patients,
    )
