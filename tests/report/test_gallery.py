from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pytest

from se_resnet import explain
from se_resnet.explain import attention_gates
from se_resnet.images.resize import resize
from se_resnet.metrics.predictions import Predictions
from se_resnet.models.classifier import Classifier
from se_resnet.models.resnet import create_model
from se_resnet.report import gallery
from se_resnet.weights import pretrained
from tests.helpers.networks import randomised


def predictions(label, probability):
    n = len(label)
    text = np.array([f"{i}" for i in range(n)])
    return Predictions(
        file=text,
        slide=text,
        accession=text,
        magnification=np.full(n, 40),
        subtype=text,
        label=np.asarray(label),
        probability=np.asarray(probability, np.float64),
    )


def network(attention="se"):
    model = create_model(attention=attention, stage_sizes=(1, 1), width=4)
    classifier = Classifier(model, pretrained.load("none").preprocessing, (16, 16), "squash")
    return classifier, randomised(model)


def test_the_most_confident_errors_come_first():
    label = [1, 1, 1, 0, 0, 0, 1, 0]
    probability = [0.4, 0.1, 0.3, 0.6, 0.95, 0.8, 0.9, 0.5]
    groups = gallery.select(predictions(label, probability), errors=2)
    assert [
        (group.label, group.correct, group.total, group.index.tolist()) for group in groups
    ] == [
        (1, False, 3, [1, 2]),
        (0, False, 4, [4, 5]),
        (1, True, 1, [6]),
        (0, True, 0, []),
    ]


def test_the_threshold_decides_what_is_an_error():
    shown = predictions([1, 0], [0.4, 0.45])
    assert [group.total for group in gallery.select(shown, 0.5)] == [1, 0, 0, 1]
    assert [group.total for group in gallery.select(shown, 0.4)] == [0, 1, 1, 0]


