"""SE-ResNet50 in JAX/Flax: everything that computes on arrays.

Importing this package imports neither TensorFlow nor the data room, and what takes seconds, JAX,
only at the first use of a name below::

    model = se_resnet.load_run("runs/breakhis")
    probability = model.predict(["image.png"])
    se_resnet.save_pretrained(model, "package")
    model = se_resnet.from_pretrained("package")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from se_resnet.errors import UserError
    from se_resnet.models.resnet import create_model
    from se_resnet.package import from_pretrained, save_pretrained
    from se_resnet.predictor import Predictor, load_run

# OpenCV reads it once, when it is imported, and aborts where it is no number. Its own limit lets a
# file of a few kilobytes take 8 GB.
PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
if not os.environ.get(PIXEL_LIMIT, "").isdecimal():
    os.environ[PIXEL_LIMIT] = str(8192 * 8192)

__all__ = [
    "Predictor",
    "UserError",
    "create_model",
    "from_pretrained",
    "load_run",
    "save_pretrained",
]
_HOMES = {
    "Predictor": "predictor",
    "UserError": "errors",
    "create_model": "resnet",
    "from_pretrained": "package",
    "load_run": "predictor",
    "save_pretrained": "package",
}


def __getattr__(name: str) -> Any:
    """Imports a name of ``__all__`` at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
