from __future__ import annotations

from types import SimpleNamespace

import pytest

from se_resnet.images.scale import Scale
from se_resnet.report import scale_remarks as remarks
from se_resnet.report.reporting import model_text

NETWORK = Scale(0.5, (224, 224))


def test_the_scale_is_described_where_the_network_has_one():
    first, second, third = remarks.scale_notes(NETWORK, {0.42: 400}, [48] * 400)
    assert "0.5 µm per pixel, tiles of 224x224 pixels (112 x 112 µm)" in first
    assert "0.42 µm per pixel (400 images); each was resampled" in first
    assert second.startswith("Tiles: 19,200, at most 48 of an image. The logit of an image is")
    assert "on the middle tiles of the validation images" in third
    assert len(remarks.scale_notes(NETWORK, {0.5: 3}, [1] * 3)) == 2


def test_a_scale_that_is_not_known_is_said():
    assert remarks.scale_notes(None, {0.1: 7, 0.2: 3}) == []
    every = remarks.scale_notes(None, {None: 7})
    assert every == ["The scale of the evaluated images is not known."]
    some = remarks.scale_notes(None, {0.1: 3, None: 7})
    assert some == ["The scale of 7 of the 10 evaluated images is not known."]


@pytest.mark.parametrize(
    ("scale", "trained", "evaluated", "warned"),
    [
        (None, {0.1: 9}, {0.42: 4, None: 1}, "4 of the evaluated images have a scale on which"),
        (None, {0.1: 9, 0.2: 9}, {0.1: 1, 0.5: 2}, "2 of the evaluated"),
        (None, {0.1: 9}, {0.1001: 4}, ""),
        (None, {None: 9}, {0.42: 4}, ""),  # nothing to compare with
        (None, {0.1: 9}, {None: 4}, ""),
        (NETWORK, {0.1: 9}, {0.42: 4}, ""),  # it resamples them
    ],
)
def test_another_scale_is_a_warning_for_a_network_without_one(scale, trained, evaluated, warned):
    warnings = remarks.scale_warnings(scale, trained, evaluated)
    assert warned in " ".join(warnings) and bool(warnings) == bool(warned)


def test_other_images_are_compared_with_those_of_the_training():
    (note,) = remarks.training_scale_notes([200], {0.1: 30}, {None: 4})
    assert "training images: 200X. Scale of the training images: 0.1 µm per pixel (30" in note
    assert note.endswith("evaluated images: not known (4 images).")
    (note,) = remarks.training_scale_notes([], {None: 1}, {0.42: 1})
    assert "training images: not known." in note


def network_with(scale: dict, **facts) -> SimpleNamespace:
    """A study whose network has a scale."""
    network = {"size": [224, 224], "resize": "squash", "scale": scale} | facts
    return SimpleNamespace(first=SimpleNamespace(network=network))


def test_the_methods_section_describes_tiles_where_the_network_has_a_scale():
    study = network_with({"um_per_px": 0.5, "field": [224, 224]})
    text = model_text.resizing(study)
    assert text.startswith("Images were resampled to 0.5 µm per pixel and cut into tiles of 224 x")
    assert "resized" not in text and "trained on the middle tile of each image" in text
    text = model_text.resizing(network_with({"um_per_px": 0.1, "field": [460, 700]}))
    assert "tiles of 700 x 460 pixels, which were resized to 224 x 224 pixels by rule" in text
    assert "resampled" not in model_text.resizing(
        SimpleNamespace(first=SimpleNamespace(network={"size": [8, 8], "resize": "crop"}))
    )
