"""Sentences about preprocessing, network, training and software.

Each function returns one or more whole sentences whose numbers come from the files of the run. A
fact that the files lack is named as not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from se_resnet import attention
from se_resnet.images.scale import scale_of_facts
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.report.reporting.study import Study, is_synthetic
from se_resnet.report.reporting.wording import (
    ABSENT,
    listing,
    per_cent,
    plural,
    recorded,
    sentence,
    span,
)

_BLENDING = ("smote", "borderline_smote", "adasyn")
_BALANCING = {
    "smote": "SMOTE (Chawla et al. 2002)",
    "borderline_smote": "borderline SMOTE (Han et al. 2005)",
    "adasyn": "ADASYN (He et al. 2008)",
}
_RULES = {
    "squash": "each axis was scaled by itself",
    "crop": "the shorter side was scaled to the target and the centre was cut out",
    "none": "without a change of size",
}


def preprocessing(study: Study) -> str:
    """Describes the resizing and the scaling of pixel values."""
    return f"{resizing(study)} {scaling(study)}"


def resizing(study: Study) -> str:
    """Describes the resizing, and the tiles of a network with a scale."""
    height, width = study.first.network["size"]
    rule = study.first.network["resize"]
    explained = _RULES.get(rule)
    resized = f"resized to {width} x {height} pixels by rule '{rule}'" + (
        f" ({explained})" if explained else ""
    )
    scale = scale_of_facts(study.first.network.get("scale"))
    if scale is None:
        return sentence(f"images were {resized}")
    rows, columns = scale.field
    return sentence(
        f"images were resampled to {scale.um_per_px:g} µm per pixel and cut into tiles of "
        f"{columns} x {rows} pixels"
        + ("" if scale.field == (height, width) else f", which were {resized}")
        + "; the network was trained on the middle tile of each image, and the logit of a test "
        "image is the mean over all its tiles"
    )


def scaling(study: Study) -> str:
    """Describes the scaling of pixel values before the network."""
    facts = study.first.network["preprocessing"]
    mean, deviation = (", ".join(f"{value:g}" for value in facts[name]) for name in ("mean", "std"))
    text = f"the means {mean} of the {facts['channel_order']} channels were subtracted"
    if facts["scale"] != 1:
        text = f"pixel values of 0 to 255 were multiplied by {facts['scale']:.5g}; {text}"
    if set(facts["std"]) != {1}:
        text += f", and the differences were divided by {deviation}"
    return sentence(text)


def network(study: Study) -> str:
    """Describes the architecture."""
    model = study.first.network["model"]
    layers = 3 * sum(model["stage_sizes"]) + 2
    module = model["attention"]
    attention = (
        "without attention modules"
        if module == "none"
        else f"with the attention module {_module_name(module)} (position "
        f"'{model['attention_position']}')"
    )
    options = model["attention_options"]
    if options:
        attention += f", options {', '.join(f'{k} = {v}' for k, v in sorted(options.items()))}"
    height, width = study.first.network["size"]
    return sentence(
        f"the model was a convolutional residual network of {layers} layers (ResNet "
        f"{model['variant']}, bottleneck blocks by stage {listing(model['stage_sizes'])}, width "
        f"{model['width']}) {attention}; its input is an RGB image of {width} x {height} pixels, "
        "its output one logit for malignant"
    )


def _module_name(module: str) -> str:
    """Returns the class of a module of this project, or the name of a user's module."""
    known = None if ":" in module else attention.find(module)
    return f"{known.__name__} ('{module}')" if known else f"'{module}'"


