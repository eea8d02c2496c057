"""Patients as strips: a line per accession, on which every image is a dot at its probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions

HEIGHT = 24  # pixels; the width is the page's to choose
_MARGIN = 4
# Multiples of the golden ratio fall evenly however many there are, so that images of similar
# probability lie apart.
_GOLDEN = 0.618034


def patient_groups(
    predictions: Predictions, patients: list[dict[str, Any]], threshold: float
) -> list[dict[str, Any]]:
    """The patients of each class, from the lowest mean probability to the highest.

    Args:
        predictions: the images.
        patients: ``metrics["patient"]["patients"]`` of these images.
        threshold: probability from which an image is called malignant.

    Returns:
        ``name`` of the class and its ``patients``: the rows as they came, each with ``strip``, an
        SVG element that refers to the symbols ``dot``, ``cross`` and ``mean`` of the page, and
        ``right``, whether the mean probability calls the patient right. A class that no patient has
        is left out.
    """
    names, owner = np.unique(predictions.accession, return_inverse=True)
    by_accession = dict(zip(names.tolist(), range(len(names)), strict=True))
    order = np.lexsort((predictions.probability, owner))
    bounds = np.searchsorted(owner[order], np.arange(len(names) + 1))
    wrong = (predictions.probability >= threshold) != (predictions.label == 1)
    groups: list[dict[str, Any]] = [
        {"name": name, "label": label, "patients": []} for label, name in enumerate(CLASS_NAMES)
    ]
    for row in sorted(patients, key=lambda row: (row["mean_probability"], row["accession"])):
        k = by_accession[row["accession"]]
        own = order[bounds[k] : bounds[k + 1]]
        strip = _strip(predictions.probability[own], wrong[own], row["mean_probability"], threshold)
        right = (row["mean_probability"] >= threshold) == (row["label"] == 1)
        groups[row["label"]]["patients"].append({**row, "strip": strip, "right": right})
    return [group for group in groups if group["patients"]]


def _strip(probability: np.ndarray, wrong: np.ndarray, mean: float, threshold: float) -> Markup:
    n = len(probability)
    spread = (0.5 + np.arange(n) * _GOLDEN) % 1
    y = _MARGIN + (HEIGHT - 2 * _MARGIN) * spread
    marks = [
        f'<use href="#{"cross" if wrong[i] else "dot"}" x="{100 * probability[i]:.4g}%"'
        f' y="{y[i]:.3g}"/>'
        # Crosses over dots: the few that are wrong must not be hidden by the many.
        for i in np.argsort(wrong, kind="stable")
    ]
    label = f"{n} images, {int(wrong.sum())} called wrong, mean probability {mean:.3f}"
    return Markup(
        f'<svg class="strip" role="img" aria-label="{label}" height="{HEIGHT}">'
        f'<line class="axis" x1="0" x2="100%" y1="{HEIGHT / 2:g}" y2="{HEIGHT / 2:g}"/>'
        f'<line class="threshold" x1="{100 * threshold:g}%" x2="{100 * threshold:g}%" y1="-4"'
        f' y2="{HEIGHT + 4}"/>'
        f'{"".join(marks)}<use href="#mean" x="{100 * mean:.4g}%" y="{HEIGHT / 2:g}"/></svg>'
    )
