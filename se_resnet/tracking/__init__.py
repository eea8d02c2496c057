"""The log of a training run: metrics in a file and in trackers, and a profile.

``metric_log``: ``metrics.jsonl`` and the trackers of a run. ``epoch_table``: the same as
``metrics.csv``, a row per epoch. ``trackers``: TensorBoard, Weights &
Biases and MLflow, one class each. ``test_results``: metrics and plots of the final evaluation for
the trackers. ``profiling``: a trace of some training steps.

A new tracker is a class in ``trackers``. Imports :mod:`se_resnet.report` and the packages before
it.
"""
