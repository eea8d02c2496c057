"""Prepares, predicts and explains the images of a folder: whole, or in tiles at a scale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from se_resnet import explain
from se_resnet.images.resize import reduce, resize
from se_resnet.images.scale import Scale, TiledImage, bring_to_scale
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.predict.inference import BATCH, Pass, Prediction, describe, predict, screened
from se_resnet.predict.tiles import probability_map, tile_logits
from se_resnet.predict.tta import resize_rules
from se_resnet.runs.workdir import Run
from se_resnet.runtime.batches import batch_positions

OVERLAY, MAP = ".png", ".map.png"  # endings of the names of pictures
_LARGEST_PICTURE = 4_000_000  # pixels; larger images are shown reduced, as a batch is in memory


Draw = Callable[[], np.ndarray]  # returns a picture, RGB uint8 [h, w, 3]


class Views(Protocol):
    """The steps from a decoded image to its prediction and pictures."""

    def prepare(self, file: str, image: np.ndarray) -> Any:
        """Returns the network's views of an image ``uint8 [h, w, 3]``.

        Raises:
            ValueError: the image cannot be used. The message is the reason.
            UserError: the image has another size than the network.
        """
        ...

    def is_full(self, prepared: Sequence[Any]) -> bool:
        """Returns True if these images fill a batch."""
        ...

    def predict(self, files: Sequence[str], prepared: Sequence[Any]) -> list[Prediction]:
        """Returns the predictions for prepared images."""
        ...

    def pictures(self) -> Iterator[tuple[str, str, Draw]]:
        """Yields file, ``OVERLAY`` or ``MAP``, and picture for the images predicted last.

        The network's work is done when a picture is yielded. Any thread may draw the picture.
        """
        ...


class WholeImages:
    """Views of whole images, resized to the network.

    Args:
        run: the checkpoint.
        tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.
        patients: patient by file, where known.
    """

    def __init__(self, run: Run, tta: str, patients: Mapping[str, str]):
        self._run, self._tta, self._patients = run, tta, patients
        self._rules = resize_rules(tta, run.classifier.resize)
        self._files: Sequence[str] = ()
        self._last: Sequence[_Prepared] = ()
        self._calls: list[str] = []
        self._pass: Pass | None = None

    def prepare(self, file: str, image: np.ndarray) -> _Prepared:
        """Returns the image at the network's size, once for each resize rule, and to be shown."""
        classifier = self._run.classifier
        views = [resize(image, classifier.size, rule) for rule in self._rules]
        rule = classifier.resize
        known = rule in self._rules
        trained = views[self._rules.index(rule)] if known else resize(image, classifier.size, rule)
        return _Prepared(views, trained, reduce(image, _LARGEST_PICTURE))

    def is_full(self, prepared: Sequence[Any]) -> bool:
        """Returns True for as many images as a batch holds."""
        return len(prepared) == BATCH

    def predict(self, files: Sequence[str], prepared: Sequence[Any]) -> list[Prediction]:
        """Returns the predictions for prepared images."""
        self._files, self._last = files, prepared
        tiles = np.stack([image.views for image in prepared], axis=1)
        predictions, further = predict(self._run, tiles, files, self._patients, self._tta)
        self._calls = [prediction.call for prediction in predictions]
        self._pass = further
        features = further.features if further else None
        inputs = np.stack([image.trained for image in prepared])
        return screened(predictions, self._run.unlike_training(inputs, BATCH, features))

    def pictures(self) -> Iterator[tuple[str, str, Draw]]:
        """Yields each image in its shape, without and with Grad-CAM for its call.

        Of several views of an image the middle one is explained.
        """
        middle = len(self._rules) // 2
        for file, image, heat in zip(self._files, self._last, self._heats(middle), strict=True):
            draw = functools.partial(_beside_spread, image.shown, heat, self._rules[middle])
            yield file, OVERLAY, draw

    def _heats(self, view: int) -> np.ndarray:
        """Returns Grad-CAM of a view of the images predicted last, ``float32 [B, H, W]``."""
        classifier, members = self._run.classifier, self._run.members
        target = np.array([CLASS_NAMES.index(call) for call in self._calls])
        if self._pass:  # of the only view
            positions, _ = batch_positions(len(target), BATCH)
            heats = explain.grad_cam_of_maps(
                members, self._pass.maps, classifier.size, target[positions]
            )
            return heats[: len(target)]
        inputs = np.stack([image.views[view] for image in self._last])
        return explain.grad_cam(classifier, members, inputs, target=target)


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """An image for the network, and to be shown.

    Attributes:
        views: ``uint8 [H, W, 3]`` of the network's size, one for each resize rule.
        trained: ``uint8 [H, W, 3]``, by the resize rule of the training.
        shown: ``uint8 [h, w, 3]``, the image itself, reduced if it is very large.
    """

    views: list[np.ndarray]
    trained: np.ndarray
    shown: np.ndarray


