"""The page to try a run: what it shows, and the few addresses that it talks to."""

from __future__ import annotations

import base64
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
from se_resnet.images.decode import decode_image
from se_resnet.images.resize import resize
from se_resnet.predict.inference import predict
from se_resnet.predict.patients import BREAKHIS_PATIENT
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import Run, load_best
from se_resnet.runtime.files import read_small_file
from se_resnet.runtime.templates import render

_LONGEST = 768  # pixels of the picture that is sent back
_TEMPLATES = Path(__file__).parent / "templates"


class Analyst:
    """Says of one image what the run thinks of it, and where it looked.

    Args:
        run: the checkpoint.
    """

    def __init__(self, run: Run):
        self._run = run

    def warm_up(self) -> None:
        """Compiles what an image needs, so that nobody waits for it."""
        blank = np.zeros((1, *self._run.classifier.size, 3), np.uint8)
        predict(self._run, blank[None], ["blank"], BREAKHIS_PATIENT)
        for target in (0, 1):
            self._heat(blank, target)

    def __call__(self, content: bytes) -> dict[str, Any]:
        """Analyses the content of an image file.

        Returns:
            ``probability`` and ``calibrated_probability`` of malignant, ``call``, ``uncertain``,
            ``image`` (what the network was shown, JPEG) and ``heat`` (its Grad-CAM for the call,
            PNG whose alpha is the heat), both as data URI; ``hottest``, the largest heat, 0 where
            nothing speaks for the call and else 1; ``width`` and ``height`` of the image.

        Raises:
            ValueError: this is no image that can be used, with the reason.
        """
        image = decode_image(content)
        classifier = self._run.classifier
        try:
            tile = resize(image, classifier.size, classifier.resize)
        except UserError as error:
            raise ValueError(f"does not fit: {error}") from error
        (told,) = predict(self._run, tile[None, None], ["image"], BREAKHIS_PATIENT)
        heat = self._heat(tile[None], int(told.call == "malignant"))
        # Squashed, the network sees the whole image, which is nicer to look at as it came.
        shown = image if classifier.resize == "squash" else tile
        return {
            "probability": told.probability,
            "calibrated_probability": told.calibrated_probability,
            "call": told.call,
            "uncertain": told.uncertain,
            "image": _data_uri(_shrink(shown), ".jpg"),
            "heat": _data_uri(_coloured(heat), ".png"),
            "hottest": float(heat.max()),
            "width": image.shape[1],
            "height": image.shape[0],
        }

    def _heat(self, images: np.ndarray, target: int) -> np.ndarray:
        (heat,) = explain.grad_cam(self._run.classifier, self._run.variables, images, target=target)
        return heat


def create_page(workdir: Path, largest_image: int, attention: str = "none") -> Starlette:
    """The application that serves the page of a run.

    Args:
        workdir: folder of the run.
        largest_image: pixels that OpenCV was told to decode at most, for the page to say.
        attention: the run's own attention module, see :func:`se_resnet.runs.workdir.load_best`.

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
    analyse = Analyst(run)
    analyse.warm_up()

    async def page(_: Request) -> Response:
        return HTMLResponse(html)

    return Starlette(
        routes=[
            Route("/", page),
            upload_route("/analyse", analyse),
            *(_file(f"/{name}", _TEMPLATES / name) for name in ("app.css", "app.js")),
            *(_file(f"/samples/{i}", sample.path) for i, sample in enumerate(samples)),
        ],
        # A page elsewhere that gives its own name this machine's address learns nothing.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def _file(address: str, path: Path) -> Route:
    def serve(_: Request) -> Response:
        try:
            content = read_small_file(path)
        except (OSError, ValueError):  # a sample that is no longer there
            return Response(status_code=404)
        return Response(content, media_type=mimetypes.guess_type(path.name)[0])

    return Route(address, serve)


def _shrink(image: np.ndarray) -> np.ndarray:
    scale = _LONGEST / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _coloured(heat: np.ndarray) -> np.ndarray:
    """``uint8 [H, W, 4]``: the colours of :func:`se_resnet.explain.overlay`, hot is opaque."""
    import matplotlib

    picture = matplotlib.colormaps["inferno"](heat, bytes=True)
    picture[..., 3] = np.rint(255 * heat)
    return picture


def _data_uri(image: np.ndarray, suffix: str) -> str:
    swapped = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(suffix, swapped)
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"
