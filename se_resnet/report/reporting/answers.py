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
from se_resnet.metrics.evaluation import MOST_PARTS, headline
from se_resnet.metrics.full import used_thresholds
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.reporting import clinical_text, data_text, evaluation_text, model_text
from se_resnet.report.reporting.flow import LEFT_OUT, count_flow
from se_resnet.report.reporting.study import (
    Row,
    Study,
    images_per_patient,
    of_class,
    scale_of,
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
    task = (
        "benign from malignant breast tumours in histology images"
        if study.source.is_breakhis
        else f"the classes benign and malignant of the images in {study.source.name}"
    )
    return Answer(
        "Facts for the title: development and evaluation of a deep-learning model (a convolutional "
        f"network) that separates {task}.",
        study.files("config.json", "split.csv"),
    )


@_answer
def study_type(study: Study) -> Answer:
    """Says that the run develops a model, and on which images it was evaluated."""
    return Answer(
        f"The run develops a model. {_evaluated_roles(study)}",
        study.files("config.json", "split.csv", "predictions.csv"),
    )


@_answer
def data_source(study: Study) -> Answer:
    """Describes the data set."""
    described = study.first.data["description"].splitlines()[:1]
    quoted = f" The run describes it as “{described[0]}”." if described and described[0] else ""
    return Answer(data_text.data_set(study) + quoted, study.files("split.csv", "data.json"))


@_answer
def accession_years(study: Study) -> Answer:
    """Returns the years in the accession numbers of BreaKHis; a table has none."""
    if not study.source.is_breakhis:
        return Answer("The run knows no dates.", study.files("split.csv"))
    years = sorted({row["accession"].split("-")[0] for row in study.used})
    return Answer(
        sentence(f"The accession numbers of the images begin with the years {listing(years)}"),
        study.files("split.csv"),
    )


@_answer
def selection(study: Study) -> Answer:
    """Describes the images that were taken, and those left out."""
    wanted = study.setting("data.magnifications") or []
    admitted = (
        f"Images of the magnifications {listing(f'{value}x' for value in wanted)}"
        if wanted
        else "Images of all magnifications"
        if study.scales
        else "All images"
    )
    return Answer(
        f"{admitted} were admitted. {data_text.left_out(study)}",
        study.files("config.json", "split.csv", "data.json"),
    )


@_answer
def subset(study: Study) -> Answer:
    """Describes the magnifications that were used and the part of the image."""
    return Answer(
        _joined(
            data_text.magnifications(study.used),
            data_text.left_out(study),
            model_text.resizing(study),
        ),
        study.files("split.csv", "data.json", "checkpoints/best"),
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
        study.files("config.json", "checkpoints/best"),
    )


@_answer
def scaling(study: Study) -> Answer:
    """Describes the scaling of pixel values."""
    return Answer(model_text.scaling(study), study.files("checkpoints/best"))


@_answer
def outcome(study: Study) -> Answer:
    """Defines the outcome as the files hold it."""
    types = []
    for name in CLASS_NAMES:
        found = sorted({row["subtype"] for row in of_class(study.used, name)} - {""})
        if len(found) > MOST_PARTS:
            found = [f"{len(found)} different values"]
        types.append(f"{name}: {listing(map(study.type_name, found)) or 'none recorded'}")
    noun = study.subtype_noun.capitalize()
    subtypes = f" {noun}s are {'; '.join(types)}." if study.subtypes else ""
    labels = study.source.explain_classes()
    return Answer(
        "The outcome is malignant against benign, as recorded with each image."
        + (f" In {study.source.name}, {labels}." if labels else "")
        + f" A patient is malignant if any image of the patient is.{subtypes} The class belongs to "
        "the image itself, so that there is no time horizon.",
        study.files("split.csv"),
    )


@_answer
def predictors(study: Study) -> Answer:
    """States that the pixels are the only predictors."""
    height, width = study.first.network["size"]
    return Answer(
        f"The only predictors are the pixels of one RGB image of {width} x {height} pixels. No "
        "clinical variable enters the model, and none was selected beforehand.",
        study.files("checkpoints/best"),
    )


@_answer
def image_input(study: Study) -> Answer:
    """Describes the images by magnification."""
    return Answer(data_text.magnifications(study.used), study.files("split.csv"))


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
        study.files("split.csv", "metrics.json"),
    )


