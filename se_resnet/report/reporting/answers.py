"""Answers to the items of the checklists, from the files of a run.

Each public function is one answer, kept in :data:`ANSWERS`. ``tripod_ai.csv`` and ``claim.csv``
name the answer of each item.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from se_resnet.metrics.decision import FEWEST_PATIENTS
from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.labels import CLASS_NAMES, TUMOUR_TYPES
from se_resnet.report.reporting import clinical_text, data_text, evaluation_text, model_text
from se_resnet.report.reporting.flow import LEFT_OUT, count_flow
from se_resnet.report.reporting.study import (
    Row,
    Study,
    images_per_patient,
    of_class,
    sizes,
)
from se_resnet.report.reporting.wording import (
    ABSENT,
    UNEVALUATED,
    interval_text,
    listing,
    plural,
    recorded,
    sentence,
    span,
)
from se_resnet.runs.run_files import EXCLUDED, TEST, TRAIN, VAL
from se_resnet.runtime.schema import misfit

FEW_PATIENTS = 10  # of a class, fewer than which a checklist names as a limit
_SHOWN_ERRORS = 5
_EFFECTIVE_FORM = dict.fromkeys(("all", *CLASS_NAMES), float)


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to an item of a checklist.

    Attributes:
        text: whole sentences.
        sources: the files that hold the facts, as paths from the folder of the run.
    """

    text: str
    sources: tuple[str, ...]


ANSWERS: dict[str, Callable[[Study], Answer]] = {}  # by the name in the checklists


def _answer(function: Callable[[Study], Answer]) -> Callable[[Study], Answer]:
    """Adds a function to ``ANSWERS`` under its name."""
    ANSWERS[function.__name__] = function
    return function


def _joined(*texts: str) -> str:
    """Joins sentences; empty texts are left out."""
    return " ".join(filter(None, texts))


@_answer
def title(study: Study) -> Answer:
    """Names the kind of study, the method and the outcome."""
    return Answer(
        "Facts for the title: development and evaluation of a deep-learning model (a convolutional "
        "network) that separates benign from malignant breast tumours in histology images.",
        study.source("config.json", "split.csv"),
    )


@_answer
def study_type(study: Study) -> Answer:
    """Says that the run develops a model, and on which images it was evaluated."""
    return Answer(
        f"The run develops a model. {_evaluated_roles(study)}",
        study.source("config.json", "split.csv", "predictions.csv"),
    )


@_answer
def data_source(study: Study) -> Answer:
    """Describes the data set."""
    described = study.first.data["description"].splitlines()[:1]
    quoted = f" The run describes it as “{described[0]}”." if described and described[0] else ""
    return Answer(data_text.data_set(study) + quoted, study.source("split.csv", "data.json"))


@_answer
def accession_years(study: Study) -> Answer:
    """Returns the years in the accession numbers."""
    years = sorted({row["accession"].split("-")[0] for row in study.used})
    return Answer(
        sentence(f"The accession numbers of the images begin with the years {listing(years)}"),
        study.source("split.csv"),
    )


@_answer
def selection(study: Study) -> Answer:
    """Describes the images that were taken, and those left out."""
    wanted = study.setting("data.magnifications") or []
    admitted = (
        f"Images of the magnifications {listing(f'{value}x' for value in wanted)}"
        if wanted
        else "Images of all magnifications"
    )
    return Answer(
        f"{admitted} were admitted. {data_text.left_out(study)}",
        study.source("config.json", "split.csv", "data.json"),
    )


@_answer
def subset(study: Study) -> Answer:
    """Describes the magnifications that were used and the part of the image."""
    return Answer(
        f"Images of {data_text.magnifications(study.used)} were used. "
        f"{data_text.left_out(study)} {model_text.resizing(study)}",
        study.source("split.csv", "data.json", "checkpoints/best"),
    )


@_answer
def preprocessing(study: Study) -> Answer:
    """Describes quality checks and preprocessing."""
    handling = {
        "error": "A file that could not be read would have ended the run.",
        "skip": "Files that could not be read were left out and listed.",
    }.get(str(study.setting("data.on_bad_image")), "")
    return Answer(
        f"{handling} {model_text.preprocessing(study)}".strip(),
        study.source("config.json", "checkpoints/best"),
    )


@_answer
def scaling(study: Study) -> Answer:
    """Describes the scaling of pixel values."""
    return Answer(model_text.scaling(study), study.source("checkpoints/best"))


