"""The page ``predictions.html``: every image with its call, probabilities and overlay."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from se_resnet.metrics.decision import Decision
from se_resnet.predict.image_files import OVERLAYS
from se_resnet.predict.inference import NOTICE, Prediction
from se_resnet.predict.pictures import overlay_name
from se_resnet.predict.views import MAP
from se_resnet.runtime.templates import render, write_text

SHEET = "predictions.html"
_MARK = b'<meta name="generator" content="se_resnet.predict">'


def write_sheet(
    path: Path,
    name: str,
    predictions: Sequence[Prediction],
    decision: Decision,
    notes: Sequence[str],
    overlays: bool,
) -> None:
    """Writes the contact sheet, a page without scripts that shows the pictures in ``overlays``.

    Args:
        path: of the page, beside the folder ``overlays``.
        name: name of the run.
        predictions: of all images; the most probably malignant image is shown first.
        decision: threshold and temperature that were used.
        notes: remarks on the prediction.
        overlays: True if the pictures were written.
    """
    html = render(
        "se_resnet.predict",
        "predictions.html.j2",
        {},
        name=name,
        notice=NOTICE,
        cards=[_card(prediction, overlays) for prediction in _sorted(predictions)],
        decision=decision,
        notes=notes,
    )
    write_text(path, html)


def is_sheet(path: Path) -> bool:
    """Returns True if a prediction wrote this page."""
    with path.open("rb") as file:
        return _MARK in file.read(4096)


def _sorted(predictions: Sequence[Prediction]) -> list[Prediction]:
    return sorted(predictions, key=lambda prediction: -prediction.probability)


def _card(prediction: Prediction, overlays: bool) -> dict[str, object]:
    """Returns the prediction and the addresses of its pictures."""
    names = []
    if overlays:
        names = [overlay_name(prediction.file)]
        if (prediction.tiles or 1) > 1:
            names.append(overlay_name(prediction.file, MAP))
    return {
        "prediction": prediction,
        # A file name may be invalid UTF-8, and may hold characters that addresses reserve.
        "pictures": [quote(os.fsencode(f"{OVERLAYS}/{name}")) for name in names],
    }
