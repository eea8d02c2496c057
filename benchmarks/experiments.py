"""Runs many configurations of one experiment and reads their results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import train
from se_resnet import metrics
from se_resnet.runs.run_folder import RunFolder

# Names of the metrics in `metrics.headline`, by their title in a table.
METRICS = {
    "image ROC AUC": "image_roc_auc",
    "image accuracy": "image_accuracy",
    "balanced accuracy": "image_balanced_accuracy",
    "patient recognition rate": "patient_recognition_rate",
    "patient ROC AUC": "patient_roc_auc",
}


def run_all(configs: Mapping[str, ConfigDict], workdir: Path) -> None:
    """Trains and evaluates each configuration in ``workdir/NAME``, unless it is finished."""
    for name, config in configs.items():
        if not RunFolder(workdir / name).evaluation().is_finished:
            print(f"\n=== {name}", flush=True)
            train.train_and_evaluate(config, workdir / name)


def results_of(run: Path) -> dict[str, Any] | None:
    """Returns the test metrics of a run, by the titles of ``METRICS``, and the test set.

    Returns:
        Each metric as ``{'value', 'low', 'high'}``, and the entries ``counts`` and ``audit`` of
        ``metrics.json``; None if the run is not evaluated.
    """
    results = RunFolder(run).evaluation().metrics_if_any()
    if results is None:
        return None
    headline = metrics.headline(results)
    return {
        **{title: headline[name] for title, name in METRICS.items()},
        "counts": results["counts"],
        "audit": results["audit"],
    }


def with_interval(estimate: Mapping[str, Any], sign: str = "") -> str:
    """Formats an estimate and its 95 % interval as a cell; ``sign='+'`` for differences."""
    if estimate["value"] is None:
        return "undefined"
    value, low, high = (
        None if estimate[name] is None else f"{estimate[name]:{sign}.3f}"
        for name in ("value", "low", "high")
    )
    return str(value) if low is None else f"{value} ({low}{' to ' if sign else '–'}{high})"


def tested(counts: Mapping[str, Any]) -> str:
    """Returns the numbers of tested images and patients by class."""
    images, patients = counts["images"], counts["accessions"]
    return (
        f"{images['benign']} + {images['malignant']} images, "
        f"{patients['benign']} + {patients['malignant']} patients"
    )
