"""Metrics of a set of predictions, per image and per patient, each with an interval.

``predictions``: the table ``predictions.csv``. ``labels``: classes and magnifications.
``evaluation``: metrics of one set of predictions; ``full``: all of ``metrics.json``. ``binary``:
metrics of two classes, vectorised over weightings. ``bootstrap`` and ``resampled``: resamples of
patients and the metrics under each. ``curves``: ROC and precision-recall. ``calibration``,
``decision`` (threshold and temperature), ``selective`` (risk and coverage). ``comparison``: two
runs on the same images; ``python -m se_resnet.metrics compare RUN_A RUN_B``.

NumPy only: no JAX, no files but CSV. A new metric of images or patients goes to ``binary``.
Imports :mod:`se_resnet.errors` and :mod:`se_resnet.runtime`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from se_resnet.metrics.evaluation import HEADLINE, evaluate, headline

__all__ = ["HEADLINE", "evaluate", "headline"]
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "se_resnet.metrics.evaluation"))
