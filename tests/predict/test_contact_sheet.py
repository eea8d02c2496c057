"""The page of predictions in a real browser."""

from __future__ import annotations

import pytest

from se_resnet.predict.folder import predict_folder
from tests.helpers.browser import FAULTS, LEGIBILITY, SCHEMES, WIDTHS
from tests.helpers.image_trees import encode, random_image
from tests.helpers.run_folders import make_run_folder

# Width and height in pixels.
SHAPES = {"wide.png": (46, 70), "square.png": (64, 64), "tall.png": (90, 30)}


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheet")
    (folder / "in").mkdir()
    for seed, (name, shape) in enumerate(SHAPES.items()):
        (folder / "in" / name).write_bytes(encode(random_image(shape, seed)))
    predict_folder(make_run_folder(folder / "run"), folder / "in", folder / "out")
    return folder / "out" / "predictions.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_can_be_read_in_both_schemes(browser, sheet, width, scheme):
    browser.prefer(scheme)
    browser.open(sheet, width)
    browser.evaluate("[...document.images].forEach((image) => { image.loading = 'eager'; })")
    browser.wait("[...document.images].every((image) => image.complete)")
    assert browser.messages + browser.evaluate(FAULTS) + browser.evaluate(LEGIBILITY) == []
    colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
    browser.prefer("light")


def test_pictures_keep_their_shape_before_they_are_loaded(browser, sheet):
    browser.open(sheet, 1280)
    found = browser.evaluate(
        "Object.fromEntries([...document.images].map((image) => [image.alt.split(',')[0],"
        " [image.getAttribute('width'), image.getAttribute('height')].map(Number)]))"
    )
    assert found == {name: [2 * width, height] for name, (width, height) in SHAPES.items()}


def test_the_overlay_is_named_after_the_call(browser, sheet):
    browser.open(sheet, 1280)
    for call, names in browser.evaluate(
        "[...document.querySelectorAll('.cards li')].map((card) => [card.querySelector('.call')"
        ".textContent.trim().split(' ')[0], card.querySelector('.names').textContent])"
    ):
        assert names == f"imageevidence for {call}"