@_answer
def outcome(study: Study) -> Answer:
    """Defines the outcome as the files hold it."""
    types = []
    for name in CLASS_NAMES:
        found = sorted({row["subtype"] for row in of_class(study.used, name)})
        types.append(f"{name}: {listing(_type_name(subtype) for subtype in found) or 'none'}")
    return Answer(
        "The outcome is malignant against benign, as recorded with each image. A patient is "
        f"malignant if any image of the patient is. Tumour types are {'; '.join(types)}. The class "
        "belongs to the image itself, so that there is no time horizon.",
        study.source("split.csv"),
    )


def _type_name(subtype: str) -> str:
    return TUMOUR_TYPES.get(subtype, subtype)


@_answer
def predictors(study: Study) -> Answer:
    """States that the pixels are the only predictors."""
    height, width = study.first.network["size"]
    return Answer(
        f"The only predictors are the pixels of one RGB image of {width} x {height} pixels. No "
        "clinical variable enters the model, and none was selected beforehand.",
        study.source("checkpoints/best"),
    )


@_answer
def image_input(study: Study) -> Answer:
    """Describes the images by magnification."""
    counts = Counter(int(row["magnification"]) for row in study.used)
    parts = listing(f"{number:,} at {scale}x" for scale, number in sorted(counts.items()))
    return Answer(
        sentence(
            f"The images were taken at {len(counts)} magnification"
            f"{'' if len(counts) == 1 else 's'}: {parts}"
        ),
        study.source("split.csv"),
    )


@_answer
def sample_size(study: Study) -> Answer:
    """States the size of each part, and the effective number of patients where recorded."""
    text = data_text.partition_sizes(study)
    effective = study.metrics["image"]["roc_auc"].get("effective_patients")
    if isinstance(effective, dict) and not misfit(effective, _EFFECTIVE_FORM):
        by_class = listing(f"{effective[name]:.1f} {name}" for name in CLASS_NAMES)
        text += " " + sentence(
            f"For the image ROC AUC the patients are worth {effective['all']:.1f} patients with "
            f"equal numbers of images ({by_class})"
        )
    else:
        text += f" The effective number of patients is {UNEVALUATED}."
    return Answer(
        _joined(
            text,
            clinical_text.patients_needed(study),
            "No calculation of the sample size before the study is recorded.",
        ),
        study.source("split.csv", "metrics.json"),
    )


@_answer
def missing_data(study: Study) -> Answer:
    """States that every image has its facts, and which files were left out."""
    used = study.used
    incomplete = sum("" in row.values() for row in used)
    if incomplete:
        text = f"Of {plural(len(used), 'image')} used, {incomplete:,} lack a fact in split.csv."
    else:
        text = (
            f"Each of the {plural(len(used), 'image')} used has class, tumour type, magnification, "
            "slide and accession number."
        )
    return Answer(
        f"{text} Nothing was imputed. {data_text.left_out(study)}",
        study.source("split.csv", "data.json"),
    )


@_answer
def partition(study: Study) -> Answer:
    """Describes the division and the size of each part."""
    return Answer(
        f"{data_text.partition(study)} {data_text.partition_sizes(study)}",
        study.source("config.json", "split.csv"),
    )


@_answer
def disjointness(study: Study) -> Answer:
    """States the level at which the parts are disjoint, by the audit."""
    return Answer(
        f"{data_text.partition(study)} {data_text.overlap(study)}",
        study.source("config.json", "data.json", "metrics.json"),
    )


@_answer
def architecture(study: Study) -> Answer:
    """Describes the network."""
    return Answer(model_text.network(study), study.source("checkpoints/best"))


@_answer
def software(study: Study) -> Answer:
    """States versions and hardware."""
    return Answer(model_text.software(study), study.source("software.json"))


@_answer
def weights(study: Study) -> Answer:
    """Describes the initial weights."""
    return Answer(model_text.initial_weights(study), study.source("weights.json", "config.json"))


@_answer
def training(study: Study) -> Answer:
    """Describes augmentation, loss, optimiser and balancing."""
    parts = (
        model_text.augmentation,
        model_text.loss,
        model_text.optimiser,
        model_text.balancing,
    )
    count = len(study.trainings)
    return Answer(
        " ".join(
            [
                *(part(study) for part in parts),
                f"{plural(count, 'network')} {'was' if count == 1 else 'were'} trained.",
            ]
        ),
        study.source("config.json", "data.json"),
    )


