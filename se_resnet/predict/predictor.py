"""A trained network for images in memory, for use in notebooks and programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from se_resnet import explain
from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.images.resize import TTA, resize
from se_resnet.images.scale import Scale, TiledImage, bring_to_scale
from se_resnet.metrics.calibration import scale
from se_resnet.metrics.evaluation import headline
from se_resnet.metrics.full import at_used_threshold, used_thresholds
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.metrics.misclassified import misclassified
from se_resnet.metrics.predictions import probability_of
from se_resnet.predict.inference import BATCH, Prediction, logits_of
from se_resnet.predict.provenance import read_history
from se_resnet.predict.tiles import check_stated_scale, check_views, tile_logits
from se_resnet.predict.tta import resize_rules
from se_resnet.predict.views import ImagesAtScale, Views, WholeImages
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.paths import local_path

Image = np.ndarray | str | Path
Images = np.ndarray | str | Path | Iterable[Image]


@dataclasses.dataclass(frozen=True, repr=False)
class Predictor:
    """A trained network with its decision and its provenance.

    Attributes:
        run: network, preprocessing, variables and decision.
        name: name of the run.
        history: provenance, see :func:`se_resnet.predict.provenance.read_history`.
        workdir: folder of the run; None for a model package.
    """

    run: Run
    name: str
    history: Mapping[str, Any]
    workdir: Path | None = None

    def __repr__(self) -> str:
        """Returns network, input, decision and test result in one line."""
        classifier, members = self.run.classifier, len(self.run.members)
        attention = classifier.model.attention
        layers = 3 * sum(classifier.model.stage_sizes) + 2
        height, width = classifier.size
        parts = [
            f"Predictor({self.name!r}",
            (f"{members} networks " if members > 1 else "") + f"ResNet{layers}",
            f"attention {attention}",
            f"input {height}x{width}",
            f"malignant from {self.threshold:.3f} on",
        ]
        if self.metrics:
            auc = headline(self.metrics)["image_roc_auc"]["value"]
            tested = "undefined" if auc is None else f"{auc:.3f}"
            parts.append(f"image ROC AUC of the test {tested}")
        return f"{', '.join(parts)})"

    @property
    def threshold(self) -> float:
        """Decision threshold for the probabilities of :meth:`predict`, chosen on validation.

        The value is ``run.decision.threshold`` after the temperature scaling of the probabilities.
        """
        return self.run.decision.calibrated_threshold

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Metrics on the run's test images, each with its interval; None if not evaluated."""
        return self.history["metrics"]

    @property
    def scale(self) -> Scale | None:
        """Scale at which the network sees tissue; None if it takes whole images of any scale."""
        return self.run.classifier.scale

    def predict(
        self, images: Images, tta: str = "none", um_per_px: float | Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the calibrated probability of malignant for each image.

        :meth:`calls` returns calls, and withholds those for images that do not look like the
        training images. A network with a scale brings each image to that scale and averages the
        logits of all its tiles.

        Args:
            images: RGB ``uint8 [N, H, W, 3]``, or images of any sizes: RGB ``uint8 [h, w, 3]``
                arrays, or paths of PNG, JPEG, TIFF, BMP or WebP files; one image or several.
            tta: test-time augmentation, see :mod:`se_resnet.predict.tta`.
            um_per_px: scale of the images in micrometres per pixel, one value for all or one for
                each; needed by a network with a scale, refused by another.

        Returns:
            ``float64 [N]`` in [0, 1].

        Raises:
            UserError: an image cannot be read, has another shape or dtype, ``tta`` is unknown, or
                a scale is missing, not plausible or without effect.

        >>> import numpy as np
        >>> import se_resnet
        >>> model = se_resnet.load_run("runs/smoke")
        >>> probability = model.predict(np.zeros((2, 460, 700, 3), np.uint8))
        >>> probability.shape, bool(probability[0] == probability[1])
        ((2,), True)
        """
        if tta not in TTA:
            raise UserError(f"unknown tta {tta!r}: choose one of {', '.join(TTA)}.")
        check_views(tta, self.scale)
        if self.scale:
            tiled = self._tiled(images, um_per_px, self.scale)
            by_image = tile_logits(self.run, tiled, tta, batch_size=BATCH)
            return self._calibrated(np.array([logits.mean() for logits in by_image]))
        self._stated(um_per_px)
        rules = resize_rules(tta, self.run.classifier.resize)
        numbered = enumerate(_listed(images))
        logits = [np.zeros(0)]
        while chunk := list(islice(numbered, BATCH)):
            tiles = [self._resized(image, number, rules) for number, image in chunk]
            logits.append(logits_of(self.run, np.stack(tiles, axis=1), tta).mean(axis=0))
        return self._calibrated(np.concatenate(logits))

    def calls(
        self, images: Images, tta: str = "none", um_per_px: float | Sequence[float] | None = None
    ) -> list[Prediction]:
        """Returns the prediction with its call for each image, as ``python -m se_resnet.predict``.

        The call is that of ``probability``, before temperature scaling, at the threshold of the
        run. The call for an image that does not look like the training images is withheld, and
        ``unlike_training_images`` is the reason; the probability stays available. Arguments and
        errors are those of :meth:`predict`.

        >>> import numpy as np
        >>> import se_resnet
        >>> model = se_resnet.load_run("runs/smoke")
        >>> (prediction,) = model.calls(np.zeros((1, 460, 700, 3), np.uint8))
        >>> prediction.call, prediction.unlike_training_images
        ('withheld', 'blank')
        """
        if tta not in TTA:
            raise UserError(f"unknown tta {tta!r}: choose one of {', '.join(TTA)}.")
        check_views(tta, self.scale)
        views: Views
        if self.scale:
            prepared: Iterator[Any] = self._tiled(images, um_per_px, self.scale)
            listed = list(prepared)
            names = [f"image {number}" for number in range(len(listed))]
            given = self._stated(um_per_px)
            scales = given if len(given) == len(listed) else given * len(listed)
            by_name = dict(zip(names, scales, strict=True))
            views = ImagesAtScale(self.run, self.scale, tta, {}, by_name)
            return views.predict(names, listed) if listed else []
        self._stated(um_per_px)
        views = WholeImages(self.run, tta, {})
        numbered = enumerate(_listed(images))
        predictions: list[Prediction] = []
        while chunk := list(islice(numbered, BATCH)):
            files = [
                str(image) if isinstance(image, str | Path) else f"image {number}"
                for number, image in chunk
            ]
            ready = [views.prepare("", _pixels(image, number)) for number, image in chunk]
            predictions += views.predict(files, ready)
        return predictions

    def prepare(
        self, images: Images, um_per_px: float | Sequence[float] | None = None
    ) -> np.ndarray:
        """Resizes images to the network's input, RGB ``uint8 [N, H, W, 3]``.

        The result is input for :mod:`se_resnet.explain`. A network with a scale gets the middle
        tile of each image. Arguments and errors are those of :meth:`predict`.
        """
        classifier = self.run.classifier
        if self.scale:
            prepared = [
                resize(tiled.middle, classifier.size, classifier.resize)
                for tiled in self._tiled(images, um_per_px, self.scale)
            ]
        else:
            self._stated(um_per_px)
            prepared = [
                self._resized(image, number, (classifier.resize,))[0]
                for number, image in enumerate(_listed(images))
            ]
        return np.stack(prepared) if prepared else np.zeros((0, *classifier.size, 3), np.uint8)

    def explain(
        self, image: Image, um_per_px: float | None = None, target: int | None = None
    ) -> np.ndarray:
        """Returns an image under the Grad-CAM of its call, see :mod:`se_resnet.explain`.

        Args:
            image: one image, as for :meth:`predict`.
            um_per_px: its scale, as for :meth:`predict`.
            target: class to explain, 0 benign or 1 malignant; None for the class that is called.

        Returns:
            RGB ``uint8 [H, W, 3]`` of the network's size: what :meth:`prepare` returns, coloured by
            the evidence for the class.

        Raises:
            UserError: as for :meth:`predict`; there is not exactly one image, or ``target`` is
                unknown.
        """
        prepared = self.prepare(image, um_per_px)
        if len(prepared) != 1:
            raise UserError(f"explain takes one image, not {len(prepared)}: give them one by one.")
        if target is None:
            (probability,) = self.predict(image, um_per_px=um_per_px)
            target = int(probability >= self.threshold)
        (heat,) = explain.grad_cam(self.run.classifier, self.run.members, prepared, target=target)
        return explain.overlay(prepared[0], heat)

    def errors(self) -> list[dict[str, Any]]:
        """Returns the test images that the run's threshold calls wrongly, the clearest first.

        In a cross-validation the threshold of an image is that of its fold, as in the report.

        Returns:
            ``file``, ``patient``, ``label`` and ``call`` (``benign`` or ``malignant``) and
            ``probability`` of malignant before temperature scaling, of each image.

        Raises:
            UserError: this is a model package, which holds no predictions, the run was not
                evaluated on test images, or it holds repeats, whose test images differ.
        """
        if self.workdir is None:
            raise UserError(
                f"the model package {self.name!r} holds no predictions of test images: load the "
                "run by se_resnet.load_run."
            )
        run = RunFolder(self.workdir)
        if run.config()["repeats"] > 1:
            raise UserError(
                f"{self.workdir} holds repeats with test images of their own: load one of them, "
                f"for example {run.repeats(1)[0].path}."
            )
        evaluation = run.evaluation()
        if not evaluation.is_finished:
            raise UserError(
                f"{self.workdir} has no finished evaluation of test images: run eval.py "
                f"--workdir={self.workdir} first; a run with config.split.fold = 'none' has no "
                "test images."
            )
        predictions = evaluation.predictions()
        thresholds = used_thresholds(at_used_threshold(evaluation.metrics()), predictions.fold)
        wrong = predictions.take(misclassified(predictions, thresholds))
        return [
            {
                "file": str(wrong.file[row]),
                "patient": str(wrong.accession[row]),
                "label": CLASS_NAMES[wrong.label[row]],
                "call": CLASS_NAMES[1 - wrong.label[row]],
                "probability": float(wrong.probability[row]),
            }
            for row in range(len(wrong))
        ]

    def _calibrated(self, logits: np.ndarray) -> np.ndarray:
        return scale(probability_of(logits), self.run.decision.temperature)

    def _stated(self, um_per_px: float | Sequence[float] | None) -> list[float]:
        """Returns the scales that the caller states, or refuses them."""
        if um_per_px is None:
            return []
        values = np.atleast_1d(np.asarray(um_per_px, np.float64)).tolist()
        for value in values:
            check_stated_scale(value, self.scale, "um_per_px")
        return values

    def _tiled(
        self, images: Images, um_per_px: float | Sequence[float] | None, network_scale: Scale
    ) -> Iterator[TiledImage]:
        """Yields the images at the network's scale, one at a time."""
        if um_per_px is None:
            raise UserError(
                f"the network has a scale ({network_scale.describe()}): give the scale of the "
                "images by um_per_px, in micrometres per pixel."
            )
        given = self._stated(um_per_px)
        listed = _listed(images)
        if len(given) != 1:
            listed = list(listed)
            if len(listed) != len(given):
                raise UserError(
                    f"um_per_px has {len(given)} values for {len(listed)} images: give one for "
                    "all, or one for each."
                )
        for number, image in enumerate(listed):
            value = given[number] if len(given) > 1 else given[0]
            try:
                yield bring_to_scale(_pixels(image, number), value, network_scale)
            except ValueError as error:
                raise UserError(f"image {number} {error}.") from error

    def _resized(self, image: Image, number: int, rules: tuple[str, ...]) -> list[np.ndarray]:
        """Returns the image at the network's size, once for each rule."""
        pixels = _pixels(image, number)
        return [resize(pixels, self.run.classifier.size, rule) for rule in rules]


def _listed(images: Images) -> Iterable[Image]:
    if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    return images


def _pixels(image: Image, number: int) -> np.ndarray:
    """Returns an image as RGB ``uint8 [h, w, 3]``, or raises a UserError that names it."""
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
    return image


def _is_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 3 and all(shape)


def load_run(workdir: str | Path, attention: str = "none") -> Predictor:
    """Loads the chosen checkpoint of a run of ``train.py``.

    An ensemble, a cross-validation or repeats are loaded as one model, which averages the logits of
    all networks.

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
    run, history = load_best(workdir, attention), read_history(workdir)
    return Predictor(run, workdir.resolve().name, history, workdir)