def initial_weights(study: Study) -> str:
    """Describes the weights before training, with source and licence."""
    facts = study.first.weights
    name = study.setting("model.pretrained")
    if name == "none":
        return sentence("the weights were initialised at random")
    if facts is None:
        return sentence(f"training started from the weights '{name}', whose source is {ABSENT}")
    details = [
        f"{label} {facts[field] or 'not recorded'}"
        for field, label in (("source", "source"), ("licence", "licence"), ("sha256", "SHA-256"))
    ]
    if facts.get("non_commercial"):
        details.append(f"for non-commercial use only: {facts.get('licence_url', '')}")
    text = sentence(f"training started from the weights '{facts['name']}' ({', '.join(details)})")
    if not facts.get("assumed"):
        return text
    assumed = "; ".join(facts["assumed"])
    return f"{text} {sentence(f'no file states the following, which was assumed: {assumed}')}"


def balancing(study: Study) -> str:
    """Describes the balancing of the classes, with the numbers where recorded."""
    if study.setting("split.protocol") == "source":
        number = sum(map(is_synthetic, study.first.rows))
        return sentence(
            f"the classes were balanced by {_BALANCING['smote']} before the division, with "
            f"{plural(number, 'synthetic image')}"
        )
    method = study.setting("balance.method")
    if method == "none":
        return sentence("the classes were not balanced")
    if method == "class_weights":
        return sentence("the loss of an image was weighted by the inverse frequency of its class")
    within = study.setting("balance.within_magnification")
    where = ", within each magnification" if within and study.scales else ""
    if method == "oversample":
        text = f"training images of the rarer class were repeated at random{where}"
    elif method in _BLENDING:
        text = (
            f"the training set was balanced by {_BALANCING[method]}: synthetic images are blends "
            f"of a training image of the rarer class with one of its "
            f"{recorded(study.setting('balance.k_neighbors'))} nearest neighbours by "
            f"{recorded(study.setting('balance.features'))}{where}"
        )
    else:
        text = f"the training set was balanced by the method '{method}'"
    return f"{sentence(text)} {plan_sizes(study)}"


def plan_sizes(study: Study) -> str:
    """States the rows of a balanced training epoch, if the run recorded them."""
    plans = [training.data.get("plan") for training in study.trainings]
    found = [plan for plan in plans if isinstance(plan, dict)]
    if len(found) < len(plans):
        return sentence(f"the number of synthetic or repeated images is {ABSENT}")
    by_class = listing(f"{span(plan[name] for plan in found)} {name}" for name in CLASS_NAMES)
    return sentence(
        f"an epoch had {span(plan['benign'] + plan['malignant'] for plan in found)} images "
        f"({by_class}), {span(plan['synthetic'] for plan in found)} of them synthetic"
    )


def augmentation(study: Study) -> str:
    """Describes the random changes of training images."""
    changes = list(_changes(study))
    if not changes:
        return sentence("training images were not augmented")
    text = f"training images were changed at random by {listing(changes)}"
    if study.setting("split.protocol") == "source":
        text += ", once and before the division"
    return sentence(text)


def _changes(study: Study) -> Iterator[str]:
    def value(name: str) -> Any:
        return study.setting(f"augment.{name}")

    if value("flip"):
        yield "mirroring"
    if value("rotate"):
        yield "rotation by right angles"
    for name, text in (
        ("translate", "shifts of up to {} of the side"),
        ("zoom", "zoom of up to {}"),
        ("stain", "changes of the stain strength of up to {}"),
        ("brightness", "changes of the brightness of up to {} of the range"),
        ("contrast", "changes of the contrast of up to {}"),
    ):
        if value(name):
            yield text.format(per_cent(value(name)))
    for name in ("mixup", "cutmix"):
        if value(name):
            yield f"{name} (alpha {value(name)})"


def loss(study: Study) -> str:
    """Describes the loss."""
    parts = []
    if study.setting("loss.label_smoothing"):
        parts.append(f"label smoothing {study.setting('loss.label_smoothing')}")
    if study.setting("loss.focal_gamma"):
        parts.append(f"focal exponent {study.setting('loss.focal_gamma')}")
    return sentence(
        "the loss was binary cross-entropy" + (f" with {listing(parts)}" if parts else "")
    )