class ImagesAtScale:
    """Views of images that are brought to the network's scale and cut into tiles.

    Args:
        run: the checkpoint.
        scale: scale of its classifier.
        tta: ``none`` or ``dihedral``.
        patients: patient by file, where known.
        um_per_px: scale of each image by file, in micrometres per pixel.
    """

    def __init__(
        self,
        run: Run,
        scale: Scale,
        tta: str,
        patients: Mapping[str, str],
        um_per_px: Mapping[str, float],
    ):
        self._run, self._scale, self._tta, self._patients = run, scale, tta, patients
        self._um_per_px = um_per_px
        self._last: list[tuple[Prediction, TiledImage, np.ndarray]] = []

    def prepare(self, file: str, image: np.ndarray) -> TiledImage:
        """Returns the image at the network's scale, with its tiles."""
        return bring_to_scale(image, self._um_per_px[file], self._scale)

    def is_full(self, prepared: Sequence[Any]) -> bool:
        """Returns True if the tiles of these images fill a batch."""
        return sum(map(len, prepared)) >= BATCH

    def predict(self, files: Sequence[str], prepared: Sequence[Any]) -> list[Prediction]:
        """Returns the predictions for prepared images: of the mean logits of their tiles.

        The middle tile of an image is compared with the training images.
        """
        by_image = tile_logits(self._run, prepared, self._tta, batch_size=BATCH)
        predictions = [
            dataclasses.replace(
                describe(file, logits.mean(axis=1), self._run.decision, self._patients),
                um_per_px=self._um_per_px[file],
                tiles=len(image),
            )
            for file, image, logits in zip(files, prepared, by_image, strict=True)
        ]
        of_tiles = [logits.mean(axis=0) for logits in by_image]
        self._last = list(zip(predictions, prepared, of_tiles, strict=True))
        classifier = self._run.classifier
        middles = [resize(image.middle, classifier.size, classifier.resize) for image in prepared]
        return screened(predictions, self._run.unlike_training(np.stack(middles), BATCH))

    @property
    def logits(self) -> list[np.ndarray]:
        """Mean logits of the tiles of each image predicted last, ``float64 [T]``."""
        return [logits for *_, logits in self._last]

    def pictures(self) -> Iterator[tuple[str, str, Draw]]:
        """Yields for each image its clearest tile with Grad-CAM, and of several tiles a map.

        The clearest tile is the one with the strongest evidence for the call of the image. Grad-CAM
        shows where the network found this evidence. The map shows the probability of malignant by
        tile over the whole image.
        """
        for prediction, image, logits in self._last:
            tile, heat = explain_clearest(self._run, image, logits, prediction.call)
            yield prediction.file, OVERLAY, functools.partial(explain.beside, tile, heat)
            if len(image) > 1:
                yield prediction.file, MAP, functools.partial(_beside_map, image, logits)


def explain_clearest(
    run: Run, image: TiledImage, logits: np.ndarray, call: str
) -> tuple[np.ndarray, np.ndarray]:
    """Explains the tile with the strongest evidence for a call.

    Args:
        run: the checkpoint.
        image: an image at the network's scale.
        logits: ``float64 [T]``, of its tiles.
        call: ``benign`` or ``malignant``.

    Returns:
        The tile at the network's size, ``uint8 [H, W, 3]``, and its Grad-CAM for the call,
        ``float32 [H, W]`` in [0, 1].
    """
    target = int(call == "malignant")
    number = int(np.argmax(logits) if target else np.argmin(logits))
    classifier = run.classifier
    tile = resize(image.tile(number), classifier.size, classifier.resize)
    (heat,) = explain.grad_cam(classifier, run.members, tile[None], target=target)
    return tile, heat


def _beside_spread(image: np.ndarray, heat: np.ndarray, rule: str) -> np.ndarray:
    """Returns an image, also under the heat map ``[H, W]`` of the network's input of that rule."""
    return explain.beside(image, explain.spread(heat, image.shape[:2], rule))


def _beside_map(image: TiledImage, logits: np.ndarray) -> np.ndarray:
    """Returns an image at the network's scale, also under the map of its tiles."""
    return explain.beside(*probability_map(image, logits))