@_answer
def missing_data(study: Study) -> Answer:
    """States that every image has its facts, and which files were left out."""
    used = study.used
    names = ["class"]
    missing = []
    for noun, lacking in (
        (study.subtype_noun, [row["subtype"] == "" for row in used]),
        ("magnification", [scale_of(row) == 0 for row in used]),
        ("slide", [row["slide"] == row["accession"] for row in used]),
        *((f"'{name}'", [row[name] == "" for row in used]) for name in study.further_columns),
    ):
        if not any(lacking):
            names.append(noun)
        else:
            missing.append(f"{noun} ({sum(lacking):,})")
    names.append("accession number" if study.source.is_breakhis else "patient")
    text = f"Each of the {plural(len(used), 'image')} used has {listing(names)}."
    if missing:
        text += f" Images without a fact in split.csv: {', '.join(missing)}."
    return Answer(
        f"{text} Nothing was imputed. {data_text.left_out(study)}",
        study.files("split.csv", "data.json"),
    )


@_answer
def partition(study: Study) -> Answer:
    """Describes the division and the size of each part."""
    return Answer(
        f"{data_text.partition(study)} {data_text.partition_sizes(study)}",
        study.files("config.json", "split.csv"),
    )


@_answer
def disjointness(study: Study) -> Answer:
    """States the level at which the parts are disjoint, by the audit."""
    return Answer(
        f"{data_text.partition(study)} {data_text.overlap(study)}",
        study.files("config.json", "data.json", "metrics.json"),
    )


@_answer
def architecture(study: Study) -> Answer:
    """Describes the network."""
    return Answer(model_text.network(study), study.files("checkpoints/best"))


@_answer
def software(study: Study) -> Answer:
    """States versions and hardware."""
    return Answer(model_text.software(study), study.files("software.json"))


@_answer
def weights(study: Study) -> Answer:
    """Describes the initial weights."""
    return Answer(model_text.initial_weights(study), study.files("weights.json", "config.json"))


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
        study.files("config.json", "data.json"),
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
        study.files("checkpoints/best", "weights.json", "config.json", "metrics.jsonl"),
    )


@_answer
def checkpoint(study: Study) -> Answer:
    """Describes the choice of the evaluated weights."""
    return Answer(
        model_text.checkpoint(study),
        study.files("config.json", "checkpoints", "metrics.jsonl"),
    )


@_answer
def ensembling(study: Study) -> Answer:
    """States the number of networks per prediction."""
    if study.members > 1:
        text = (
            f"The mean logit of {study.members} networks predicted each test image. The networks "
            "differ in their training seed and in their validation images."
        )
    elif study.is_cross_validation:
        text = (
            f"Each test image was predicted by one network, that of the fold that tests it; the "
            f"{len(study.trainings)} networks were not combined."
        )
    else:
        text = "One network made all predictions; no models were combined."
    return Answer(" ".join([text, *map(sentence, study.notes)]), study.files("checkpoints/best"))


@_answer
def clusters(study: Study) -> Answer:
    """Describes the handling of images of the same patient."""
    counted = images_per_patient(study.evaluated)
    assert counted is not None, "an evaluation has images"
    median, least, most = counted
    return Answer(
        f"Images are clustered by patient: the evaluated patients have a median of {median:g} "
        f"images (range {least} to {most}). {evaluation_text.intervals(study)} "
        f"{_centres(study)}",
        study.files("predictions.csv", "metrics.json"),
    )


def _centres(study: Study) -> str:
    sites = {site for row in study.evaluated if (site := row.get("site"))}
    if not sites:
        return "Centres are not recorded."
    shown = f" ({listing(sorted(sites))})" if len(sites) <= MOST_PARTS else ""
    return f"The evaluated images come from {plural(len(sites), 'site')}{shown}."


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
        study.files("metrics.json", "report.html"),
    )


@_answer
def intervals(study: Study) -> Answer:
    """Describes the intervals."""
    return Answer(
        _joined(evaluation_text.intervals(study), evaluation_text.p_values(study)),
        study.files("metrics.json"),
    )


@_answer
def recalibration(study: Study) -> Answer:
    """Describes temperature and chosen threshold."""
    return Answer(
        f"{evaluation_text.temperature(study)} {evaluation_text.threshold(study)} No weight was "
        "changed after training.",
        study.files("metrics.json"),
    )


@_answer
def prediction_rule(study: Study) -> Answer:
    """Describes the way from an image to a prediction."""
    return Answer(
        f"{model_text.preprocessing(study)} {evaluation_text.prediction_rule(study)}",
        study.files("checkpoints/best", "metrics.json"),
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
        study.files("config.json", "split.csv", "data.json", "metrics.json"),
    )