def optimiser(study: Study) -> str:
    """Describes optimiser, schedule, batches, epochs and seed."""

    def value(name: str) -> Any:
        return study.setting(f"optim.{name}")

    decay = value("weight_decay")
    start = (
        f"the network was trained for {plural(study.setting('epochs'), 'epoch')} by "
        f"{'AdamW' if decay else 'Adam'} with "
    )
    parts = [
        f"a learning rate of {recorded(value('learning_rate'))} ({recorded(value('schedule'))})",
        f"batches of {study.setting('batch_size')} images",
        f"seed {study.setting('seed')}",
    ]
    for name, text in (
        ("weight_decay", "a weight decay of {}"),
        ("warmup_epochs", "a warm-up over {} epochs"),
        ("head_epochs", "only the head trained in the first {} epochs"),
        ("clip_norm", "gradients clipped to norm {}"),
        ("ema_decay", "averaged weights (decay {})"),
        ("rules", "the learning-rate multipliers '{}'"),
    ):
        if value(name):
            parts.append(text.format(value(name)))
    if (value("accumulate") or 1) != 1:
        parts.append(f"gradients accumulated over {value('accumulate')} parts of a batch")
    if (value("layer_decay") or 1) != 1:
        parts.append(f"learning rate multiplied by {value('layer_decay')} from part to part")
    for name, text in (
        ("model.dropout", "dropout {} before the head"),
        ("early_stopping.metric", "early stopping by {}"),
    ):
        if study.setting(name):
            parts.append(text.format(study.setting(name)))
    if study.setting("early_stopping.metric"):
        parts.append(f"patience {recorded(study.setting('early_stopping.patience'))} epochs")
    if study.setting("model.batch_norm") == "frozen":
        parts.append("batch normalisation by running statistics")
    if study.setting("model.dtype") not in (None, "float32"):
        parts.append(f"features in {study.setting('model.dtype')}")
    return sentence(start + listing(parts))


def checkpoint(study: Study) -> str:
    """Describes the choice of the evaluated weights."""
    choice = study.setting("checkpoint.choose")
    rule = (
        "the weights at the end of training were evaluated"
        if choice == "last"
        else "of all epochs, the weights with the highest validation ROC AUC were evaluated (of "
        "equal values, those with the lowest validation loss)"
    )
    return sentence(f"{rule}: {_evaluated_steps(study)}")


def _evaluated_steps(study: Study) -> str:
    """Returns steps, epochs and validation scores of the evaluated weights, as ranges over folds.

    Epochs and scores come from the log, which can lack them.
    """
    trainings = study.trainings
    text = (
        f"step {span(training.step for training in trainings)} of "
        f"{span(training.last_step for training in trainings)}"
    )
    epochs = [training.epoch for training in trainings if training.epoch is not None]
    if len(epochs) == len(trainings):
        text += f", epoch {span(round(epoch) for epoch in epochs)} of {study.setting('epochs')}"
    scores = [t.validation_auc for t in trainings if t.validation_auc is not None]
    if len(scores) == len(trainings):
        low, high = f"{min(scores):.3f}", f"{max(scores):.3f}"
        text += f", validation ROC AUC {low}" + ("" if low == high else f" to {high}")
    return text + (f" in {len(trainings)} folds" if study.is_cross_validation else "")


def software(study: Study) -> str:
    """States versions of the software and the hardware, if the run recorded them."""
    records = [training.run.software() for training in study.trainings]
    starts = [start for record in records for start in record or ()]
    if not starts or not all(records):
        return sentence(f"software versions and hardware are {ABSENT}")
    texts = dict.fromkeys(_start_text(start) for start in starts)
    return sentence(f"training ran on {'; '.join(texts)}")


def _start_text(start: dict[str, Any]) -> str:
    packages = listing(f"{name} {version}" for name, version in sorted(start["packages"].items()))
    return (
        f"Python {start['python']} with {packages}, on {listing(start['devices'])} "
        f"({start['system']}, {plural(start['cpus'], 'CPU core')})"
    )
