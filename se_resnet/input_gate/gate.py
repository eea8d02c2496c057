"""Compares an image with the training images of a network, and names the difference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError

from se_resnet.errors import UserError
from se_resnet.input_gate.features import BLANK, FEATURES, OTHER, is_flat
from se_resnet.models.classifier import Classifier
from se_resnet.runtime.files import atomic_write, parse_json, reason
from se_resnet.runtime.schema import misfit

WITHHELD = "withheld"  # the call for an image that the gate refuses
NO_GATE = (
    "no input gate: the run keeps no reference of its training images, so images of any kind get "
    "a call; python -m data.reference --workdir=W adds the reference"
)
SHARE = 0.01  # of real images that are withheld, half by the features and half by the distance
_FORMAT = "se_resnet input reference 1"
_COMPONENTS, _NEIGHBOURS, _MOST_CODES, _SEED = 64, 5, 512, 0
_TENSORS = ("median", "low", "high", "components", "codes", "limits")
_FACTS_FORM = {
    "format": str,
    "features": [str],
    "training_images": int,
    "calibration_images": int,
    "calibration_patients": int,
    "share": float,
}
_MAX_BYTES = 2**26


def describe_reason(unlike: str) -> str:
    """Returns the reason why a call is withheld as a clause."""
    return f"does not look like the training images: {unlike}"


@dataclasses.dataclass(frozen=True)
class InputGate:
    """The reference of a network's training images, with limits.

    A feature is outside if it deviates from the median by more than ``limits[0]`` times the
    distance from the median to the 1 % or 99 % quantile of real images. An embedding is outside if
    its distance to the fifth nearest training image (Sun et al., "Out-of-distribution detection
    with deep nearest neighbors", ICML 2022) exceeds ``limits[1]``. The distance is that in the
    space of the main components and the length of the rest.

    Attributes:
        median: ``float64 [F]``, of the simple features of real images.
        low: ``float64 [F]``, positive distance from the median to the 1 % quantile.
        high: ``float64 [F]``, the same to the 99 % quantile.
        components: ``float32 [K, D]``, main components of the training images' embeddings.
        codes: ``float32 [N, K + 1]``, training images in these components, and the rest.
        limits: ``float64 [2]``, largest deviation and largest distance inside.
        facts: counts of images and patients that chose the limits.
    """

    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    components: np.ndarray
    codes: np.ndarray
    limits: np.ndarray
    facts: Mapping[str, Any]

    def fits(self, classifier: Classifier) -> bool:
        """Returns True if the embeddings of the network have as many values as the reference."""
        head = flatten_dict(classifier.abstract_variables()["params"], sep="/")
        return head["head/kernel"].shape[0] == self.components.shape[1]

    def deviations(self, features: np.ndarray) -> np.ndarray:
        """Returns the signed deviations of simple features ``[N, F]`` in units of the spread."""
        return _deviations(features, self.median, self.low, self.high)

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the distances of embeddings ``[N, D]`` to the fifth nearest training image."""
        return _distances(_coded(embeddings, self.components), self.codes)

    def reasons(self, features: np.ndarray, embeddings: np.ndarray) -> list[str]:
        """Returns the reason why an image does not look like the training images.

        Args:
            features: result of :func:`se_resnet.input_gate.features.simple_features`.
            embeddings: result of :func:`se_resnet.input_gate.embedding.embed`.

        Returns:
            For each image ``blank``, ``out of focus``, ``colours``, ``scale`` or ``other``, or an
            empty string for an image inside the limits. An image of almost one brightness is
            ``blank``. Of several reasons for another image the largest deviation gives the name.
        """
        deviations = self.deviations(features)
        distances = self.distances(embeddings)
        columns = zip(deviations, distances, is_flat(features), strict=True)
        return [self._reason(row, distance, flat) for row, distance, flat in columns]

    def _reason(self, deviations: np.ndarray, distance: float, flat: bool) -> str:
        outside = {
            feature: deviation
            for feature, deviation in zip(FEATURES, deviations.tolist(), strict=True)
            if abs(deviation) > self.limits[0]
        }
        named = {
            feature: FEATURES[feature][deviation > 0] for feature, deviation in outside.items()
        }
        if named and flat:
            return BLANK
        if named:
            # A blur lowers the contrast too: "blank" names an image that is not flat last.
            clearer = [feature for feature in outside if named[feature] != BLANK] or [*outside]
            return named[max(clearer, key=lambda feature: abs(outside[feature]))]
        return OTHER if distance > self.limits[1] else ""

    def as_metadata(self) -> dict[str, Any]:
        """Returns the limits of the simple features, and facts, as JSON values."""
        allowed = self.limits[0] * np.stack([-self.low, self.high]) + self.median
        return {
            **self.facts,
            "allowed_features": {
                name: {"low": low, "high": high}
                for name, low, high in zip(FEATURES, *allowed.tolist(), strict=True)
            },
        }

    def write(self, path: Path) -> None:
        """Writes the reference as safetensors with the facts in its header."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        with atomic_write(path, "wb") as file:
            file.write(safetensors.numpy.save(tensors, {"facts": json.dumps(dict(self.facts))}))

    @classmethod
    def read(cls, path: Path) -> InputGate | None:
        """Reads a reference; None if the file does not exist.

        Raises:
            UserError: the file cannot be read or has another form.
        """
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError("it is too large")
            content = path.read_bytes()
            tensors = safetensors.numpy.load(content)
            length = int.from_bytes(content[:8], "little")
            header = parse_json(content[8 : 8 + length].decode())
            facts = parse_json(header.get("__metadata__", {}).get("facts", "{}"))
            if problem := misfit(facts, _FACTS_FORM) or _problem(tensors, facts):
                raise ValueError(problem)
            return cls(**{name: tensors[name] for name in _TENSORS}, facts=facts)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{path} cannot be read ({reason(error)}): remove the file, and make it again by "
                "python -m data.reference."
            ) from error


def _problem(tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """Returns the problem of a reference that was read, or an empty string."""
    if facts["format"] != _FORMAT or facts["features"] != list(FEATURES):
        return "it was written by another version of this project"
    if set(tensors) != set(_TENSORS):
        return "its tensors have other names"
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        return "a value is not finite"
    wanted = {name: (len(FEATURES),) for name in ("median", "low", "high")} | {"limits": (2,)}
    if any(tensors[name].shape != shape for name, shape in wanted.items()):
        return "a tensor has another shape"
    components, codes = tensors["components"], tensors["codes"]
    if components.ndim != 2 or codes.ndim != 2 or codes.shape[1] != len(components) + 1:
        return "components and codes do not fit"
    if not len(codes) or not (tensors["low"] > 0).all() or not (tensors["high"] > 0).all():
        return "a spread is not positive, or there are no codes"
    return ""


def fit(
    features: np.ndarray,
    embeddings: np.ndarray,
    calibrating: np.ndarray,
    patients: np.ndarray,
) -> InputGate:
    """Makes the reference of a network.

    Training and calibrating images together give the quantiles and the limit of the simple
    features, which training does not change. The images of a patient are compared with the
    quantiles of the other patients, as those of a new patient will be. Likewise the distance is
    that of a calibrating image, or of a training image to those of the other patients.

    Args:
        features: ``float64 [N, F]``, simple features of training and calibrating images.
        embeddings: ``float32 [N, D]``, their embeddings.
        calibrating: ``bool [N]``, True for validation images, False for training images.
        patients: ``str [N]``.

    Raises:
        UserError: there is no training image.
    """
    training = np.flatnonzero(~calibrating)
    if not len(training):
        raise UserError("there is no training image to compare with: train the run first.")
    median, low, high = _spread(features)
    deviations = _left_out_deviations(features, patients)
    rng = np.random.default_rng(_SEED)
    if len(training) > _MOST_CODES:
        training = np.sort(rng.choice(training, _MOST_CODES, replace=False))
    trained = embeddings[training].astype(np.float64)
    _, _, directions = np.linalg.svd(trained, full_matrices=False)
    components = directions[:_COMPONENTS].astype(np.float32)
    coded = _coded(embeddings, components)
    codes = coded[training]
    distances = [
        _distances(coded[calibrating], codes),
        _left_out_distances(codes, patients[training]),
    ]
    limits = [_quantile(deviations), _quantile(np.concatenate(distances))]
    return InputGate(
        median,
        low,
        high,
        components,
        codes.astype(np.float32),
        np.array(limits),
        {
            "format": _FORMAT,
            "features": list(FEATURES),
            "training_images": int((~calibrating).sum()),
            "calibration_images": int(calibrating.sum()),
            "calibration_patients": len(np.unique(patients[calibrating])),
            "share": SHARE,
        },
    )


def _quantile(values: np.ndarray) -> float:
    return float(np.quantile(values, 1 - SHARE / 2, method="higher"))


def _spread(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the median, and the distances from it to the 1 % and 99 % quantiles."""
    low, median, high = np.quantile(features, [0.01, 0.5, 0.99], axis=0)
    # The smallest spread lets a feature that is constant in training vary by rounding.
    return median, np.maximum(median - low, 1e-3), np.maximum(high - median, 1e-3)


def _deviations(
    features: np.ndarray, median: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    offset = features - median
    return offset / np.where(offset < 0, low, high)


def _left_out_deviations(features: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Returns the largest deviation of each image from the images of the other patients."""
    deviations = np.zeros(len(features))
    for patient in np.unique(patients):
        left_out = patients == patient
        others = features if left_out.all() else features[~left_out]
        found = _deviations(features[left_out], *_spread(others))
        deviations[left_out] = np.abs(found).max(axis=1)
    return deviations


def _left_out_distances(codes: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Returns the distance of each training image to those of the other patients, ``[N]``."""
    distances = np.zeros(len(codes))
    for patient in np.unique(patients):
        left_out = patients == patient
        others = codes if left_out.all() else codes[~left_out]
        distances[left_out] = _distances(codes[left_out], others)
    return distances


def _coded(embeddings: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Returns embeddings in the main components, and the length of the rest, ``[N, K + 1]``."""
    values = embeddings.astype(np.float64)
    code = values @ components.T.astype(np.float64)
    rest = np.maximum((values**2).sum(axis=1) - (code**2).sum(axis=1), 0) ** 0.5
    return np.concatenate([code, rest[:, None]], axis=1)


def _distances(codes: np.ndarray, training: np.ndarray) -> np.ndarray:
    squares = (codes**2).sum(1)[:, None] + (training**2).sum(1) - 2 * codes @ training.T
    nearest = np.sort(np.maximum(squares, 0), axis=1)
    return nearest[:, min(_NEIGHBOURS, len(training)) - 1] ** 0.5
