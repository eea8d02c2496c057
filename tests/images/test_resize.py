from __future__ import annotations

import numpy as np
import pytest

from se_resnet.images.resize import resize
from tests.helpers.image_trees import random_image


def test_none_returns_the_pixels_untouched():
    image = random_image((700, 460))
    assert (resize(image, (460, 700), "none") == image).all()


def test_squash_halving_averages_areas():
    image = random_image((70, 46)).astype(np.float64)
    mean = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
    ours = resize(image.astype(np.uint8), (23, 35), "squash")
    assert np.abs(ours - mean).max() <= 0.5


def test_squash_shrinking_does_not_alias():
    stripes = np.zeros((460, 700, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(resize(stripes, (230, 350), "squash")) <= 1
    # One axis shrinks, the other grows.
    assert np.ptp(resize(stripes, (512, 350), "squash")) <= 1


def test_crop_keeps_the_aspect_and_the_centre():
    image = np.zeros((460, 700, 3), np.uint8)
    image[115:345, 235:465] = 255  # a centred square of half the height
    cropped = resize(image, (224, 224), "crop")
    assert cropped.shape == (224, 224, 3)
    white = cropped[..., 0] > 127
    assert white.any(axis=1).sum() == pytest.approx(112, abs=1)
    assert white.any(axis=0).sum() == pytest.approx(112, abs=1)
    assert white[112, 112] and not white[0].any()


@pytest.mark.parametrize("rule", ["squash", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (31, 17), (460, 700)])
@pytest.mark.parametrize("size", [(224, 224), (17, 33), (1, 1)])
def test_any_shape_reaches_any_size(rule, shape, size):
    image = np.full((*shape, 3), 77, np.uint8)
    resized = resize(image, size, rule)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8
    assert (resized == 77).all()
