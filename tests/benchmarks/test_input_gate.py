"""Images of the benchmark of the input gate."""

from __future__ import annotations

import numpy as np

from benchmarks import damaged_images, input_gate
from benchmarks.damaged_images import DAMAGED, NO_TISSUE, make
from tests.helpers.image_trees import random_image


def test_every_kind_is_made_alike_from_a_seed():
    tissue = [random_image((700, 460), seed) for seed in range(2)]
    first, second = make(tissue, 3), make(tissue, 3)
    assert set(first) == {*NO_TISSUE, *DAMAGED} and len(first) * input_gate.EACH == 200
    for kind, images in first.items():
        assert len(images) == 3
        for image, again in zip(images, second[kind], strict=True):
            assert image.dtype == np.uint8 and image.shape == (*damaged_images.SHAPE, 3), kind
            np.testing.assert_array_equal(image, again)
    assert any((first["blank"][0] != image).any() for image in first["blank"][1:])


def test_a_row_counts_what_is_withheld():
    row = input_gate.row("text", ["", "blank", "blank", "scale"])
    assert (row["number"], row["no call"], row["reasons"]) == ("4", "75.0 %", "blank 2, scale 1")
