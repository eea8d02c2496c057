from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from se_resnet.training.losses import Loss

LOGITS = jnp.array([-3.0, -0.5, 0.0, 0.5, 3.0])
P = 1 / (1 + np.exp(-np.asarray(LOGITS, np.float64)))


def test_by_default_it_is_binary_cross_entropy():
    for label in (0.0, 1.0):
        labels = jnp.full(5, label)
        expected = optax.sigmoid_binary_cross_entropy(LOGITS, labels)
        np.testing.assert_array_equal(Loss()(LOGITS, labels), expected)


def test_smoothed_labels_share_a_part_between_the_classes():
    found = Loss(label_smoothing=0.2)(LOGITS, jnp.ones(5))
    np.testing.assert_allclose(found, -0.9 * np.log(P) - 0.1 * np.log(1 - P), rtol=1e-5)


def test_focal_loss_is_that_of_the_paper():
    positive = Loss(focal_gamma=2.0)(LOGITS, jnp.ones(5))
    negative = Loss(focal_gamma=2.0)(LOGITS, jnp.zeros(5))
    np.testing.assert_allclose(positive, -((1 - P) ** 2) * np.log(P), rtol=1e-5)
    np.testing.assert_allclose(negative, -(P**2) * np.log(1 - P), rtol=1e-5)
    half = Loss(focal_gamma=2.0)(LOGITS, jnp.full(5, 0.5))
    np.testing.assert_allclose(half, (positive + negative) / 2, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradients_are_finite_at_extreme_logits(gamma):
    extreme = jnp.array([-200.0, 200.0])
    for label in (0.0, 1.0):
        loss = lambda x, label=label: Loss(focal_gamma=gamma)(x, jnp.full(2, label)).sum()  # noqa: E731
        assert np.isfinite(jax.grad(loss)(extreme)).all() and np.isfinite(loss(extreme))