@_answer
def model_building(study: Study) -> Answer:
    """Describes the model, its training and the choice of its weights."""
    parts = (
        model_text.network,
        model_text.initial_weights,
        model_text.loss,
        model_text.optimiser,
        model_text.checkpoint,
    )
    return Answer(
        " ".join(part(study) for part in parts)
        + " The run itself searched no other hyperparameter.",
        study.source("checkpoints/best", "weights.json", "config.json", "metrics.jsonl"),
    )


@_answer
def checkpoint(study: Study) -> Answer:
    """Describes the choice of the evaluated weights."""
    return Answer(
        model_text.checkpoint(study),
        study.source("config.json", "checkpoints", "metrics.jsonl"),
    )


@_answer
def ensembling(study: Study) -> Answer:
    """States the number of networks per prediction."""
    if study.is_cross_validation:
        text = (
            f"Each test image was predicted by one network, that of the fold that tests it; the "
            f"{len(study.trainings)} networks were not combined."
        )
    else:
        text = "One network made all predictions; no models were combined."
    return Answer(" ".join([text, *map(sentence, study.notes)]), study.source("checkpoints/best"))


@_answer
def clusters(study: Study) -> Answer:
    """Describes the handling of images of the same patient."""
    counted = images_per_patient(study.evaluated)
    assert counted is not None, "an evaluation has images"
    median, least, most = counted
    return Answer(
        f"Images are clustered by patient: the evaluated patients have a median of {median:g} "
        f"images (range {least} to {most}). {evaluation_text.intervals(study)} Centres are not "
        "recorded.",
        study.source("predictions.csv", "metrics.json"),
    )


@_answer
def measures(study: Study) -> Answer:
    """Lists the measures and plots of the evaluation."""
    plots = ["ROC and precision-recall curves", "the distribution of probabilities"]
    if study.metrics.get("calibration"):
        plots.append("a reliability diagram")
    if study.metrics.get("selective"):
        plots.append("the error rate by coverage")
    return Answer(
        f"{evaluation_text.measures(study)} Plots: {listing(plots)}.",
        study.source("metrics.json", "report.html"),
    )


@_answer
def intervals(study: Study) -> Answer:
    """Describes the intervals."""
    return Answer(
        _joined(evaluation_text.intervals(study), evaluation_text.p_values(study)),
        study.source("metrics.json"),
    )


@_answer
def recalibration(study: Study) -> Answer:
    """Describes temperature and chosen threshold."""
    return Answer(
        f"{evaluation_text.temperature(study)} {evaluation_text.threshold(study)} No weight was "
        "changed after training.",
        study.source("metrics.json"),
    )


@_answer
def prediction_rule(study: Study) -> Answer:
    """Describes the way from an image to a prediction."""
    return Answer(
        f"{model_text.preprocessing(study)} {evaluation_text.prediction_rule(study)}",
        study.source("checkpoints/best", "metrics.json"),
    )


@_answer
def balancing(study: Study) -> Answer:
    """Describes balancing and recalibration."""
    benign, malignant = (
        span(len(of_class(training.role(TRAIN), name)) for training in study.trainings)
        for name in CLASS_NAMES
    )
    return Answer(
        f"The training set had {benign} benign and {malignant} malignant images. "
        f"{model_text.balancing(study)} {evaluation_text.temperature(study)}",
        study.source("config.json", "split.csv", "data.json", "metrics.json"),
    )


@_answer
def fairness(study: Study) -> Answer:
    """States the groups for which the run reports performance."""
    return Answer(
        "The files of the run hold no age, sex, ethnicity or other demographic variable. "
        "Performance is reported by magnification and tumour type only. No method for fairness was "
        "applied.",
        study.source("split.csv", "metrics.json"),
    )


@_answer
def output(study: Study) -> Answer:
    """Describes the output and the thresholds."""
    return Answer(
        f"The output is the probability of malignant. {evaluation_text.prediction_rule(study)} "
        f"{evaluation_text.threshold(study)}",
        study.source("metrics.json"),
    )


@_answer
def roles_compared(study: Study) -> Answer:
    """Compares training and evaluated images by class, magnification and tumour type."""
    trained, evaluated = study.role(TRAIN), study.evaluated
    roles = study.evaluated_roles
    if roles[""]:
        origin = (
            f"{roles['']:,} of {len(evaluated):,} evaluated images are not listed in split.csv, "
            "that is, they are other images than those of the run."
        )
    else:
        origin = "All evaluated images come from the same data set as the training images."
    return Answer(
        f"{origin} Training: {_mixture(trained)}. Evaluation: {_mixture(evaluated)}.",
        study.source("split.csv", "predictions.csv"),
    )


