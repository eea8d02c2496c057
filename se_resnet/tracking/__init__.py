"""Where the metrics of a run go while it trains.

``metric_log``: ``metrics.jsonl`` and every tracker. ``trackers``: TensorBoard, Weights & Biases and
MLflow, one class each. ``test_results``: what trackers receive of the final evaluation.
``profiling``: a trace of some training steps.

A new tracker is a class in ``trackers``. Imports :mod:`se_resnet.report` and what it imports.
"""