@_answer
def fairness(study: Study) -> Answer:
    """States the groups for which the run reports performance."""
    return Answer(
        f"{_demographic(study)} "
        f"{sentence(_reported_parts(study))} No method for fairness was "
        "applied.",
        study.files("split.csv", "metrics.json"),
    )


@_answer
def output(study: Study) -> Answer:
    """Describes the output and the thresholds."""
    return Answer(
        f"The output is the probability of malignant. {evaluation_text.prediction_rule(study)} "
        f"{evaluation_text.threshold(study)}",
        study.files("metrics.json"),
    )


@_answer
def roles_compared(study: Study) -> Answer:
    """Compares training and evaluated images by class, magnification and subtype."""
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
        f"{origin} Training: {_mixture(study, trained)}. Evaluation: {_mixture(study, evaluated)}.",
        study.files("split.csv", "predictions.csv"),
    )


def _mixture(study: Study, rows: Sequence[Row]) -> str:
    """Returns shares of malignant images, and of magnifications, subtypes and sites if known."""
    total = len(rows)
    malignant = len(of_class(rows, "malignant"))
    parts = [f"{plural(total, 'image')}, {_share(malignant, total)} malignant"]
    scales, types, sites = (
        Counter(map(function, rows))
        for function in (scale_of, lambda row: row["subtype"], lambda row: row.get("site", ""))
    )
    for counts, form in (
        (scales, lambda scale: f"{scale}x" if scale else "unknown magnification"),
        (types, lambda name: study.type_name(name) if name else f"unknown {study.subtype_noun}"),
        (sites, lambda name: f"site {name}" if name else "unknown site"),
    ):
        if {*counts} <= {0, ""} or len(counts) > MOST_PARTS:
            continue
        parts.append(
            ", ".join(f"{form(key)} {_share(n, total)}" for key, n in sorted(counts.items()))
        )
    return "; ".join(parts)


def _share(number: int, total: int) -> str:
    return f"{100 * number / total:.0f} %" if total else "–"


@_answer
def data_identity(study: Study) -> Answer:
    """Names the fingerprint of the images."""
    prints = list(dict.fromkeys(training.data["fingerprint"] for training in study.trainings))
    return Answer(
        f"split.csv lists every image with its role. The pixels have the fingerprint "
        f"{listing(prints)}.",
        study.files("split.csv", "data.json"),
    )


