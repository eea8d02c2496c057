"""Sentences about predictions, thresholds, measures and intervals.

Each function returns one or more whole sentences whose numbers come from the files of the run. A
fact that the files lack is named as not recorded.
"""

from __future__ import annotations

from se_resnet.metrics.estimates import METHODS
from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.remarks import chosen_on_validation
from se_resnet.report.reporting import clinical_text
from se_resnet.report.reporting.study import Study, of_class, sizes
from se_resnet.report.reporting.wording import (
    ABSENT,
    UNEVALUATED,
    listing,
    plural,
    sentence,
)
from se_resnet.runs.run_files import VAL


def threshold(study: Study) -> str:
    """Describes the thresholds, and who chose them."""
    used = study.metrics["threshold"]
    text = sentence(f"the main results use the threshold {used:.3g}")
    decision = study.metrics.get("decision")
    if not decision:
        return f"{text} {sentence(f'a chosen threshold is {UNEVALUATED}')}"
    if decision["reason"]:
        chosen = f"a second threshold was not chosen: {decision['reason']}"
        return f"{text} {sentence(chosen)}"
    target = str(decision["target"]).replace("_", " ")
    chosen = f"{decision['threshold']:.3f} was chosen for {target} on validation images"
    decisions = study.metrics.get("decisions", [])
    if len(decisions) > 1:
        numbers = [part["threshold"] for part in decisions]
        chosen = (
            f"{min(numbers):.3f} to {max(numbers):.3f} (mean {decision['threshold']:.3f}) was "
            f"chosen for {target} in each fold, by validation images of all folds without the "
            "patients that the fold tests"
        )
    text = sentence("the main results use the threshold of the run; those at 0.5 are given beside")
    return f"{text} {sentence(f'a threshold of {chosen}')} {choosers(study)}"


def chosen_by_validation(study: Study) -> str:
    """States what the validation images chose."""
    decision = study.metrics.get("decision")
    if not decision:
        return sentence(f"the choice on validation images is {UNEVALUATED}")
    subject = chosen_on_validation(study.config, decision)
    return sentence(
        f"{subject} chosen on validation images" if subject else "validation images chose nothing"
    )


def choosing_patients(study: Study) -> tuple[int, int, bool]:
    """Returns the benign and malignant patients whose validation images could choose a threshold.

    The third value is false for a version that did not record them. The numbers are then those of
    all validation images.
    """
    decision = study.metrics.get("decision") or {}
    benign, malignant = (decision.get(f"{name}_patients") for name in CLASS_NAMES)
    if benign is not None and malignant is not None:
        return benign, malignant, True
    rows = study.role(VAL)
    benign, malignant = (sizes(of_class(rows, name)).patients or 0 for name in CLASS_NAMES)
    return benign, malignant, False


def choosers(study: Study) -> str:
    """States the patients whose validation images chose threshold and temperature."""
    benign, malignant, is_recorded = choosing_patients(study)
    patients = f"{plural(benign, 'benign patient')} and {plural(malignant, 'malignant patient')}"
    if is_recorded:
        least = "at least " if study.is_cross_validation else ""
        return sentence(f"validation images of {least}{patients} chose")
    where = " of all folds" if study.is_cross_validation else ""
    text = f"the validation images{where} come from {patients}; the number that chose is {ABSENT}"
    if study.is_cross_validation:
        text += f"; {plural(tested_choosers(study), 'evaluated patient')} are among them"
    return sentence(text)


def tested_choosers(study: Study) -> int:
    """Returns the number of evaluated patients with validation images in any fold."""
    validated = {row["accession"] for row in study.role(VAL)}
    return len(validated & set(study.predictions.accession.tolist()))


def temperature(study: Study) -> str:
    """Describes temperature scaling."""
    decision = study.metrics.get("decision")
    if not decision:
        return sentence(f"a recalibration is {UNEVALUATED}")
    if decision["temperature"] == 1:
        return sentence("probabilities were not recalibrated (temperature 1)")
    return sentence(
        "calibrated probabilities are reported beside the others: logits were divided by the "
        f"temperature {decision['temperature']:.3g}, fitted on validation images (Guo et al. 2017)"
    )


def prediction_rule(study: Study) -> str:
    """Describes the way from an image to a prediction for image and patient."""
    text = (
        "the probability of malignant of an image is the logistic function of the logit. The "
        "probability of a patient is the mean over the patient's images. An image or a patient is "
        "called malignant if the probability is at least the threshold"
    )
    return " ".join([sentence(text), *map(sentence, study.notes)])


def measures(study: Study) -> str:
    """Names the measures of performance in ``metrics.json``."""
    text = sentence(
        "performance was measured by the area under the ROC curve (ROC AUC), average precision, "
        "accuracy, balanced accuracy, sensitivity, specificity, precision, F1, the Matthews "
        "correlation and the Brier score, for images and for patients, and by the patient "
        "recognition rate (Spanhol et al. 2016)"
    )
    if "roc_auc_pooled" in study.metrics["image"]:
        text += " In the ROC AUC, only images or patients of the same fold are compared."
    before = (study.metrics.get("calibration") or {}).get("before", {})
    names = {
        "intercept": "the calibration intercept",
        "slope": "the calibration slope",
        "ece": "the expected calibration error",
        "nll": "the negative log-likelihood",
    }
    found = [name for key, name in names.items() if key in before]
    if found:
        text += f" {sentence(f'calibration was measured by {listing(found)}')}"
    return f"{text} {clinical_text.measures(study)}".strip()


def interval_methods(study: Study) -> dict[str, list[str]]:
    """Returns the headline metrics by the method of their interval, as ``metrics.json`` has it.

    The result is empty for a version that recorded no method: its intervals come from a percentile
    bootstrap over patients.
    """
    found: dict[str, list[str]] = {}
    for name, estimate in headline(study.metrics).items():
        if isinstance(method := estimate.get("method"), str):
            found.setdefault(METHODS.get(method, method), []).append(metric_title(name))
    return found


def metric_title(name: str) -> str:
    """Returns the name of a headline metric in words.

    >>> metric_title("image_roc_auc")
    'image ROC AUC'
    """
    return name.replace("_", " ").replace("roc auc", "ROC AUC")


def intervals(study: Study) -> str:
    """Describes the intervals."""
    methods = interval_methods(study)
    if methods:
        parts = (sentence(f"for {listing(names)}: {text}") for text, names in methods.items())
        return f"95 % intervals treat the patient as the unit. {' '.join(parts)}"
    return sentence(
        "95 % intervals come from a percentile bootstrap over patients with "
        f"{plural(study.metrics['resamples'], 'resample')}; with few patients such intervals are "
        "too narrow"
    )


def p_values(study: Study) -> str:
    """States the p-values of the ROC AUC, or an empty text for versions without."""
    values = study.metrics.get("p_value")
    if not values:
        return ""
    units = [unit for unit in ("image", "patient") if values[unit] is not None]
    parts = [f"{values[unit]:.3g} for {unit}s" for unit in units]
    if not parts:
        return ""
    return sentence(
        f"the one-sided p-value of the ROC AUC against chance was {listing(parts)} "
        f"({plural(values['permutations'], 'permutation')} of the patients' labels)"
    )
