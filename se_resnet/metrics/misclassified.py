"""The images that a threshold calls wrongly, in the order of confidence."""

from __future__ import annotations

import numpy as np

from se_resnet.metrics.decision import logit_distance
from se_resnet.metrics.predictions import Predictions


def misclassified(predictions: Predictions, threshold: float | np.ndarray) -> np.ndarray:
    """Returns the positions of the misclassified images, the most confident errors first.

    Args:
        predictions: N images.
        threshold: minimum probability of an image that is predicted malignant, or one for each
            image, ``float64 [N]``.

    Returns:
        ``int64 [K]``. Confidence is the distance of the logit from that of the threshold.
    """
    thresholds = np.broadcast_to(np.asarray(threshold, np.float64), len(predictions))
    called = predictions.probability >= thresholds
    wrong = np.flatnonzero(called != (predictions.label == 1))
    distance = logit_distance(predictions.probability[wrong], thresholds[wrong])
    return wrong[np.argsort(-distance, kind="stable")]
