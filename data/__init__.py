"""Everything that knows files and BreaKHis: names, validation, preparation, splits, balancing.

It imports no model. Only :mod:`data.breakhis` and :mod:`data.pipeline` import TensorFlow.
``data.load`` is :func:`data.split_images.load`, imported at its first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.split_images import SplitImages, load

__all__ = ["SplitImages", "load"]

import se_resnet  # noqa: F401  it limits what OpenCV decodes, before OpenCV is imported

# TensorFlow reads these when it is first imported. It only reads records and feeds batches here, so
# its start-up messages would tell the user nothing; the one about oneDNN ignores the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def __getattr__(name: str) -> Any:
    """Imports a name of ``__all__`` at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from data import split_images

    value = getattr(split_images, name)
    globals()[name] = value
    return value
