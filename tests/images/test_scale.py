"""Images at the scale of a network: resampled, mirrored, cut into tiles, blended again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from se_resnet import PIXEL_LIMIT
from se_resnet.images.scale import (
    BREAKHIS_UM_PER_PX,
    MAX_TILES,
    Scale,
    bring_to_scale,
    parse_um_per_px,
    tile_starts,
)
from tests.helpers.image_trees import random_image


def test_a_side_is_covered_by_the_fewest_evenly_spaced_tiles():
    for tile in (1, 7, 16):
        for length in range(tile, 5 * tile + 3):
            starts = tile_starts(length, tile)
            covered = {pixel for start in starts for pixel in range(start, start + tile)}
            assert covered == set(range(length))
            assert len(starts) == math.ceil(length / tile), "no fewer tiles cover it"
            gaps = np.diff(starts)
            assert len(gaps) == 0 or np.ptp(gaps) <= 1


def test_a_large_image_is_cut_row_by_row_and_the_middle_tile_is_in_its_middle():
    image = random_image((70, 46))
    tiled = bring_to_scale(image, 0.5, Scale(0.5, (16, 20)))
    assert tiled.pixels is image, "an image at the scale is not resampled"
    assert len(tiled) == 3 * 4 and (tiled.rows, tiled.columns) == ((0, 15, 30), (0, 17, 33, 50))
    tiles = list(tiled)
    assert {tile.shape for tile in tiles} == {(16, 20, 3)}
    assert (tiles[0] == image[:16, :20]).all()
    assert (tiles[3] == image[:16, 50:]).all() and (tiles[4] == image[15:31, :20]).all()
    assert (tiled.tile(11) == image[30:, 50:]).all()
    assert (tiled.middle == image[15:31, 25:45]).all()
    assert not tiled.is_mirrored


def test_halving_averages_areas_and_doubling_interpolates():
    image = random_image((70, 46)).astype(np.float64)
    mean = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
    half = bring_to_scale(image.astype(np.uint8), 0.25, Scale(0.5, (8, 8))).pixels
    assert half.shape == (23, 35, 3) and np.abs(half - mean).max() <= 0.5
    ramp = np.repeat(np.arange(0, 200, 20, dtype=np.uint8)[None, :, None], 10, 0).repeat(3, 2)
    double = bring_to_scale(ramp, 1.0, Scale(0.5, (8, 8))).pixels
    assert double.shape == (20, 20, 3)
    assert (np.diff(double[5, 1:-1, 0].astype(int)) == 10).all()


def test_the_same_tissue_at_two_magnifications_looks_alike_at_one_scale():
    rng = np.random.default_rng(0)
    fine = np.kron(rng.integers(0, 256, (30, 40)), np.ones((20, 20)))[..., None].repeat(3, 2)
    fine = fine.astype(np.uint8)  # 600x800 at 0.05 µm, cells of 1 µm
    coarse = fine.reshape(300, 2, 400, 2, 3).mean((1, 3)).astype(np.uint8)  # at 0.10 µm
    scale = Scale(0.2, (64, 64))
    a = bring_to_scale(fine, BREAKHIS_UM_PER_PX[400], scale)
    b = bring_to_scale(coarse, BREAKHIS_UM_PER_PX[200], scale)
    assert a.pixels.shape == b.pixels.shape == (150, 200, 3)
    assert np.abs(a.pixels.astype(int) - b.pixels).max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (50, 3), (15, 16)])
def test_a_side_shorter_than_a_tile_is_mirrored(shape):
    image = random_image(shape[::-1])
    tiled = bring_to_scale(image, 1.0, Scale(1.0, (16, 16)))
    top, left, height, width = tiled.inner
    assert (height, width) == shape and tiled.is_mirrored
    assert (tiled.pixels[top : top + height, left : left + width] == image).all()
    assert min(tiled.pixels.shape[:2]) >= 16
    # At the edge: the outermost pixels are repeated, and those behind them follow.
    for depth in range(min(top, height)):
        border = tiled.pixels[top - 1 - depth, left : left + width]
        assert (border == image[depth]).all()
    for depth in range(min(left, width)):
        border = tiled.pixels[top : top + height, left - 1 - depth]
        assert (border == image[:, depth]).all()
    assert tiled.shown(1000).shape == image.shape
    assert tiled.blend(np.ones(len(tiled)), shape) == pytest.approx(1)


def test_where_tiles_overlap_the_map_has_their_mean():
    tiled = bring_to_scale(random_image((24, 16)), 1.0, Scale(1.0, (16, 16)))
    assert tiled.columns == (0, 8)
    blended = tiled.blend(np.array([0.2, 0.8]), (16, 24))
    assert blended[:, :8] == pytest.approx(0.2) and blended[:, 16:] == pytest.approx(0.8)
    assert blended[:, 8:16] == pytest.approx(0.5)
    rows = bring_to_scale(random_image((16, 32)), 1.0, Scale(1.0, (16, 16)))
    small = rows.blend(np.array([0.0, 1.0]), (4, 2))
    np.testing.assert_allclose(small, [[0, 0], [0, 0], [1, 1], [1, 1]])


@pytest.mark.parametrize(
    ("um_per_px", "shape", "words"),
    [
        (420.0, (46, 70), "has a scale of 420, which is no plausible scale: give micrometres"),
        (math.nan, (46, 70), "has a scale of nan, which is no plausible scale"),
        (20.0, (46, 70), "would have to be enlarged 40 times to become 0.5, more than 20 times"),
        (5.0, (600, 700), r"would have 7,000x6,000 pixels at the network's scale.*41,\d+ tiles"),
    ],
)
def test_a_scale_that_must_be_a_mistake_is_refused(um_per_px, shape, words):
    image = np.zeros((*shape, 3), np.uint8)
    assert MAX_TILES < 7000 * 6000 / 32**2
    with pytest.raises(ValueError, match=words):
        bring_to_scale(image, um_per_px, Scale(0.5, (32, 32)))


def test_an_image_that_would_fill_the_memory_at_the_scale_is_refused(monkeypatch):
    monkeypatch.setenv(PIXEL_LIMIT, "20000")
    image = np.zeros((100, 150, 3), np.uint8)
    assert len(bring_to_scale(image, 0.5, Scale(0.5, (64, 64)))) == 6
    with pytest.raises(ValueError, match=r"20,000 pixels .* allows at the network's scale; its"):
        bring_to_scale(image, 1.0, Scale(0.5, (64, 64)))


@pytest.mark.parametrize("text", ["", "x", "0_4", "0", "-1", "nan", "inf", "0.00042", "420"])
def test_what_is_no_scale_is_named(text):
    assert parse_um_per_px("0.42") == parse_um_per_px("0,42") == 0.42
    with pytest.raises(ValueError, match="micrometres per pixel"):
        parse_um_per_px(text)
