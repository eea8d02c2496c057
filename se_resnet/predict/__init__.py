"""Predictions for new images: ``python -m se_resnet.predict``.

``folder``: predicts the images of a folder and writes tables and overlays. ``predictor``: the
Python API, for images in memory. Both use ``inference``, which predicts images of the network's
size, ``tta``, which averages the logits of several views of an image, and ``tiles``, which averages
those of the tiles of an image at the network's scale. ``views``: the two ways from a decoded image
to its prediction and pictures, whole or in tiles.

``inputs``: the images of folders, files and patterns or of a table. ``image_files``: finds the
images at a path. ``ahead``: decodes files in threads while the network works. ``contact_sheet``:
the page ``predictions.html``, from ``templates/``. ``pictures``: writes the overlays, in threads.
``summary``: the lines on the screen. ``patients``: patients in file names, and predictions by
patient. ``provenance``: how a network was trained and tested.

A new column of predictions.csv is a field of ``Prediction`` in ``inference``. Imports
:mod:`se_resnet.runs`, :mod:`se_resnet.explain`, :mod:`se_resnet.weights` and their imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from se_resnet.images.decode import read_image
    from se_resnet.predict.folder import predict_folder
    from se_resnet.predict.predictor import Predictor, load_run

__all__ = ["Predictor", "load_run", "predict_folder", "read_image"]
__getattr__ = lazy_names(
    __name__,
    {
        "Predictor": "se_resnet.predict.predictor",
        "load_run": "se_resnet.predict.predictor",
        "predict_folder": "se_resnet.predict.folder",
        "read_image": "se_resnet.images.decode",
    },
)
