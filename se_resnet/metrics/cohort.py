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

    def patients_by_fold(self, by_image: bool) -> np.ndarray:
        """Counts the benign and the malignant patients of each fold: ``int [F, 2]``.

        Where a patient is in several folds, which then are no independent samples, all patients
        count as one fold.

        Args:
            by_image: true to count patients with benign and patients with malignant images; false
                to count each patient once, by :attr:`malignant`.
        """
        seen = np.zeros((int(self.fold.max()) + 1, len(self)), int)
        seen[self.fold, self.group] = 1
        if (seen.sum(axis=0) > 1).any():
            seen = np.ones((1, len(self)), int)
        benign = self.images[:, 0] > 0 if by_image else ~self.malignant
        return np.stack([seen @ benign, seen @ self.malignant], axis=1)
