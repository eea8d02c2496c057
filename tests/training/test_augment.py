from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from se_resnet.errors import UserError
from se_resnet.runtime.mesh import batch_sharding, data_mesh
from se_resnet.training.augment import Augmentation

OFF = Augmentation(flip=False, rotate=False)
PARTS = {
    "flip": True,
    "rotate": True,
    "translate": 0.2,
    "zoom": 0.3,
    "stain": 0.3,
    "brightness": 0.2,
    "contrast": 0.3,
}


def smooth_images(count: int = 16, height: int = 24, width: int = 24) -> np.ndarray:
    """Smooth asymmetric pictures, away from black and white."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    phase = np.arange(count)[:, None, None]
    channels = [np.sin(3 * x + phase), np.cos(2 * y + phase), np.sin(4 * x * y + phase)]
    return (128 + 60 * np.stack(channels, axis=-1)).astype(np.float32)


def apply(augment: Augmentation, images: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.asarray(jax.jit(augment)(jax.random.key(seed), jnp.asarray(images)))


def test_everything_off_changes_nothing():
    images = smooth_images()
    assert (apply(OFF, images) == images).all()


@pytest.mark.parametrize("part", PARTS)
def test_each_part_does_something_alone(part):
    images = smooth_images()
    augment = dataclasses.replace(OFF, **{part: PARTS[part]})
    changed = apply(augment, images)
    assert changed.shape == images.shape and changed.dtype == np.float32
    assert (np.abs(changed - images).max(axis=(1, 2, 3)) > 1).mean() > 0.3
    assert (apply(augment, images) == changed).all()
    assert (apply(augment, images, seed=1) != changed).any()


def test_flips_and_rotations_reach_exactly_the_dihedral_views():
    image = smooth_images(1)
    views = {
        np.rot90(image[0], turns)[:, ::step].tobytes() for turns in range(4) for step in (1, -1)
    }
    augment = dataclasses.replace(OFF, flip=True, rotate=True)
    seen = {view.tobytes() for view in apply(augment, np.repeat(image, 200, axis=0))}
    assert seen == views


def test_rotation_alone_turns_and_never_mirrors():
    image = smooth_images(1)
    turned = apply(dataclasses.replace(OFF, rotate=True), np.repeat(image, 20, axis=0))
    assert {view.tobytes() for view in turned} == {
        image[0].tobytes(),
        np.rot90(image[0]).tobytes(),
    }


def test_images_that_are_not_square_keep_their_shape():
    images = smooth_images(height=20, width=30)
    augment = dataclasses.replace(OFF, flip=True, rotate=True)
    views = {image[::a, ::b].tobytes() for image in images for a in (1, -1) for b in (1, -1)}
    assert {view.tobytes() for view in apply(augment, images)} <= views


def test_translation_moves_pixels_and_mirrors_the_border():
    ramp = np.broadcast_to(np.arange(24.0, dtype=np.float32)[None, None, :, None], (64, 24, 24, 3))
    moved = apply(dataclasses.replace(OFF, translate=0.25), ramp)
    inside = moved[:, 0, 8:16, 0]
    shift = inside[:, :1] - 8
    np.testing.assert_allclose(inside - shift, np.tile(np.arange(8.0, 16), (64, 1)), atol=1e-3)
    assert np.abs(shift).max() <= 6.01 and np.ptp(shift) > 6
    assert moved.min() >= 0 and moved.max() <= 23.001


def test_zoom_scales_about_the_centre():
    ramp = np.broadcast_to(np.arange(24.0, dtype=np.float32)[None, None, :, None], (64, 24, 24, 3))
    zoomed = apply(dataclasses.replace(OFF, zoom=0.2), ramp)
    slope = np.diff(zoomed[:, 0, 8:16, 0], axis=1)
    np.testing.assert_allclose(slope, slope[:, :1].repeat(7, axis=1), atol=1e-3)
    assert 1 / slope.max() >= 0.8 - 1e-3 and 1 / slope.min() <= 1.2 + 1e-3 and np.ptp(slope) > 0.2
    centre = zoomed[:, 0, 11:13, 0].mean(axis=1)
    np.testing.assert_allclose(centre, 11.5, atol=1e-3)


def test_stain_jitter_scales_each_stain_and_leaves_white_alone():
    from se_resnet.training.augment import _RGB_OF_HED

    white = np.full((8, 4, 4, 3), 255, np.float32)
    assert np.abs(apply(dataclasses.replace(OFF, stain=0.5), white) - 255).max() < 1e-3
    # Pure haematoxylin stays haematoxylin: only its strength changes.
    density = 0.7 * _RGB_OF_HED[0]
    blue = np.broadcast_to(256 * np.exp(-density) - 1, (64, 4, 4, 3)).astype(np.float32)
    changed = -np.log((apply(dataclasses.replace(OFF, stain=0.5), blue) + 1) / 256)
    strength = changed[:, 0, 0] @ np.linalg.inv(_RGB_OF_HED)
    np.testing.assert_allclose(strength[:, 1:], 0, atol=1e-4)
    assert 0.34 < strength[:, 0].min() < 0.5 and 0.9 < strength[:, 0].max() < 1.06


def test_a_batch_divided_over_the_devices_gives_the_same():
    images, augment = smooth_images(), Augmentation(**PARTS)
    sharding = batch_sharding(data_mesh(), len(images))
    divided = jax.jit(augment)(jax.random.key(0), jax.device_put(images, sharding))
    np.testing.assert_allclose(divided, apply(augment, images), atol=1e-3)


def test_the_range_is_kept():
    extreme = np.random.default_rng(0).choice([0.0, 255.0], (8, 24, 24, 3)).astype(np.float32)
    changed = apply(Augmentation(**PARTS), extreme)
    assert changed.min() >= 0 and changed.max() <= 255 and np.isfinite(changed).all()


@pytest.mark.parametrize("change", [{"translate": -0.1}, {"stain": 1.5}, {"zoom": 1}])
def test_values_out_of_range_are_named(change):
    with pytest.raises(UserError, match=f"config.augment.{next(iter(change))}"):
        Augmentation(**change)


def test_contrast_keeps_the_mean_and_brightness_shifts_it():
    images = smooth_images(64)
    changed = apply(dataclasses.replace(OFF, contrast=0.3), images)
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), atol=0.1)
    shift = apply(dataclasses.replace(OFF, brightness=0.1), images) - images
    assert np.ptp(shift, axis=(1, 2, 3)).max() < 1e-3
    assert 20 < np.abs(shift).max() <= 25.501


def test_a_side_of_one_pixel_stays_finite():
    images = smooth_images(4, 1, 1)
    assert np.isfinite(apply(dataclasses.replace(OFF, translate=0.2, zoom=0.2), images)).all()
