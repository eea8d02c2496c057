"""The README.md of a model package, in the form that the Hugging Face Hub indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se_resnet.images.scale import scale_of_facts
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.full import at_used_threshold
from se_resnet.report.remarks import chosen_on_validation
from se_resnet.report.report import split_columns
from se_resnet.runs.image_source import ImageSource
from se_resnet.runtime.templates import render
from se_resnet.weights import hub

# Headline metrics, with their titles and the Hub's names.
_INDEXED = {
    "image_accuracy": ("Image accuracy", "accuracy"),
    "image_balanced_accuracy": ("Image balanced accuracy", "balanced_accuracy"),
    "image_roc_auc": ("Image ROC AUC", "roc_auc"),
    "patient_recognition_rate": ("Patient recognition rate", "patient_recognition_rate"),
    "patient_accuracy": ("Patient accuracy, mean probability", "accuracy"),
    "patient_roc_auc": ("Patient ROC AUC, mean probability", "roc_auc"),
}


def write_card(facts: Mapping[str, Any], naming: str, architecture: str = "") -> str:
    """Returns the model card of a package.

    Args:
        facts: result of :func:`se_resnet.package.config.describe`.
        naming: naming of the tensors, ``'se_resnet'`` or ``'timm'``.
        architecture: timm's name of the network.

    Returns:
        Markdown that begins with the Hub's metadata in YAML.
    """
    metrics = facts["history"]["metrics"]
    estimates = headline(at_used_threshold(metrics)) if metrics else {}
    source = ImageSource.from_facts(facts["history"]["data"])
    chosen_by = Decision(**facts["decision"]).describe()
    text = render(
        "se_resnet.package",
        "model_card.md.j2",
        {"estimate": _estimate, "cell": _cell},
        autoescape=False,  # the output is Markdown
        **{"members": 0, **facts, "scale": scale_of_facts(facts.get("scale"))},
        source=source,
        class_labels=source.explain_classes(),
        split_columns=split_columns(facts["history"]["data"]["split"], source),
        naming=naming,
        architecture=architecture,
        estimates=estimates,
        chosen_by=chosen_by,
        chosen=chosen_on_validation(facts["history"]["config"], facts["decision"]),
        titles={name: title for name, (title, _) in _INDEXED.items()},
    )
    return f"---\n{_front_matter(facts, naming, estimates)}\n---\n\n{text}"


def _front_matter(facts: Mapping[str, Any], naming: str, estimates: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # takes a second

    source = ImageSource.from_facts(facts["history"]["data"])
    split = facts["history"]["config"]["split"]
    protocol = " ".join(filter(None, (split["protocol"], split.get("name"))))
    weights = facts["history"]["config"]["model"]["pretrained"]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="breakhis" if source.is_breakhis else "own-images",
            dataset_name=f"{source.name}, protocol {protocol}",
            dataset_split="test",
            metric_type=_INDEXED[name][1],
            metric_name=_INDEXED[name][0],
            metric_value=round(estimate["value"], 4),
        )
        for name, estimate in estimates.items()
        if estimate["value"] is not None
    ]
    licence = facts["licence"]
    has_no_identifier = licence.startswith("LicenseRef-")
    return ModelCardData(
        license="other" if has_no_identifier else licence.lower(),
        license_name=licence.removeprefix("LicenseRef-") if has_no_identifier else None,
        license_link=(facts["history"]["weights"] or {}).get("licence_url")
        if has_no_identifier
        else None,
        library_name=naming,
        pipeline_tag="image-classification",
        tags=[
            "histology",
            *(("breast-cancer", "breakhis") if source.is_breakhis else ()),
            "resnet",
            "squeeze-and-excitation",
        ],
        base_model=weights if weights in hub.KNOWN else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=facts["name"],
        eval_results=results or None,
    ).to_yaml()


def _estimate(estimate: Mapping[str, Any]) -> str:
    """Returns an estimate and its interval as text."""
    if estimate["value"] is None:
        return f"undefined ({estimate['reason']})"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} (no interval: {estimate['reason']})"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f}–{estimate['high']:.3f})"


def _cell(value: Any) -> str:
    """Returns the text in one line and without the separator of cells."""
    return " ".join(str(value).split()).replace("|", "\\|")