def _mixture(rows: Sequence[Row]) -> str:
    """Returns shares of malignant images, magnifications and tumour types as text."""
    total = len(rows)
    malignant = len(of_class(rows, "malignant"))
    scales = Counter(int(row["magnification"]) for row in rows)
    types = Counter(row["subtype"] for row in rows)
    return (
        f"{plural(total, 'image')}, {_share(malignant, total)} malignant; "
        + ", ".join(f"{scale}x {_share(n, total)}" for scale, n in sorted(scales.items()))
        + "; "
        + ", ".join(f"{_type_name(name)} {_share(n, total)}" for name, n in sorted(types.items()))
    )


def _share(number: int, total: int) -> str:
    return f"{100 * number / total:.0f} %" if total else "–"


@_answer
def data_identity(study: Study) -> Answer:
    """Names the fingerprint of the images."""
    prints = list(dict.fromkeys(training.data["fingerprint"] for training in study.trainings))
    return Answer(
        f"split.csv lists every image with its role. The pixels have the fingerprint "
        f"{listing(prints)}.",
        study.source("split.csv", "data.json"),
    )


@_answer
def code(study: Study) -> Answer:
    """Names the configuration that reproduces the run."""
    return Answer(
        f"config.json holds the complete configuration (seed {study.setting('seed')}, seed of the "
        f"division {recorded(study.setting('split.seed'))}). {model_text.software(study)}",
        study.source("config.json", "software.json"),
    )


@_answer
def flow(study: Study) -> Answer:
    """States the numbers of the flow diagram."""
    found, used = study.found, sizes(study.used)
    unreadable = len(study.first.skipped)
    left_out = [count for count in count_flow(study) if count.stage == LEFT_OUT]
    reasons = listing(f"{count.reason}: {count.sizes.images:,}" for count in left_out)
    return Answer(
        f"{plural(found.images + unreadable, 'image')} found, "
        f"{sum(count.sizes.images for count in left_out):,} left out"
        + (f" ({reasons})" if reasons else "")
        + f", {plural(used.images, 'image')} of {plural(used.patients or 0, 'patient')} used. "
        f"{data_text.partition_sizes(study)} {_evaluated(study)} The diagram is flow.svg.",
        study.source(
            "split.csv",
            "data.json",
            *(["skipped_files.csv"] if study.first.skipped else []),
            "predictions.csv",
        ),
    )


def _evaluated(study: Study) -> str:
    counts = study.metrics["counts"]
    return (
        f"Evaluated: {plural(counts['images']['all'], 'image')} of "
        f"{plural(counts['accessions']['all'], 'patient')} ({counts['accessions']['benign']:,} "
        f"benign, {counts['accessions']['malignant']:,} malignant)."
    )


@_answer
def characteristics(study: Study) -> Answer:
    """States images per patient and tumour types; refers to the table."""
    rows = study.used
    counted = images_per_patient(rows)
    assert counted is not None, "a run has images"
    median, least, most = counted
    types = Counter(row["subtype"] for row in rows)
    patients = {
        name: len({row["accession"] for row in rows if row["subtype"] == name}) for name in types
    }
    text = listing(
        f"{_type_name(name)} {number:,} images of {plural(patients[name], 'patient')}"
        for name, number in sorted(types.items())
    )
    return Answer(
        f"Images per patient: median {median:g} (range {least} to {most}). Tumour types: {text}. "
        "characteristics.csv has the numbers of each part. Age and sex are not in the files.",
        study.source("split.csv"),
    )


@_answer
def analysis_sizes(study: Study) -> Answer:
    """States patients and malignant patients of each analysis."""
    return Answer(
        _joined(
            data_text.partition_sizes(study),
            evaluation_text.chosen_by_validation(study),
            _evaluated(study),
        ),
        study.source("split.csv", "metrics.json"),
    )


