"""The page of a run with a scale: it asks for the scale of an image, and shows a map."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from se_resnet.images.scale import Scale
from se_resnet.predict.folder import predict_folder
from tests.helpers.browser import FAULTS
from tests.helpers.image_files import picture
from tests.helpers.image_trees import encode
from tests.helpers.marks import NEEDS_APP
from tests.helpers.run_folders import make_run_folder
from tests.helpers.serving import request, serving

pytestmark = NEEDS_APP
DONE = "document.getElementById('result').getAttribute('aria-busy') === 'false'"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("scaled") / "run", Scale(0.5, (24, 24)))


@pytest.fixture(scope="module")
def port(run):
    from se_resnet.app.server import create_page

    with serving(create_page(run, 2**26), answer_seconds=60.0) as port:
        yield port


@pytest.fixture
def image(tmp_path) -> Path:
    (tmp_path / "tissue.png").write_bytes(encode(picture(460, 700)))
    return tmp_path / "tissue.png"


def analyse(port, content: bytes, query: str) -> dict:
    return json.loads(request(port, "POST", f"/analyse{query}", content)[1])


def pixels(uri: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)


def test_the_answer_is_that_of_the_command_with_a_map_of_the_tiles(run, port, image, tmp_path):
    answer = analyse(port, image.read_bytes(), "?um_per_px=0.1")
    (one,) = predict_folder(run, image, tmp_path / "out", um_per_px=0.1)
    assert answer["probability"] == pytest.approx(one.probability, abs=1e-6)
    assert (answer["tiles"], answer["um_per_px"]) == (24, 0.1) and one.tiles == 24
    assert (answer["width"], answer["height"]) == (700, 460)
    assert pixels(answer["whole"]).shape == (92, 140, 3)
    alpha = pixels(answer["map"])[..., 3] / 255
    shown = cv2.imread(str(tmp_path / "out/overlays/tissue.png.map.png"))
    assert alpha.shape == (92, 140) and shown.shape == (92, 280, 3)
    assert np.ptp(alpha) > 0.01 and abs(alpha.mean() - one.probability) < 0.2


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "has no known scale: write the side of its pixels"),
        ("?um_per_px=", "has no known scale"),
        ("?um_per_px=x", "has a scale of 'x', which is not a number of micrometres"),
        ("?um_per_px=420", "has a scale of '420', which is no plausible scale"),
        ("?um_per_px=15", "would have to be enlarged 30 times"),
    ],
)
def test_a_scale_that_is_missing_or_wrong_is_named(port, image, query, words):
    assert words in analyse(port, image.read_bytes(), query)["refused"]


def text(browser, name):
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def wait(browser, words):
    browser.wait(f"{DONE} && document.getElementById('status').textContent.includes('{words}')")


@pytest.mark.parametrize("width", [1280, 320])
def test_the_field_is_asked_for_and_the_map_is_shown(browser, port, image, width):
    browser.open(f"http://127.0.0.1:{port}", width)
    assert browser.messages + browser.evaluate(FAULTS) == []
    assert "0.5 µm per pixel, tiles of 24x24 pixels" in text(browser, "um-help")
    browser.choose_file("#file", image)
    wait(browser, "tissue.png cannot be used: it has no known scale")
    browser.evaluate(
        "(() => { const um = document.getElementById('um'); um.value = '0.1';"
        "um.dispatchEvent(new Event('change')); })()"
    )
    wait(browser, "called")
    assert not browser.evaluate("document.getElementById('over').hidden")
    assert "24 tiles of the image at 0.1 µm per pixel" in text(browser, "tiles")
    assert browser.evaluate("document.getElementById('map').naturalWidth") == 140
    assert browser.messages + browser.evaluate(FAULTS) == []
    if folder := os.environ.get("SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"scale-{width}.png")


def test_an_example_brings_its_scale_and_leaves_the_field_alone(browser, port):
    browser.open(f"http://127.0.0.1:{port}", 1280)
    scales = browser.evaluate(
        "[...document.querySelectorAll('[data-sample]')].map((b) => b.dataset.um)"
    )
    assert scales and set(scales) <= {"0.49", "0.2", "0.1", "0.05"}
    browser.evaluate("document.querySelector('[data-sample]').click()")
    wait(browser, "called")
    assert f"at {scales[0]} µm per pixel" in text(browser, "tiles")
    assert browser.evaluate("document.getElementById('um').value") == ""
