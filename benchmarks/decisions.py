"""Measures what a threshold, a temperature and a checkpoint are worth that few patients choose.

    python -m benchmarks.decisions

Validation patients are simulated as in ``benchmarks/coverage.py``, with probabilities that are
calibrated and a best threshold of 0.5. A threshold is chosen for balanced accuracy, a temperature
by its likelihood, with and without drawing it towards 1. Both are then applied to a population of
new patients, where 0.5 and 1 are best. The checkpoint is the best of ten equal epochs by validation
AUC: ten networks whose predictions differ only by chance. Prints one row per number of patients.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.coverage import Cell
from benchmarks.measuring import table
from se_resnet.metrics.binary import binary_metrics
from se_resnet.metrics.calibration import fit_temperature, scale
from se_resnet.metrics.cohort import Cohort
from se_resnet.metrics.decision import choose_threshold
from se_resnet.metrics.intervals import kish
from se_resnet.metrics.predictions import Predictions, logit_of
from se_resnet.runtime.cli import exit_on_user_error

PATIENTS = ((2, 4), (4, 12), (10, 10), (10, 25), (16, 54))  # benign and malignant
EPOCHS = 10


def balanced_accuracy(predictions: Predictions, threshold: float) -> float:
    called, label = predictions.probability >= threshold, predictions.label == 1
    return float((called[label].mean() + (~called[~label]).mean()) / 2)


def loss(predictions: Predictions, temperature: float) -> float:
    """Returns the mean negative log-likelihood after temperature scaling."""
    probability = scale(predictions.probability, temperature).clip(1e-15, 1 - 1e-15)
    right = np.where(predictions.label == 1, probability, 1 - probability)
    return float(-np.log(right).mean())


def auc(predictions: Predictions) -> float:
    label, group = predictions.label == 1, np.zeros(len(predictions), int)
    columns = (label, predictions.probability, label, group, np.ones((1, 1)))
    return float(binary_metrics(*columns)["roc_auc"][0])


def measure(benign: int, malignant: int, samples: int, true_auc: float) -> dict[str, Any]:
    """Returns a row of the table."""
    cell = Cell(benign, malignant, true_auc, 0.5, "normal")
    rng = np.random.default_rng(0)
    (new,) = Cell(1, 1, true_auc, 0.5, "normal").draw(rng, scale=2000)
    at_half, uncalibrated = balanced_accuracy(new, 0.5), loss(new, 1.0)
    rows = []
    for _ in range(samples):
        epochs = cell.draw(rng, runs=EPOCHS)
        validation = epochs[0]
        threshold, _ = choose_threshold(validation.label, validation.probability)
        logit = logit_of(validation.probability.clip(1e-12, 1 - 1e-12))
        effective = float(kish(Cohort.of(validation).images.sum(axis=1)))
        free = fit_temperature(validation.label, logit)
        drawn = fit_temperature(validation.label, logit, effective)
        rows.append(
            (
                balanced_accuracy(validation, threshold),
                balanced_accuracy(new, threshold),
                free,
                loss(new, free) - uncalibrated,
                loss(new, drawn) - uncalibrated,
                max(auc(epoch) for epoch in epochs),
            )
        )
    apparent, real, free, lost, lost_drawn, best = np.array(rows).T
    low, high = np.quantile(free, (0.05, 0.95))
    return {
        "patients": f"{benign} + {malignant}",
        "balanced accuracy on validation": f"{apparent.mean():.3f}",
        "on new patients": f"{real.mean():.3f}",
        "at 0.5": f"{at_half:.3f}",
        "temperature, 90 % of the choices": f"{low:.2f} to {high:.2f}",
        "added loss": f"{lost.mean():+.3f}",
        "drawn towards 1": f"{lost_drawn.mean():+.3f}",
        f"best validation AUC of {EPOCHS} epochs": f"{best.mean():.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--auc", type=float, default=0.9, help="true AUC")
    options = parser.parse_args()
    print(table([measure(*patients, options.samples, options.auc) for patients in PATIENTS]))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
