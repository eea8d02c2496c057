"""Strip plots of patients: one line per patient, one mark per image at its probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions

HEIGHT = 24  # pixels; the page sets the width
_MARGIN = 4
# Multiples of the golden ratio spread evenly for any number of images. Marks of similar
# probability therefore do not overlap.
_GOLDEN = 0.618034


def patient_groups(
    predictions: Predictions, patients: list[dict[str, Any]], threshold: float | np.ndarray
) -> list[dict[str, Any]]:
    """Groups the patients by class, sorted by rising mean probability.

    Args:
        predictions: predictions of the images.
        patients: ``metrics["patient"]["patients"]`` of these images.
        threshold: minimum probability of an image that is predicted malignant, or one for each
            image, ``float64 [N]``. A patient gets the lowest of its images.

    Returns:
        For each class with a patient its ``name``, ``label`` and ``patients``. These are the rows
        of the argument with two more entries: ``strip``, an SVG element that uses the symbols
        ``dot``, ``cross`` and ``mean`` of the page, and ``right``, true if the mean probability
        predicts the class of the patient.
    """
    names, group = np.unique(predictions.accession, return_inverse=True)
    index_of = dict(zip(names.tolist(), range(len(names)), strict=True))
    order = np.lexsort((predictions.probability, group))
    bounds = np.searchsorted(group[order], np.arange(len(names) + 1))
    thresholds = np.broadcast_to(np.asarray(threshold, float), len(predictions))
    wrong = (predictions.probability >= thresholds) != (predictions.label == 1)
    groups: list[dict[str, Any]] = [
        {"name": name, "label": label, "patients": []} for label, name in enumerate(CLASS_NAMES)
    ]
    for row in sorted(patients, key=lambda row: (row["mean_probability"], row["accession"])):
        k = index_of[row["accession"]]
        images = order[bounds[k] : bounds[k + 1]]
        lowest = float(thresholds[images].min())
        strip = _strip(
            predictions.probability[images], wrong[images], row["mean_probability"], lowest
        )
        right = (row["mean_probability"] >= lowest) == (row["label"] == 1)
        groups[row["label"]]["patients"].append({**row, "strip": strip, "right": right})
    return [group for group in groups if group["patients"]]


def _strip(probability: np.ndarray, wrong: np.ndarray, mean: float, threshold: float) -> Markup:
    n = len(probability)
    relative_height = (0.5 + np.arange(n) * _GOLDEN) % 1
    y = _MARGIN + (HEIGHT - 2 * _MARGIN) * relative_height
    marks = [
        f'<use href="#{"cross" if wrong[i] else "dot"}" x="{100 * probability[i]:.4g}%"'
        f' y="{y[i]:.3g}"/>'
        # Crosses are drawn last: many dots must not hide the few errors.
        for i in np.argsort(wrong, kind="stable")
    ]
    label = f"{n} images, {int(wrong.sum())} misclassified, mean probability {mean:.3f}"
    return Markup(
        f'<svg class="strip" role="img" aria-label="{label}" height="{HEIGHT}">'
        f'<line class="axis" x1="0" x2="100%" y1="{HEIGHT / 2:g}" y2="{HEIGHT / 2:g}"/>'
        f'<line class="threshold" x1="{100 * threshold:g}%" x2="{100 * threshold:g}%" y1="-4"'
        f' y2="{HEIGHT + 4}"/>'
        f'{"".join(marks)}<use href="#mean" x="{100 * mean:.4g}%" y="{HEIGHT / 2:g}"/></svg>'
    )
