from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from se_resnet.metrics.intervals import (
    clopper_pearson,
    degrees_of_freedom,
    floor_of_difference,
    image_auc_interval,
    kish,
    newcombe_auc,
    share_interval,
    welch,
)


def test_effective_patients():
    assert kish(np.array([5.0, 5, 5])) == 3
    assert kish(np.array([90.0, 5, 5])) == pytest.approx(100**2 / 8150)
    assert kish(np.array([7.0])) == 1
    np.testing.assert_allclose(kish(np.array([[1.0, 1], [3, 1]])), [2, 1.6])


@pytest.mark.parametrize(("right", "patients"), [(0, 5), (3, 7), (6, 6), (44, 44), (12, 44)])
def test_exact_interval_agrees_with_scipy(right, patients):
    expected = stats.binomtest(right, patients).proportion_ci(method="exact")
    assert clopper_pearson(right, patients) == pytest.approx([expected.low, expected.high])


def test_reference_values():
    """Perfect results of few patients."""
    assert newcombe_auc(1.0, 2, 6) == (pytest.approx(0.51, abs=0.005), 1)
    recall = share_interval(np.array([5.0, 9, 3, 4, 4, 8]), np.array([5.0, 9, 3, 4, 4, 8]))
    assert recall == pytest.approx([0.54, 1], abs=0.005)
    rate = share_interval(np.ones(44), np.ones(44))
    assert rate == pytest.approx([0.92, 1], abs=0.005)
    assert 0.005 < stats.t.ppf(0.975, 43) * np.sqrt(floor_of_difference(44)) < 0.02


def test_newcombe_solves_its_equation():
    """The bounds are 1.96 standard errors of Hanley and McNeil away, at the bounds."""
    benign, malignant, auc = 12, 32, 0.87
    for theta in newcombe_auc(auc, benign, malignant):
        others = (benign + malignant) / 2 - 1
        variance = (
            theta
            * (1 - theta)
            * (1 + others * (1 - theta) / (2 - theta) + others * theta / (1 + theta))
            / (benign * malignant)
        )
        assert abs(theta - auc) == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(variance))
    low, high = newcombe_auc(0.13, malignant, benign)
    mirrored = newcombe_auc(0.87, benign, malignant)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)
    assert newcombe_auc(0.0, 2, 6)[0] == 0


def test_folds_with_pairs_within_widen_the_interval():
    one = newcombe_auc(0.9, 20, 20)
    folds = newcombe_auc(0.9, np.full(5, 4), np.full(5, 4))
    assert folds[0] < one[0] and folds[1] > one[1]
    assert newcombe_auc(0.9, np.array([20, 0]), np.array([20, 7])) == pytest.approx(one)


def test_share_interval_by_hand():
    right, sizes = np.array([4.0, 9, 2, 7]), np.array([6.0, 9, 5, 8])
    bounds = []
    for r, n in ((right, sizes), (np.append(right, 1.75), np.append(sizes, 3.5))):
        q, total, k = r.sum() / n.sum(), n.sum(), len(n)
        residual = (r - q * n) / (1 - n / total)
        error = np.sqrt((k - 1) / k * np.sum(residual**2)) / total
        squares = residual**2
        matched = 2 / (np.sum(squares**2) / np.sum(squares) ** 2 - 1 / k)
        freedom = max(1, min(28**2 / 206 - 1, matched))
        width = stats.t.ppf(0.975, freedom) * error / (q * (1 - q))
        logit = np.log(q / (1 - q))
        bounds.append([1 / (1 + np.exp(-logit + width)), 1 / (1 + np.exp(-logit - width))])
    expected = [min(b[0] for b in bounds), max(b[1] for b in bounds)]
    assert share_interval(right, sizes) == pytest.approx(expected, abs=1e-12)
    table = share_interval(np.stack([right, sizes - right]), np.stack([sizes, sizes]))
    np.testing.assert_allclose(table[:, 0], expected)
    np.testing.assert_allclose(table[:, 1], [1 - expected[1], 1 - expected[0]])
    with_nobody = share_interval(np.append(right, 0), np.append(sizes, 0))
    assert with_nobody == pytest.approx(expected, abs=1e-12)
    wider = share_interval(right, sizes, other_variance=0.02, other_freedom=3.0)
    assert wider[0] < expected[0] and wider[1] > expected[1]


def test_auc_of_images_has_a_floor():
    no_variance = image_auc_interval(1.0, 0.0, 1.0, 2, 6)
    assert no_variance == pytest.approx(newcombe_auc(1.0, 6, 18))
    uncertain = image_auc_interval(0.9, 0.011, 1.2, 2, 6)
    assert uncertain[0] < newcombe_auc(0.9, 6, 18)[0]


def test_welch():
    assert welch(1.0, 5, 0.0, 9) == pytest.approx(5)
    assert welch(1.0, 0.2, 0.0, 9) == 1
    assert welch(1.0, 5, 1.0, 5) == pytest.approx(10)
    assert welch(0.0, 5, 0.0, 9) == 5


def test_degrees_of_freedom_follow_the_concentration_of_the_variance():
    rng = np.random.default_rng(0)
    normal = degrees_of_freedom(rng.standard_normal((2000, 40)), np.full(2000, 40.0), 40)
    assert 20 < np.median(normal) <= 39
    one_patient = np.array([0.01] * 39 + [5.0])
    assert degrees_of_freedom(one_patient, np.array(40.0), 40) < 3
    assert degrees_of_freedom(np.full(8, 0.3), np.array(8.0), 8) == 7
    assert degrees_of_freedom(np.zeros(8), np.array(1.5), 8) == 1
    two_of_twenty = np.array([0.5, -0.5] + [0.0] * 18)
    expected = 2 / (1 / 2 - 1 / 20)
    assert degrees_of_freedom(two_of_twenty, np.array(20.0), 20) == pytest.approx(expected)
