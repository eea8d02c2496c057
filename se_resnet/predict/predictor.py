"""A trained network for images in memory, for use in notebooks and programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.images.resize import TTA, resize
from se_resnet.metrics.calibration import scale
from se_resnet.metrics.predictions import probability_of
from se_resnet.predict.inference import BATCH, logits_of
from se_resnet.predict.provenance import read_history
from se_resnet.predict.tta import resize_rules
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.paths import local_path

Image = np.ndarray | str | Path
Images = np.ndarray | str | Path | Iterable[Image]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained network with its decision and its provenance.

    Attributes:
        run: network, preprocessing, variables and decision.
        name: name of the run.
        history: provenance, see :func:`se_resnet.predict.provenance.read_history`.
    """

    run: Run
    name: str
    history: Mapping[str, Any]

    @property
    def threshold(self) -> float:
        """Decision threshold for the probabilities of :meth:`predict`, chosen on validation.

        The value is ``run.decision.threshold`` after the temperature scaling of the probabilities.
        """
        decision = self.run.decision
        return float(scale(np.array(decision.threshold), decision.temperature))

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Metrics on the run's test images, each with its interval; None if not evaluated."""
        return self.history["metrics"]

    def predict(self, images: Images, tta: str = "none") -> np.ndarray:
        """Returns the calibrated probability of malignant for each image.

        Args:
            images: RGB ``uint8 [N, H, W, 3]``, or images of any sizes: RGB ``uint8 [h, w, 3]``
                arrays, or paths of PNG, JPEG, TIFF, BMP or WebP files.
            tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.

        Returns:
            ``float64 [N]`` in [0, 1].

        Raises:
            UserError: an image cannot be read, has another shape or dtype, or ``tta`` is unknown.

        >>> import numpy as np
        >>> import se_resnet
        >>> model = se_resnet.load_run("runs/smoke")
        >>> probability = model.predict(np.zeros((2, 460, 700, 3), np.uint8))
        >>> probability.shape, bool(probability[0] == probability[1])
        ((2,), True)
        """
        if tta not in TTA:
            raise UserError(f"unknown tta {tta!r}: choose one of {', '.join(TTA)}.")
        rules = resize_rules(tta, self.run.classifier.resize)
        numbered = enumerate([images] if isinstance(images, str | Path) else images)
        logits = [np.zeros(0)]
        while chunk := list(islice(numbered, BATCH)):
            tiles = [self._tiles(image, number, rules) for number, image in chunk]
            logits.append(logits_of(self.run, np.stack(tiles, axis=1), tta))
        return scale(probability_of(np.concatenate(logits)), self.run.decision.temperature)

    def prepare(self, images: Images) -> np.ndarray:
        """Resizes images to the network's input, RGB ``uint8 [N, H, W, 3]``.

        The result is input for :mod:`se_resnet.explain`. Argument and errors are those of
        :meth:`predict`.
        """
        rules = (self.run.classifier.resize,)
        sources = [images] if isinstance(images, str | Path) else images
        resized = [self._tiles(image, number, rules)[0] for number, image in enumerate(sources)]
        return (
            np.stack(resized) if resized else np.zeros((0, *self.run.classifier.size, 3), np.uint8)
        )

    def _tiles(self, image: Image, number: int, rules: tuple[str, ...]) -> list[np.ndarray]:
        """Returns the image at the network's size, once for each rule."""
        if isinstance(image, str | Path):
            try:
                image = read_image(Path(image))
            except ValueError as error:
                raise UserError(f"the image {image} {error}; give one that can be used.") from error
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not _is_rgb(image.shape):
            kind = getattr(image, "dtype", type(image).__name__)
            shape = getattr(image, "shape", "")
            raise UserError(
                f"image {number} is {kind} {shape}: give RGB pixels as uint8 [h, w, 3], or a path."
            )
        return [resize(image, self.run.classifier.size, rule) for rule in rules]


def _is_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 3 and all(shape)


def load_run(workdir: str | Path, attention: str = "none") -> Predictor:
    """Loads the chosen checkpoint of a run of ``train.py``.

    Args:
        workdir: the run's folder.
        attention: attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.

    Raises:
        UserError: the folder holds no run, or no checkpoint that can be read.

    >>> import se_resnet
    >>> model = se_resnet.load_run("runs/smoke")
    >>> 0 <= model.threshold <= 1
    True
    >>> 0 <= model.metrics["image"]["roc_auc"]["value"] <= 1
    True
    """
    workdir = Path(local_path(workdir, "workdir ="))
    return Predictor(load_best(workdir, attention), workdir.resolve().name, read_history(workdir))