@_answer
def model_files(study: Study) -> Answer:
    """Names the files of the trained network and the licence of its initial weights."""
    facts = study.first.weights
    pretrained = study.setting("model.pretrained")
    if pretrained == "none":
        licence = "The weights started at random, so no other licence applies to them"
    else:
        known = facts["licence"] if facts else ""
        licence = f"The initial weights '{pretrained}' have the licence {known or ABSENT}"
    steps = listing(
        f"{training.prefix}checkpoints/best/{training.step}" for training in study.trainings
    )
    return Answer(
        f"The trained weights are in {steps}; python -m se_resnet.package makes a package of them "
        f"that predicts new images. {sentence(licence)}",
        study.source("checkpoints/best", "weights.json"),
    )


@_answer
def performance(study: Study) -> Answer:
    """States the headline metrics with intervals, sensitivity and specificity."""
    metrics = study.metrics
    estimates = {
        evaluation_text.metric_title(name): estimate for name, estimate in headline(metrics).items()
    }
    for part, facts in (("image", metrics["image"]), ("patient", _patient(metrics))):
        if "roc_auc_pooled" in facts:
            estimates[f"{part} ROC AUC of all folds pooled"] = facts["roc_auc_pooled"]
        estimates[f"{part} sensitivity"] = facts["recall"]
        estimates[f"{part} specificity"] = facts["specificity"]
    text = "; ".join(f"{name} {interval_text(value)}" for name, value in estimates.items())
    return Answer(
        _joined(
            _evaluated(study),
            f"At the threshold {metrics['threshold']:g}: {text}.",
            clinical_text.values(study),
            evaluation_text.intervals(study),
        ),
        study.source("metrics.json"),
    )


def _patient(metrics: dict[str, Any]) -> dict[str, Any]:
    return metrics["patient"]["mean_probability"]


@_answer
def performance_by_part(study: Study) -> Answer:
    """States performance by magnification, by tumour type and by fold."""
    parts = [
        f"{scale}x: image accuracy {interval_text(facts['accuracy'])}, image ROC AUC "
        f"{interval_text(facts['roc_auc'])}"
        for scale, facts in study.metrics["by_magnification"].items()
    ]
    agreement = study.metrics.get("magnification_agreement")
    if agreement and agreement["all_pairs"]["value"] is not None:
        parts.append(
            "share of pairs of magnifications whose calls for a patient agree: "
            f"{interval_text(agreement['all_pairs'])}"
        )
    parts += [
        f"{_type_name(name)}: image accuracy {interval_text(facts['accuracy'])}"
        for name, facts in study.metrics.get("by_subtype", {}).items()
    ]
    for name, fold in study.metrics.get("folds", {}).items():
        if fold.get("sd") is not None:
            label = evaluation_text.metric_title(name)
            parts.append(
                f"{label} over folds: mean {fold['mean']:.3f}, standard deviation {fold['sd']:.3f}"
            )
    return Answer(sentence("; ".join(parts)), study.source("metrics.json"))


@_answer
def recalibration_results(study: Study) -> Answer:
    """States calibration before and after temperature scaling, and results at the threshold."""
    calibration = study.metrics.get("calibration")
    chosen = study.metrics.get("at_chosen_threshold")
    source = study.source("metrics.json")
    if not calibration or not chosen:
        return Answer(f"Results of a recalibration are {UNEVALUATED}.", source)
    unchanged = (study.metrics.get("decision") or {}).get("temperature") == 1
    parts = ["no recalibration (temperature 1)"] if unchanged else []
    for name, label in (
        ("intercept", "calibration intercept"),
        ("slope", "calibration slope"),
        ("brier", "Brier score"),
        ("ece", "expected calibration error"),
    ):
        before, after = (calibration[part].get(name) for part in ("before", "after"))
        if before is not None:
            later = "" if unchanged else f" before, {interval_text(after)} after"
            parts.append(f"{label} {interval_text(before)}{later}")
    image = chosen["image"]
    parts.append(
        f"at the chosen threshold, image sensitivity {interval_text(image['recall'])} and "
        f"specificity {interval_text(image['specificity'])}"
    )
    return Answer(sentence("; ".join(parts)), study.source("metrics.json"))


@_answer
def robustness(study: Study) -> Answer:
    """States the comparisons that the run holds."""
    extent = (
        "magnification, tumour type and fold"
        if study.is_cross_validation
        else ("magnification and tumour type")
    )
    return Answer(
        f"Performance by {extent} is reported. One training seed and one seed of the division were "
        "used; no perturbed images were tested in this run.",
        study.source("metrics.json", "config.json"),
    )


