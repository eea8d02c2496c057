"""The patients of a set of predictions: groups of images, and the sample without each patient."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from se_resnet.metrics.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Cohort:
    """The G patients of N images.

    Attributes:
        accession: ``str [G]``, sorted.
        group: ``int [N]`` in [0, G), the patient of each image.
        images: ``float64 [G, 2]``, benign and malignant images of each patient.
        fold: ``int [N]`` in [0, F), the fold whose network predicted the image.
    """

    accession: np.ndarray
    group: np.ndarray
    images: np.ndarray
    fold: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions) -> Cohort:
        """Groups the images by accession."""
        accession, group = np.unique(predictions.accession, return_inverse=True)
        images = np.stack(
            [
                np.bincount(group, predictions.label == label, minlength=len(accession))
                for label in (0, 1)
            ],
            axis=1,
        ).astype(float)
        fold = np.unique(predictions.fold, return_inverse=True)[1]
        return cls(accession, group, images, fold)

    def __len__(self) -> int:
        return len(self.accession)

    @property
    def malignant(self) -> np.ndarray:
        """``bool [G]``, true where any image of the patient is malignant."""
        return self.images[:, 1] > 0

    @cached_property
    def weights(self) -> np.ndarray:
        """``float64 [1 + G, G]``: all patients, then all but the first, all but the second, ..."""
        return np.vstack([np.ones((1, len(self))), 1 - np.eye(len(self))])
