"""The page that shows a run's predictions, and its routes."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from se_resnet import explain
from se_resnet.app.example_images import find_samples
from se_resnet.app.run_facts import describe
from se_resnet.app.uploads import LARGEST_UPLOAD, upload_route
from se_resnet.errors import UserError
from se_resnet.images.data_uri import JPEG, PNG, data_uri
from se_resnet.images.decode import decode_image
from se_resnet.images.resize import resize
from se_resnet.images.scale import Scale, bring_to_scale, parse_um_per_px
from se_resnet.metrics.labels import CLASS_NAMES
from se_resnet.predict.inference import Prediction, predict, screened
from se_resnet.predict.tiles import probability_map
from se_resnet.predict.views import ImagesAtScale, explain_clearest
from se_resnet.report.theme import stylesheet
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.files import read_small_file
from se_resnet.runtime.templates import render

_MAX_SIDE = 768  # pixels of the picture in the response
_TEMPLATES = Path(__file__).parent / "templates"


class Analyser:
    """Predicts one image, and shows where the network looked.

    Args:
        run: the checkpoint.
    """

    def __init__(self, run: Run):
        self._run = run

    def warm_up(self) -> None:
        """Compiles the functions for an image, so that the first user does not wait."""
        blank = np.zeros((1, *self._run.classifier.size, 3), np.uint8)
        if self._run.classifier.scale:
            predict(self._run, blank[None], ["blank"], {})
            explain.grad_cam(self._run.classifier, self._run.members, blank, target=1)
        else:
            self._predict(blank)

    def _predict(self, tile: np.ndarray) -> tuple[Prediction, np.ndarray]:
        """Returns the prediction and the Grad-CAM ``[H, W]`` for it, of ``uint8 [1, H, W, 3]``."""
        (predicted,), further = predict(self._run, tile[None], ["image"], {})
        assert further is not None  # without test-time augmentation there is a single pass
        target = CLASS_NAMES.index(predicted.call)
        size = self._run.classifier.size
        heat = explain.grad_cam_of_maps(self._run.members, further.maps, size, target)[0]
        reasons = self._run.unlike_training(tile, 1, further.features)
        (prediction,) = screened([predicted], reasons)
        return prediction, heat

    def __call__(self, content: bytes, um_per_px: str = "") -> dict[str, Any]:
        """Analyses the content of an image file.

        Args:
            content: of the file.
            um_per_px: scale of the image in micrometres per pixel, needed by a run with a scale.

        Returns:
            ``probability`` and ``calibrated_probability`` of malignant, ``call`` and ``uncertain``;
            ``unlike_training_images``, the reason why the call is withheld, empty or None (see
            :class:`se_resnet.predict.inference.Prediction`); ``evidence``, the class that the heat
            explains, also where the call is withheld; of an ensemble further ``members``,
            ``malignant_votes`` and ``disagreement``.
            ``image`` (JPEG of the network's input) and ``heat`` (PNG of Grad-CAM for the call, with
            the heat as alpha), both as data URI. ``hottest``: the largest heat, 1, or 0 if nothing
            supports the call. ``width`` and ``height`` of the image. A run with a scale gives
            ``image`` and ``heat`` of the tile with the strongest evidence for the call, and further
            ``tiles``, ``um_per_px``, ``whole`` (JPEG of the whole image) and ``map`` (PNG of the
            probability of malignant by tile, which is also its alpha).

        Raises:
            ValueError: the image cannot be used; the message is the reason.
        """
        image = decode_image(content)
        classifier = self._run.classifier
        if classifier.scale:
            return self._analyse_tiles(image, um_per_px, classifier.scale)
        try:
            tile = resize(image, classifier.size, classifier.resize)
        except UserError as error:
            raise ValueError(f"does not fit: {error}") from error
        prediction, heat = self._predict(tile[None])
        # With rule 'squash' the network sees the whole image, so the original is shown.
        shown = image if classifier.resize == "squash" else tile
        return _answer(self._run, prediction, image, shown, heat)

    def _analyse_tiles(self, image: np.ndarray, um_per_px: str, scale: Scale) -> dict[str, Any]:
        if not um_per_px.strip():
            raise ValueError(
                "has no known scale: write the side of its pixels in micrometres into the field"
            )
        try:
            stated = parse_um_per_px(um_per_px)
        except ValueError as error:
            raise ValueError(f"has a scale of {um_per_px[:20]!r}, which {error}") from error
        tiled = bring_to_scale(image, stated, scale)
        views = ImagesAtScale(self._run, scale, "none", {}, {"image": stated})
        (prediction,) = views.predict(["image"], [tiled])
        (logits,) = views.logits
        call = "malignant" if prediction.probability >= self._run.decision.threshold else "benign"
        tile, heat = explain_clearest(self._run, tiled, logits, call)
        whole, probabilities = probability_map(tiled, logits)
        return {
            **_answer(self._run, prediction, image, tile, heat),
            "tiles": len(tiled),
            "um_per_px": stated,
            "whole": data_uri(_shrink(whole), JPEG),
            "map": data_uri(_coloured(probabilities), PNG),
        }


def create_page(workdir: Path, largest_image: int, attention: str = "none") -> Starlette:
    """Returns the application that serves the page of a run.

    Args:
        workdir: folder of the run.
        largest_image: OpenCV's limit of pixels, which the page states.
        attention: attention module from outside this project, see
            :func:`se_resnet.runs.workdir.load_best`.

    Raises:
        UserError: the folder holds no run with a readable checkpoint.
    """
    run = load_best(workdir, attention)
    config = RunFolder(workdir).config()
    samples = find_samples(workdir, config)
    html = render(
        "se_resnet.app",
        "app.html.j2",
        {},
        **describe(workdir, run, config),
        samples=samples,
        largest_upload=LARGEST_UPLOAD,
        largest_image=largest_image,
    )
    css = str(stylesheet()) + (_TEMPLATES / "app.css").read_text(encoding="utf-8")
    analyse = Analyser(run)
    analyse.warm_up()

    async def page(_: Request) -> Response:
        return HTMLResponse(html)

    async def style(_: Request) -> Response:
        return Response(css, media_type="text/css")

    return Starlette(
        routes=[
            Route("/", page),
            upload_route("/analyse", analyse, ["um_per_px"] if run.classifier.scale else []),
            Route("/app.css", style),
            _file("/app.js", _TEMPLATES / "app.js"),
            *(_file(f"/samples/{i}", sample.path) for i, sample in enumerate(samples)),
        ],
        # Protects from other sites that point their name to this machine's address.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def _file(address: str, path: Path) -> Route:
    def serve(_: Request) -> Response:
        try:
            content = read_small_file(path)
        except (OSError, ValueError):  # the sample has been removed
            return Response(status_code=404)
        return Response(content, media_type=mimetypes.guess_type(path.name)[0])

    return Route(address, serve)


def _answer(
    run: Run, prediction: Prediction, image: np.ndarray, shown: np.ndarray, heat: np.ndarray
) -> dict[str, Any]:
    votes = {
        "members": len(run.members),
        "malignant_votes": prediction.malignant_votes,
        "disagreement": prediction.disagreement,
    }
    return {
        **(votes if len(run.members) > 1 else {}),
        "probability": prediction.probability,
        "calibrated_probability": prediction.calibrated_probability,
        "call": prediction.call,
        "evidence": run.decision.call(prediction.probability),
        "uncertain": prediction.uncertain,
        "unlike_training_images": prediction.unlike_training_images,
        "image": data_uri(_shrink(shown), JPEG),
        "heat": data_uri(_coloured(heat), PNG),
        "hottest": float(heat.max()),
        "width": image.shape[1],
        "height": image.shape[0],
    }


def _shrink(image: np.ndarray) -> np.ndarray:
    scale = _MAX_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _coloured(heat: np.ndarray) -> np.ndarray:
    """Returns the colours of :func:`se_resnet.explain.overlay` with the heat as alpha."""
    import matplotlib

    picture = matplotlib.colormaps["inferno"](heat, bytes=True)
    picture[..., 3] = np.rint(255 * heat)
    return picture
