"""Predicts images of the network's size: probability, calibration, call and uncertainty."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from se_resnet.input_gate.gate import WITHHELD
from se_resnet.metrics.calibration import scale
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.predictions import probability_of
from se_resnet.models.classifier import Array
from se_resnet.predict.tta import mean_logits
from se_resnet.runs.workdir import Run
from se_resnet.runtime.batches import batch_positions

NOTICE = "Research software: no medical device, not for diagnosis."
BATCH = 16


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        file: path below the input.
        patient: the patient, or an empty string.
        probability: probability of malignant, in [0, 1].
        calibrated_probability: probability after temperature scaling.
        call: ``malignant`` if the probability reaches the run's threshold, else ``benign``;
            ``withheld`` if the image does not look like the training images.
        uncertain: True if the probability is nearer to the threshold than those of the clearest
            80 % of the validation images. Of an ensemble: True if its members do not all make the
            same call.
        um_per_px: scale of the image in micrometres per pixel; None where the network has none.
        tiles: number of tiles at the network's scale; None where the network has none.
        malignant_votes: members of an ensemble whose own probability reaches the threshold; None of
            a single network.
        disagreement: standard deviation of the members' probabilities, in [0, 0.5]; None of a
            single network.
        unlike_training_images: ``blank``, ``out of focus``, ``colours``, ``scale`` or ``other`` if
            the image does not look like the training images, else an empty string; None of a run
            without a reference of its training images.
    """

    file: str
    patient: str
    probability: float
    calibrated_probability: float
    call: str
    uncertain: bool
    um_per_px: float | None = None
    tiles: int | None = None
    malignant_votes: int | None = None
    disagreement: float | None = None
    unlike_training_images: str | None = None

    def as_row(self) -> dict[str, str | float | bool | int]:
        """Returns the columns of ``predictions.csv``, without those that are None."""
        row = dataclasses.asdict(self)
        return {name: value for name, value in row.items() if value is not None}


def screened(predictions: Sequence[Prediction], reasons: Sequence[str] | None) -> list[Prediction]:
    """Withholds the calls for images that do not look like the training images.

    Args:
        predictions: predictions of N images.
        reasons: result of :meth:`se_resnet.runs.workdir.Run.unlike_training` for these images.
    """
    if reasons is None:
        return list(predictions)
    return [
        dataclasses.replace(
            prediction,
            call=WITHHELD if unlike else prediction.call,
            unlike_training_images=unlike,
        )
        for prediction, unlike in zip(predictions, reasons, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Pass:
    """Further results of the network's pass over a batch, which explain and screen it.

    Attributes:
        features: pooled features of the first network, ``float32 [B, D]``, which the input gate
            compares.
        maps: feature maps of the last stage by each network, ``[16, h, w, D]``; those after the
            first B are filling.
    """

    features: np.ndarray
    maps: tuple[Array, ...]


def predict(
    run: Run,
    tiles: np.ndarray,
    files: Iterable[str],
    patients: Mapping[str, str],
    tta: str = "none",
) -> tuple[list[Prediction], Pass | None]:
    """Predicts images of the network's size.

    Args:
        run: the checkpoint.
        tiles: RGB ``uint8 [T, B, H, W, 3]``, resized by :func:`se_resnet.images.resize.resize` with
            each of the T rules of :func:`se_resnet.predict.tta.resize_rules`; B is at most 16.
        files: B names.
        patients: patient by file, where known.
        tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.

    Returns:
        The predictions. Features and feature maps of the same pass; None with test-time
        augmentation, which has several passes.
    """
    further = None
    if tta == "none":
        positions, mask = batch_positions(tiles.shape[1], BATCH)
        batch = {"image": tiles[0][positions], "mask": mask}
        by_member, features, maps = run.predict.with_maps(run.members, batch)
        further = Pass(features, maps)
    else:
        by_member = logits_of(run, tiles, tta)
    predictions = [
        describe(file, logits, run.decision, patients)
        for file, logits in zip(files, by_member.T, strict=True)
    ]
    return predictions, further


def logits_of(run: Run, tiles: np.ndarray, tta: str) -> np.ndarray:
    """Returns each member's logit of malignant, ``float64 [K, B]``; see :func:`predict`."""
    positions, mask = batch_positions(tiles.shape[1], BATCH)
    batches = [{"image": tile[positions], "mask": mask} for tile in tiles]
    return np.mean(
        [mean_logits(run.predict, run.members, [batch], tta) for batch in batches], axis=0
    )


def describe(
    file: str, logits: np.ndarray, decision: Decision, patients: Mapping[str, str]
) -> Prediction:
    """Returns the prediction for an image.

    Args:
        file: path below the input.
        logits: ``float64 [K]``, the logit of malignant by each network.
        decision: threshold and temperature of the run.
        patients: patient by file, where known.
    """
    probability = float(probability_of(logits.mean()))
    uncertain = bool(decision.distance(np.array([probability]))[0] < decision.margin)
    ensemble: dict[str, Any] = {}
    if len(logits) > 1:
        by_member = probability_of(logits)
        votes = int((by_member >= decision.threshold).sum())
        uncertain = 0 < votes < len(logits)
        ensemble = {"malignant_votes": votes, "disagreement": float(by_member.std())}
    return Prediction(
        file=file,
        patient=patients.get(file, ""),
        probability=probability,
        calibrated_probability=float(scale(np.array(probability), decision.temperature)),
        call=decision.call(probability),
        uncertain=uncertain,
        **ensemble,
    )
