"""The page ``predictions.html``: every image with its call, probabilities and overlay."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from se_resnet.metrics.decision import Decision
from se_resnet.predict.image_files import OVERLAYS
from se_resnet.predict.inference import NOTICE, Prediction
from se_resnet.predict.pictures import overlay_name
from se_resnet.predict.views import MAP
from se_resnet.report.theme import stylesheet
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
        stylesheet=stylesheet(),
        name=name,
        notice=NOTICE,
        cards=[
            _card(prediction, decision, path.parent if overlays else None)
            for prediction in _sorted(predictions)
        ],
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


def _card(prediction: Prediction, decision: Decision, folder: Path | None) -> dict[str, object]:
    """Returns the prediction, the addresses of its pictures, and the class that they explain.

    Args:
        prediction: of an image.
        decision: threshold that was used.
        folder: folder of the page; None if no pictures were written.
    """
    names = []
    if folder:
        names = [overlay_name(prediction.file)]
        if (prediction.tiles or 1) > 1:
            names.append(overlay_name(prediction.file, MAP))
    # The class on this side of the threshold, also where the call is withheld.
    explained = decision.call(prediction.probability)
    return {
        "prediction": prediction,
        "evidence": explained,
        "pictures": [_picture(folder / OVERLAYS / name, name) for name in names if folder],
    }


def _picture(path: Path, name: str) -> dict[str, object]:
    """Returns the address of a PNG file, and its size, so that a page keeps its place free."""
    with path.open("rb") as file:
        width, height = struct.unpack(">16xII", file.read(24))  # signature, then the header IHDR
    # A file name may be invalid UTF-8, and may hold characters that addresses reserve.
    return {
        "address": quote(os.fsencode(f"{OVERLAYS}/{name}")),
        "width": width,
        "height": height,
    }
