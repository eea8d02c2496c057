"""Images, their records, splits, class balance and batches; no network.

``dataset``: from a path to decoded images with records. ``records``: the table that describes
images. ``cache``: every image decoded once into one memory-mapped array. ``balance``: class balance
as a plan. ``image_neighbours``: the neighbour search of SMOTE. ``disk``: free space. ``scales``:
the scales of images, and images at the scale of a network. ``run_data``: the images and roles of a
run. ``load_images``: :func:`data.load`, images with their roles in one call. ``spread``: the
command that prepares on Apache Beam. Packages: ``breakhis`` (names, files, preparation),
``protocols`` (splits and their audit), ``feed`` (batches), ``reference`` (of the input gate).

Imports ``se_resnet`` up to ``se_resnet.runs``. Only :mod:`data.breakhis.builder`,
:mod:`data.breakhis.preparation`, :mod:`data.feed.host` and :mod:`data.protocols.source_notebook`
import TensorFlow.
"""

from __future__ import annotations

import se_resnet  # noqa: F401  first: handles Ctrl-C, sets limits of OpenCV before its import

# isort: split
import os
from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from data.load_images import SplitImages, load

# TensorFlow reads these at its import. It only reads records and feeds batches here, so its
# start-up messages do not help the user. The message about oneDNN ignores the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

__all__ = ["SplitImages", "load"]
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "data.load_images"))
