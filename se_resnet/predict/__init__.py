"""Predictions for new images: ``python -m se_resnet.predict``.

``folder``: predicts the images of a folder and writes tables and overlays. ``inference``: images of
the network's size.

``predictor``: a trained network for images in memory, the Python API. ``tta``: the mean logit over
several views of an image. ``image_files``: the images at a path. ``patients``: patients in file
names and predictions by patient. ``provenance``: how a network was trained and tested.

A new column of the command's predictions.csv goes to ``__main__``. Imports :mod:`se_resnet.runs`,
:mod:`se_resnet.explain` and what those import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from se_resnet.images.decode import read_image
    from se_resnet.predict.predictor import Predictor, load_run

__all__ = ["Predictor", "load_run", "read_image"]
__getattr__ = lazy_names(
    __name__,
    {
        "Predictor": "se_resnet.predict.predictor",
        "load_run": "se_resnet.predict.predictor",
        "read_image": "se_resnet.images.decode",
    },
)
