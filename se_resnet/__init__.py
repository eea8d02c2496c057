"""SE-ResNet50 in JAX/Flax: everything that computes on arrays.

Importing this package imports neither TensorFlow nor the data room, and what takes seconds, JAX,
only at the first use of a name below::

    model = se_resnet.load_run("runs/breakhis")
    probability = model.predict(["image.png"])
    se_resnet.save_pretrained(model, "package")
    model = se_resnet.from_pretrained("package")

``se_resnet.__version__`` is the version, ``python -m se_resnet`` lists the commands, and
``se_resnet.load_data`` loads images also where another package ``data`` hides :mod:`data`.
"""

from __future__ import annotations

from se_resnet.runtime import early_exit

early_exit.begin()  # before the imports that take time

import os  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from se_resnet.runtime.lazy import lazy_names  # noqa: E402

if TYPE_CHECKING:
    from se_resnet.errors import UserError
    from se_resnet.models.resnet import create_model
    from se_resnet.package.save_load import from_pretrained, save_pretrained
    from se_resnet.predict.predictor import Predictor, load_run
    from se_resnet.runtime.data_package import load_data
    from se_resnet.runtime.version import __version__
    from se_resnet.weights import pretrained as pretrained

# OpenCV reads it once, when it is imported, and aborts where it is no number. Its own limit lets a
# file of a few kilobytes take 8 GB.
PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
if not os.environ.get(PIXEL_LIMIT, "").isdecimal():
    os.environ[PIXEL_LIMIT] = str(8192 * 8192)

__all__ = [
    "Predictor",
    "UserError",
    "__version__",
    "create_model",
    "from_pretrained",
    "load_data",
    "load_run",
    "save_pretrained",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Predictor": "se_resnet.predict.predictor",
        "UserError": "se_resnet.errors",
        "__version__": "se_resnet.runtime.version",
        "create_model": "se_resnet.models.resnet",
        "from_pretrained": "se_resnet.package.save_load",
        "load_data": "se_resnet.runtime.data_package",
        "load_run": "se_resnet.predict.predictor",
        "pretrained": "se_resnet.weights.pretrained",
        "save_pretrained": "se_resnet.package.save_load",
    },
)
