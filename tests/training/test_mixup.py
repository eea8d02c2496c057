from __future__ import annotations

import jax
import numpy as np
import pytest

from se_resnet.training.losses import Loss
from se_resnet.training.mixup import Mixing

COUNT = 64
KEY = jax.random.key(0)


def make_batch() -> dict[str, np.ndarray]:
    """Each image is one grey value, so that its pixels tell whose they are."""
    value = np.arange(COUNT, dtype=np.float32)
    return {
        "image": np.broadcast_to(value[:, None, None, None], (COUNT, 12, 10, 3)).copy(),
        "label": (value < COUNT / 2).astype(np.float32),
        "importance": np.where(value < COUNT / 2, 0.5, 2.0).astype(np.float32),
    }


def own_share(mixed) -> np.ndarray:
    """Of each pixel: 1 where it is the image's own, 0 where it is its partner's."""
    own = np.arange(COUNT)[:, None, None]
    partner = own[::-1]
    return (np.asarray(mixed["image"])[..., 0] - partner) / (own - partner)


def test_off_it_changes_nothing():
    batch = make_batch()
    for name, values in Mixing()(KEY, batch).items():
        assert values is batch[name]


def test_mixup_blends_whole_images():
    share = own_share(Mixing(mixup=1.0)(KEY, make_batch()))
    assert np.ptp(share, axis=(1, 2)).max() < 1e-4
    drawn = share[:, 0, 0]
    assert 0 <= drawn.min() < 0.2 and 0.8 < drawn.max() <= 1 and 0.35 < drawn.mean() < 0.65
    extreme = own_share(Mixing(mixup=0.05)(KEY, make_batch()))[:, 0, 0]
    assert (np.abs(extreme - 0.5) > 0.45).mean() > 0.6, "alpha decides the shares"


def test_cutmix_pastes_boxes():
    share = own_share(Mixing(cutmix=1.0)(KEY, make_batch()))
    assert np.minimum(np.abs(share), np.abs(share - 1)).max() < 1e-4
    pasted = share < 0.5
    boxes = 0
    for mask in pasted:
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            boxes += 1
    assert boxes > COUNT / 2 and 0.2 < pasted.mean() < 0.6


def test_with_both_each_image_gets_one():
    share = own_share(Mixing(mixup=1.0, cutmix=1.0)(KEY, make_batch()))
    blended = ((share > 0.01) & (share < 0.99)).all(axis=(1, 2))
    assert COUNT / 4 < blended.sum() < COUNT * 3 / 4


@pytest.mark.parametrize("mixing", [Mixing(mixup=1.0), Mixing(cutmix=1.0), Mixing(1.0, 1.0)])
@pytest.mark.parametrize("loss", [Loss(), Loss(focal_gamma=2.0, label_smoothing=0.1)])
def test_the_loss_is_that_of_both_labels_by_their_shares(mixing, loss):
    batch = make_batch()
    mixed = mixing(KEY, batch)
    logits = np.linspace(-2, 2, COUNT, dtype=np.float32)
    share = own_share(mixed).mean((1, 2))
    own = batch["importance"] * loss(logits, batch["label"])
    partners = batch["importance"][::-1] * loss(logits, batch["label"][::-1])
    expected = share * own + (1 - share) * partners
    found = mixed["importance"] * loss(logits, mixed["label"])
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def test_the_key_decides():
    first, again, other = (
        Mixing(1.0, 1.0)(jax.random.key(seed), make_batch()) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (np.asarray(first["image"]) != np.asarray(other["image"])).any()