@_answer
def explainability(study: Study) -> Answer:
    """States the explanations in the report."""
    shown = "the reports of the folds show" if study.is_cross_validation else "the report shows"
    return Answer(
        sentence(
            f"{shown} Grad-CAM of errors and of random correct predictions; these maps were not "
            "validated"
        ),
        study.source("report.html"),
    )


def _evaluated_roles(study: Study) -> str:
    """Returns a sentence about the evaluated images by their role in the run."""
    roles = study.evaluated_roles
    parts = []
    for role, text in (
        (TEST, "{} held out for testing"),
        (VAL, "{} of the validation set, which chose the weights"),
        (TRAIN, "{} that trained the model"),
        (EXCLUDED, "{} that the division left out"),
        ("", "{} that the division of the run does not list"),
    ):
        if roles[role]:
            parts.append(text.format(plural(roles[role], "image")))
    return sentence(f"it was evaluated on {listing(parts)}")


@_answer
def internal_testing(study: Study) -> Answer:
    """States the evaluated images by their role, and the overlap with training images."""
    return Answer(
        f"{_evaluated_roles(study)} {data_text.overlap(study)}",
        study.source("predictions.csv", "split.csv", "metrics.json"),
    )


@_answer
def external_testing(study: Study) -> Answer:
    """States whether images from outside the division were evaluated."""
    other = study.evaluated_roles[""]
    total = len(study.predictions)
    text = (
        f"{other:,} of {total:,} evaluated images are not in the division of the run; the files do "
        "not tell whether they come from another laboratory."
        if other
        else f"None: all {total:,} evaluated images are in the division of the run."
    )
    return Answer(text, study.source("predictions.csv", "split.csv"))


@_answer
def failures(study: Study) -> Answer:
    """States the confusion matrices and the most confident errors."""
    metrics, predictions = study.metrics, study.predictions
    texts = []
    for label, counts in (
        ("images", metrics["image"]["confusion"]),
        ("patients by mean probability", _patient(metrics).get("confusion")),
    ):
        if counts:
            texts.append(
                f"{label}: {counts['tp']:,} true positive, {counts['fn']:,} false negative, "
                f"{counts['tn']:,} true negative, {counts['fp']:,} false positive"
            )
    called = predictions.probability >= metrics["threshold"]
    wrong = np.flatnonzero(called != (predictions.label == 1))
    distance = np.abs(predictions.probability[wrong] - metrics["threshold"])
    worst = wrong[np.argsort(-distance, kind="stable")][:_SHOWN_ERRORS]
    if len(worst):
        shown = "; ".join(
            f"{predictions.file[i]} (probability {predictions.probability[i]:.3f})" for i in worst
        )
        texts.append(f"the clearest errors are {shown}")
    else:
        texts.append("no image was called wrongly")
    return Answer(sentence("; ".join(texts)), study.source("metrics.json", "predictions.csv"))


@_answer
def limits(study: Study) -> Answer:
    """Names the limits that the files show."""
    counts, found = study.metrics["counts"], []
    for name in CLASS_NAMES:
        if (number := counts["accessions"][name]) < FEW_PATIENTS:
            found.append(f"only {plural(number, f'{name} patient')} evaluated")
    audit = study.metrics.get("audit") or {}
    if number := audit.get("evaluated_accessions_seen"):
        found.append(f"{plural(number, 'evaluated patient')} also trained or validated")
    if number := audit.get("synthetic_test_images"):
        found.append(f"{plural(number, 'test image')} synthetic")
    decision = study.metrics.get("decision")
    benign, malignant, _ = evaluation_text.choosing_patients(study)
    if decision and not decision["reason"] and min(benign, malignant) < FEWEST_PATIENTS:
        found.append(
            f"a threshold chosen on validation images of only {plural(benign, 'benign patient')} "
            f"and {plural(malignant, 'malignant patient')}"
        )
    if not study.evaluated_roles[""]:
        found.append("no image from outside the data set was evaluated")
    if not evaluation_text.interval_methods(study):
        found.append("intervals from a bootstrap over patients, too narrow with few patients")
    if study.is_cross_validation and "benign_patients" not in study.metrics.get("decision", {}):
        number = evaluation_text.tested_choosers(study)
        found.append(
            f"{plural(number, 'evaluated patient')} also validated in another fold, and validation "
            "images chose the threshold"
        )
    found.append("one seed of the division and one training seed")
    found.append("an accession number is taken for a patient")
    return Answer(
        sentence(f"the files show these limits: {'; '.join(found)}"),
        study.source("metrics.json", "predictions.csv", "config.json"),
    )
