"""A logistic regression on features, with its regularisation chosen among its training patients."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from data.protocols.roles import mark_fold
from data.records import Records

# Candidates for the prior variance of the logit. With D standardised features, scikit-learn's C is
# the prior variance of a coefficient, so that the logit has the prior variance C x D.
VARIANCES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
USUAL = 1.0  # the variance where none can be chosen
PARTS = 5  # of the inner cross-validation, where there are as many patients of each class
_STEPS = 1000  # most iterations of a fit


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Standardised features in a basis of the training images.

    The coefficients of a penalised linear model are in the span of its training images (representer
    theorem, Schölkopf et al. 2001). In an orthonormal basis of the span, the model and its penalty
    are the same, with at most as many inputs as training images.

    Attributes:
        scaler: standardises the features over the training images.
        basis: ``float64 [D, R]``, orthonormal columns, R = min(N, D).
    """

    scaler: StandardScaler
    basis: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Inputs:
        """Fits both to the features of N training images, ``float32 [N, D]``."""
        scaler = StandardScaler()
        standardised = scaler.fit_transform(features.astype(np.float64))
        return cls(scaler, np.linalg.qr(standardised.T)[0])

    def of(self, features: np.ndarray) -> np.ndarray:
        """Returns the inputs of the model, ``float64 [M, R]``, of ``float32 [M, D]``."""
        return self.scaler.transform(features.astype(np.float64)) @ self.basis


@dataclasses.dataclass(frozen=True)
class Head:
    """A trained head.

    Attributes:
        variance: chosen prior variance of the logit.
        losses: mean log loss of the inner held-out images in nats, by variance; empty where none
            was chosen.
        parts: number of parts of the inner cross-validation.
        patients: number of training patients.
        images: number of training images.
        inputs: maps features to the inputs of the regression.
        regression: the logistic regression.
    """

    variance: float
    losses: dict[float, float]
    parts: int
    patients: int
    images: int
    inputs: Inputs
    regression: LogisticRegression

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Returns the probabilities of malignant of ``float32 [M, D]``: ``float64 [M]``."""
        return self.regression.predict_proba(self.inputs.of(features))[:, 1]

    def facts(self) -> dict[str, Any]:
        """Returns the choice as JSON values."""
        return {
            "variance": self.variance,
            "losses": {f"{variance:g}": loss for variance, loss in self.losses.items()},
            "parts": self.parts,
            "patients": self.patients,
            "images": self.images,
        }

    def describe(self) -> str:
        """Returns a sentence about the choice."""
        trained = (
            f"A logistic regression was trained on the features of {self.images:,} images of "
            f"{self.patients:,} patients. "
        )
        if not self.losses:
            return trained + (
                "They have fewer than 2 patients of a class, which cannot choose the "
                f"regularisation: the prior variance of the logit is {self.variance:g}."
            )
        return trained + (
            f"Of {len(self.losses)} prior variances of the logit, {self.variance:g} has the least "
            f"log loss in {self.parts}-fold cross-validation over these patients."
        )


def fit_head(records: Records, features: np.ndarray, seed: int) -> Head:
    """Trains a head, with the regularisation that is best for held-out training patients.

    The features are standardised over the training images. The penalty is the squared norm of the
    coefficients (ridge, le Cessie and van Houwelingen 1992). Its strength has the least mean log
    loss over the images of an inner cross-validation, which divides the patients. Of equally good
    strengths the strongest penalty is chosen.

    Args:
        records: N training images, of both classes.
        features: ``float32 [N, D]``.
        seed: of the division of the patients.
    """
    parts = _number_of_parts(records)
    losses = _losses(records, features, parts, seed) if parts else {}
    variance = min(losses, key=losses.__getitem__) if losses else USUAL
    inputs, regression = Inputs.fit(features), _regression()
    _fit(regression, inputs.of(features), records.label, variance / features.shape[1])
    patients = len(set(records.accession.tolist()))
    return Head(variance, losses, parts, patients, len(records), inputs, regression)


def _number_of_parts(records: Records) -> int:
    """Returns the number of parts of the inner cross-validation; 0 where it is not possible."""
    malignant = {*records.accession[records.label == 1].tolist()}
    benign = {*records.accession[records.label == 0].tolist()} - malignant
    fewest = min(len(benign), len(malignant))
    return min(fewest, PARTS) if fewest > 1 else 0


def _losses(records: Records, features: np.ndarray, parts: int, seed: int) -> dict[float, float]:
    sums = dict.fromkeys(VARIANCES, 0.0)
    for part in range(parts):
        held_out = mark_fold(records, parts, part, seed, True, "the number of inner parts")
        trained, label = features[~held_out], records.label[~held_out]
        inputs, regression = Inputs.fit(trained), _regression()
        inner, tested = inputs.of(trained), inputs.of(features[held_out])
        sign = 2 * records.label[held_out] - 1
        for variance in VARIANCES:  # from the strongest penalty, each fit starts at the one before
            _fit(regression, inner, label, variance / features.shape[1])
            logit = regression.decision_function(tested)
            sums[variance] += float(np.logaddexp(0, -sign * logit).sum())
    return {variance: total / len(records) for variance, total in sums.items()}


def _regression() -> LogisticRegression:
    return LogisticRegression(solver="newton-cholesky", max_iter=_STEPS, warm_start=True)


def _fit(
    regression: LogisticRegression, inputs: np.ndarray, label: np.ndarray, strength: float
) -> None:
    """Fits the regression, from its coefficients of the fit before, if there was one."""
    regression.set_params(C=strength)
    regression.fit(inputs, label)
