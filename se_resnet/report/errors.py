"""The misclassified images of an evaluation, at the threshold that predictions of the run use."""

from __future__ import annotations

from typing import Any

import numpy as np

from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.predictions import Predictions, logit_of

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
        ``truth``, ``prediction``, ``probability`` and ``threshold``. Confidence is the distance of
        the logit from that of the threshold.
    """
    predicted = predictions.probability >= thresholds
    malignant = predictions.label == 1
    wrong = np.flatnonzero(predicted != malignant)
    inside = (
        np.clip(values[wrong], 1e-12, 1 - 1e-12) for values in (predictions.probability, thresholds)
    )
    probability, threshold = map(logit_of, inside)
    order = wrong[np.argsort(-np.abs(probability - threshold), kind="stable")]
    return {
        "missed": int((malignant & ~predicted).sum()),
        "false_alarms": int((predicted & ~malignant).sum()),
        "rows": [
            {
                "file": str(predictions.file[i]),
                "accession": str(predictions.accession[i]),
                "magnification": int(predictions.magnification[i]),
                "fold": int(predictions.fold[i]),
                "truth": CLASS_NAMES[int(malignant[i])],
                "prediction": CLASS_NAMES[int(predicted[i])],
                "probability": float(predictions.probability[i]),
                "threshold": float(thresholds[i]),
            }
            for i in order[:LISTED].tolist()
        ],
    }
