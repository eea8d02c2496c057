"""What the benchmarks that train share: many configurations of one experiment, and their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import train
from se_resnet import metrics
from se_resnet.runs.run_folder import RunFolder

# What a table calls the figures of `metrics.headline`.
FIGURES = {
    "image ROC AUC": "image_roc_auc",
    "image accuracy": "image_accuracy",
    "balanced accuracy": "image_balanced_accuracy",
    "patient recognition rate": "patient_recognition_rate",
    "patient ROC AUC": "patient_roc_auc",
}


def run_all(configs: Mapping[str, ConfigDict], workdir: Path) -> None:
    """Trains and evaluates each configuration in ``workdir/NAME``, but none that is finished."""
    for name, config in configs.items():
        if not RunFolder(workdir / name).evaluation().is_finished:
            print(f"\n=== {name}", flush=True)
            train.train_and_evaluate(config, workdir / name)


def results_of(run: Path) -> dict[str, Any] | None:
    """The test figures of a run, under the names of ``FIGURES``, and what was tested.

    Returns:
        Each figure as ``{'value', 'low', 'high'}``, and the entries ``counts`` and ``audit`` of
        ``metrics.json``; None where the run is not evaluated.
    """
    results = RunFolder(run).evaluation().metrics_if_any()
    if results is None:
        return None
    headline = metrics.headline(results)
    return {
        **{title: headline[name] for title, name in FIGURES.items()},
        "counts": results["counts"],
        "audit": results["audit"],
    }


def with_interval(figure: Mapping[str, Any], sign: str = "") -> str:
    """A figure and its 95 % interval as a table's cell; ``sign='+'`` for differences."""
    if figure["value"] is None:
        return "undefined"
    value, low, high = (
        None if figure[name] is None else f"{figure[name]:{sign}.3f}"
        for name in ("value", "low", "high")
    )
    return str(value) if low is None else f"{value} ({low}{' to ' if sign else '–'}{high})"


def tested(counts: Mapping[str, Any]) -> str:
    """How many benign and malignant images and patients the figures rest on."""
    images, patients = counts["images"], counts["accessions"]
    return (
        f"{images['benign']} + {images['malignant']} images, "
        f"{patients['benign']} + {patients['malignant']} patients"
    )
