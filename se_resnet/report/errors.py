"""The misclassified images of an evaluation, at the threshold that predictions of the run use."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.misclassified import misclassified
from se_resnet.metrics.predictions import Predictions

LISTED = 100  # rows; predictions.csv has all


def list_errors(predictions: Predictions, thresholds: np.ndarray) -> dict[str, Any]:
    """Lists the misclassified images, the most confident errors first.

    Args:
        predictions: N images.
        thresholds: ``float64 [N]``, the minimum probability of an image that is predicted
            malignant, see :func:`se_resnet.metrics.full.used_thresholds`.

    Returns:
        ``missed`` (malignant images predicted benign), ``false_alarms`` (the reverse), and ``rows``
        of the first 100 errors with ``file``, ``accession``, ``magnification``, ``fold``,
        ``truth``, ``prediction``, ``probability`` and ``threshold``.
    """
    order = misclassified(predictions, thresholds)
    missed = predictions.label[order] == 1
    return {
        "missed": int(missed.sum()),
        "false_alarms": int((~missed).sum()),
        "rows": [
            {
                "file": str(predictions.file[i]),
                "accession": str(predictions.accession[i]),
                "magnification": int(predictions.magnification[i]),
                "fold": int(predictions.fold[i]),
                "truth": CLASS_NAMES[predictions.label[i]],
                "prediction": CLASS_NAMES[1 - predictions.label[i]],
                "probability": float(predictions.probability[i]),
                "threshold": float(thresholds[i]),
            }
            for i in order[:LISTED].tolist()
        ],
    }
