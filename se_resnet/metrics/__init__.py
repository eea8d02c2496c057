"""Metrics of a set of predictions, per image and per patient, each with an interval.

``predictions``: the table ``predictions.csv``. ``labels``: classes and magnifications.
``evaluation``: metrics of a set of predictions. ``full``: all metrics of ``metrics.json``.
``binary``: metrics of binary classification, vectorised over weightings; ``ranking``: their
cumulative sums. ``cohort``: the patients, and the sample without each. ``intervals``: formulas of
95 % intervals. ``estimates``: a metric with its interval. ``levels``: all metrics of images and
patients. ``agreement``: calls for a patient over magnifications. ``permutation``: p-values.
``curves``: ROC and precision-recall. ``calibration``, ``calibration_line`` (intercept and slope),
``decision`` (threshold and temperature), ``misclassified`` (errors), ``selective`` (risk and
coverage). ``comparison``: two runs on the same images, for ``python -m se_resnet.metrics compare
RUN_A RUN_B``; ``seeds``: several repeats of a run, ``paired_repeats``: those of two runs.
``clinical``: predictive values, operating points, decision curve. ``sample_size``: numbers of
patients, for ``python -m se_resnet.metrics patients``. ``simulation``: images of patients with a
known AUC. ``options``: the command line.

This package uses NumPy and SciPy, not JAX, and reads and writes CSV files only. A new metric of
images or patients goes to ``binary``. Imports :mod:`se_resnet.errors` and :mod:`se_resnet.runtime`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from se_resnet.metrics.evaluation import HEADLINE, evaluate, headline

__all__ = ["HEADLINE", "evaluate", "headline"]
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "se_resnet.metrics.evaluation"))