def test_correct_ones_are_drawn_at_random_by_the_seed():
    shown = predictions(np.ones(100, int), np.linspace(0.5, 1, 100))
    draws = [gallery.select(shown, seed=seed)[2].index.tolist() for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3
    assert all(len(draw) == 3 and draw == sorted(draw, reverse=True) for draw in draws)


def decode(uri):
    assert uri.startswith("data:image/jpeg;base64,")
    raw = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return cv2.imdecode(raw, cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def test_pictures_are_those_of_the_rows_and_explain_the_call():
    classifier, variables = network()
    rng = np.random.default_rng(0)
    # Smooth, so that JPEG keeps the pixels near what they were.
    coarse = rng.integers(0, 256, (12, 2, 2, 3)).astype(np.uint8)
    pixels = np.stack([cv2.resize(one, (16, 16)) for one in coarse])
    rows = np.arange(12)[::-1]
    shown = predictions([1, 0] * 6, rng.random(12))
    forward = classifier.make_predict()
    groups = gallery.make(*(forward, variables, pixels, rows, shown), batch_size=5, threshold=0.3)
    pictures = [(group, picture) for group in groups for picture in group["pictures"]]
    assert len(pictures) >= 8
    for group, picture in pictures:
        image = pixels[rows[int(picture["file"])]]
        assert picture["probability"] == shown.probability[int(picture["file"])]
        assert np.abs(decode(picture["image"]) - image).mean() < 12
        heat = explain.grad_cam(
            classifier,
            variables,
            image[None],
            stage="stage2",
            target=int(picture["probability"] >= 0.3),
        )[0]
        assert np.abs(decode(picture["overlay"]) - explain.overlay(image, heat)).mean() < 12
        assert group["correct"] == (
            (picture["probability"] >= 0.3) == shown.label[int(picture["file"])]
        )


def smooth(shape, seed=0):
    """An image that JPEG keeps nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, shape[::-1])


@pytest.mark.parametrize("rule", ["squash", "crop_end"])
def test_pictures_have_the_shape_of_the_image_file(rule):
    classifier, variables = network()
    image = smooth((460, 700))
    pixels = resize(image, (16, 16), rule)[None]
    content = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    asked = []

    def originals(files):
        asked.append(files)
        return {"0": content}

    groups = gallery.make(
        *(classifier.make_predict(), variables, pixels, np.arange(1), predictions([1], [0.9])),
        batch_size=1,
        originals=originals,
        rule=rule,
    )
    (picture,) = [picture for group in groups for picture in group["pictures"]]
    assert asked == [{"0"}]
    assert picture["full"] == "gallery/malignant-1.jpg"
    pair = cv2.imdecode(np.frombuffer(picture["content"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert pair.shape == (460, 1400, 3)
    assert np.abs(pair[:, :700].astype(int) - image).mean() < 4
    heat = explain.grad_cam(classifier, variables, pixels, target=1)[0]
    assert heat.max() > 0
    spread = explain.spread(heat, (460, 700), rule)
    assert np.abs(pair[:, 700:].astype(int) - explain.overlay(image, spread)).mean() < 4
    # The network does not see the left part of the image by this rule, which has no overlay.
    assert bool(spread[:, :239].any()) == (rule == "squash")
    for name in ("image", "overlay"):
        height, width, _ = decode(picture[name]).shape
        assert width / height == pytest.approx(700 / 460, rel=0.01)
        assert height * width < 61_000


@pytest.mark.parametrize("found", [{}, {"0": b"no image"}])
def test_a_file_that_is_gone_is_shown_as_the_network_sees_it(found):
    classifier, variables = network()
    pixels = smooth((16, 16))[None]
    groups = gallery.make(
        *(classifier.make_predict(), variables, pixels, np.arange(1), predictions([1], [0.9])),
        batch_size=1,
        originals=lambda files: found,
    )
    (picture,) = [picture for group in groups for picture in group["pictures"]]
    assert picture["full"] == "" and picture["content"] == b""
    assert np.abs(decode(picture["image"]) - pixels[0]).mean() < 12


def test_every_picture_of_the_largest_gallery_has_a_file_of_its_own():
    classifier, variables = network()
    label = np.arange(40) % 2
    probability = np.where(np.arange(40) < 20, label, 1 - label) * 0.8 + 0.1
    content = cv2.imencode(".png", smooth((20, 30)))[1].tobytes()
    groups = gallery.make(
        *(classifier.make_predict(), variables, np.zeros((40, 16, 16, 3), np.uint8)),
        np.arange(40),
        predictions(label, probability),
        batch_size=16,
        originals=lambda files: dict.fromkeys(files, content),
    )
    names = [picture["full"] for group in groups for picture in group["pictures"]]
    assert sorted(names) == sorted(gallery.FILES) and len(names) == 18


@pytest.mark.parametrize("limit", [5, 40])
def test_gates_of_a_part_of_the_images(limit):
    classifier, variables = network()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    rows, label = np.arange(40)[::-1], (np.arange(40) >= 20).astype(int)
    forward = classifier.make_predict()
    found = attention_gates.describe(
        forward, variables, pixels, rows, label, batch_size=16, limit=limit
    )
    names = [row["block"] for row in found["blocks"]]
    assert names == 2 * ["stage1/block1"] + 2 * ["stage2/block1"]
    assert sum(row["images"] for row in found["stages"]) == 2 * limit
    assert {row["class"] for row in found["stages"]} == {"benign", "malignant"}
    if limit == 40:
        direct = explain.gates(classifier, variables, pixels[rows])
        for row, expected in zip(found["stages"], explain.gate_summary(direct, label), strict=True):
            assert row["mean"] == pytest.approx(expected["mean"], rel=1e-5)
            assert row["q95"] == pytest.approx(expected["q95"], rel=1e-5)
            assert row["q05"] < row["q95"]


def test_a_network_without_gates_has_none_to_show():
    classifier, variables = network("none")
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    found = attention_gates.describe(
        *(classifier.make_predict(), variables, pixels, np.arange(3), np.array([0, 1, 1])),
        batch_size=2,
    )
    assert found == {"blocks": [], "stages": []}


def test_an_evaluation_shows_both(run):
    html = (run / "eval" / "test" / "report.html").read_text()
    assert html.count("data:image/jpeg;base64,") >= 2
    folder = run / "eval" / "test"
    links = re.findall(r'href="(gallery/[^"]+)"', html)
    assert links and {*links} == {f"gallery/{path.name}" for path in (folder / "gallery").iterdir()}
    for link in links:
        assert cv2.imread(str(folder / link)) is not None
    assert html.count('badge right">✓ right') + html.count('badge wrong">✗ wrong') > len(links)
    assert "stage2/block1" in html