@_answer
def code(study: Study) -> Answer:
    """Names the configuration that reproduces the run."""
    return Answer(
        f"config.json holds the complete configuration (seed {study.setting('seed')}, seed of the "
        f"division {recorded(study.setting('split.seed'))}). {model_text.software(study)}",
        study.files("config.json", "software.json"),
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
        study.files(
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
    """States images per patient and subtypes; refers to the table."""
    rows = study.used
    counted = images_per_patient(rows)
    assert counted is not None, "a run has images"
    median, least, most = counted
    types = Counter(row["subtype"] for row in rows if row["subtype"])
    patients: dict[str, set[str]] = {name: set() for name in types}
    for row in rows:
        if row["subtype"]:
            patients[row["subtype"]].add(row["accession"])
    text = listing(
        f"{study.type_name(name)} {plural(number, 'image')} of "
        f"{plural(len(patients[name]), 'patient')}"
        for name, number in sorted(types.items())
    )
    if len(types) > MOST_PARTS:
        text = f"{len(types):,} different values"
    subtypes = f" {study.subtype_noun.capitalize()}s: {text}." if types else ""
    further = (
        f" Further columns of {study.source.name} in that table: {listing(study.further_columns)}."
        if study.further_columns
        else ""
    )
    return Answer(
        f"Images per patient: median {median:g} (range {least} to {most}).{subtypes} "
        f"characteristics.csv has the numbers of each part.{further} {_demographic(study)}",
        study.files("split.csv"),
    )


def _demographic(study: Study) -> str:
    """States that the files hold no demographic variable, or names columns that may be such."""
    unknown = [name for name in study.further_columns if name not in ("site", "um_per_px")]
    if unknown:
        return (
            f"The run does not know the meaning of the columns {listing(unknown)}: the author has "
            "to say which of them describe patients."
        )
    return "The files of the run hold no age, sex, ethnicity or other demographic variable."


def _reported_parts(study: Study) -> str:
    """Returns the parts of the images by which performance is reported."""
    parts = [
        noun
        for noun, key in (
            ("magnification", "by_magnification"),
            (study.subtype_noun, "by_subtype"),
            ("site", "by_site"),
        )
        if study.metrics.get(key)
    ] + (["fold"] if study.is_cross_validation else [])
    if not parts:
        return "performance is not reported by any part of the images"
    return f"performance is reported by {listing(parts)} only"


@_answer
def analysis_sizes(study: Study) -> Answer:
    """States patients and malignant patients of each analysis."""
    return Answer(
        _joined(
            data_text.partition_sizes(study),
            evaluation_text.chosen_by_validation(study),
            _evaluated(study),
        ),
        study.files("split.csv", "metrics.json"),
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
        study.files("checkpoints/best", "weights.json"),
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
            f"At the threshold {metrics['threshold']:.3g}: {text}.",
            clinical_text.values(study),
            evaluation_text.intervals(study),
        ),
        study.files("metrics.json"),
    )


def _patient(metrics: dict[str, Any]) -> dict[str, Any]:
    return metrics["patient"]["mean_probability"]


@_answer
def performance_by_part(study: Study) -> Answer:
    """States performance by magnification, by subtype, by site and by fold."""
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
        f"{study.type_name(name)}: image accuracy {interval_text(facts['accuracy'])}"
        for name, facts in study.metrics.get("by_subtype", {}).items()
    ]
    parts += [
        f"site {name}: image accuracy {interval_text(facts['accuracy'])}, image ROC AUC "
        f"{interval_text(facts['roc_auc'])}"
        for name, facts in study.metrics.get("by_site", {}).items()
    ]
    parts += [
        f"the column {name} has {count:,} different values, which are not evaluated separately"
        for name, count in study.metrics.get("too_many_parts", {}).items()
    ]
    for name, fold in study.metrics.get("folds", {}).items():
        if fold.get("sd") is not None:
            label = evaluation_text.metric_title(name)
            parts.append(
                f"{label} over folds: mean {fold['mean']:.3f}, standard deviation {fold['sd']:.3f}"
            )
    text = "; ".join(parts) or _reported_parts(study)
    return Answer(sentence(text), study.files("metrics.json"))


@_answer
def recalibration_results(study: Study) -> Answer:
    """States calibration before and after temperature scaling, and results at the threshold."""
    calibration = study.metrics.get("calibration")
    chosen = study.metrics.get("at_chosen_threshold")
    source = study.files("metrics.json")
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
    plain = study.metrics.get("at_plain_threshold")
    if plain:
        image = plain["image"]
        parts.append(
            f"at the threshold {plain['threshold']:g}, image sensitivity "
            f"{interval_text(image['recall'])} and specificity "
            f"{interval_text(image['specificity'])}"
        )
    return Answer(sentence("; ".join(parts)), study.files("metrics.json"))


@_answer
def robustness(study: Study) -> Answer:
    """States the comparisons that the run holds."""
    return Answer(
        f"{sentence(_reported_parts(study))} One training seed and one seed of the division were "
        "used; no perturbed images were tested in this run.",
        study.files("metrics.json", "config.json"),
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
        study.files("report.html"),
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
        study.files("predictions.csv", "split.csv", "metrics.json"),
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
    return Answer(text, study.files("predictions.csv", "split.csv"))


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
    thresholds = used_thresholds(metrics, predictions.fold)
    called = predictions.probability >= thresholds
    wrong = np.flatnonzero(called != (predictions.label == 1))
    distance = np.abs(predictions.probability - thresholds)[wrong]
    worst = wrong[np.argsort(-distance, kind="stable")][:_SHOWN_ERRORS]
    if len(worst):
        shown = "; ".join(
            f"{predictions.file[i]} (probability {predictions.probability[i]:.3f})" for i in worst
        )
        texts.append(f"the clearest errors are {shown}")
    else:
        texts.append("no image was called wrongly")
    return Answer(sentence("; ".join(texts)), study.files("metrics.json", "predictions.csv"))


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
    seeds = "" if study.members > 1 else " and one training seed"
    found.append(f"one seed of the division{seeds}")
    if study.source.is_breakhis:
        found.append("an accession number is taken for a patient")
    return Answer(
        sentence(f"the files show these limits: {'; '.join(found)}"),
        study.files("metrics.json", "predictions.csv", "config.json"),
    )
