"""The README.md of a model package, as the Hugging Face Hub shows and indexes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se_resnet.metrics.evaluation import headline
from se_resnet.runtime.templates import render
from se_resnet.weights import hub

# Where metrics.json holds a figure, and what the Hub calls it.
_INDEXED = {
    "image_accuracy": ("Image accuracy", "accuracy"),
    "image_balanced_accuracy": ("Image balanced accuracy", "balanced_accuracy"),
    "image_roc_auc": ("Image ROC AUC", "roc_auc"),
    "patient_recognition_rate": ("Patient recognition rate", "patient_recognition_rate"),
    "patient_accuracy": ("Patient accuracy, mean probability", "accuracy"),
    "patient_roc_auc": ("Patient ROC AUC, mean probability", "roc_auc"),
}


def write_card(facts: Mapping[str, Any], naming: str, architecture: str = "") -> str:
    """The model card of a package.

    Args:
        facts: of :func:`se_resnet.package.config.describe`.
        naming: of the tensors, ``'se_resnet'`` or ``'timm'``.
        architecture: what timm calls the network.

    Returns:
        Markdown with the Hub's metadata as YAML in front.
    """
    metrics = facts["history"]["metrics"]
    figures = headline(metrics) if metrics else {}
    text = render(
        "se_resnet.package",
        "model_card.md.j2",
        {"figure": _figure, "cell": _cell},
        autoescape=False,  # it is Markdown
        **facts,
        naming=naming,
        architecture=architecture,
        figures=figures,
        titles={name: title for name, (title, _) in _INDEXED.items()},
    )
    return f"---\n{_front_matter(facts, naming, figures)}\n---\n\n{text}"


def _front_matter(facts: Mapping[str, Any], naming: str, figures: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # takes a second

    protocol = facts["history"]["config"]["split"]["protocol"]
    started = facts["history"]["config"]["model"]["pretrained"]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="breakhis",
            dataset_name=f"BreaKHis, protocol {protocol}",
            dataset_split="test",
            metric_type=_INDEXED[name][1],
            metric_name=_INDEXED[name][0],
            metric_value=round(figure["value"], 4),
        )
        for name, figure in figures.items()
        if figure["value"] is not None
    ]
    return ModelCardData(
        license=facts["licence"].lower(),
        library_name=naming,
        pipeline_tag="image-classification",
        tags=["histology", "breast-cancer", "breakhis", "resnet", "squeeze-and-excitation"],
        base_model=started if started in hub.KNOWN else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=facts["name"],
        eval_results=results or None,
    ).to_yaml()


def _figure(figure: Mapping[str, Any]) -> str:
    """A figure with its interval."""
    if figure["value"] is None:
        return f"undefined ({figure['reason']})"
    if figure["low"] is None:
        return f"{figure['value']:.3f} (no interval: {figure['reason']})"
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def _cell(value: Any) -> str:
    """Text that does not end a table's cell or its line."""
    return " ".join(str(value).split()).replace("|", "\\|")
