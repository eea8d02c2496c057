from __future__ import annotations

import numpy as np
import pytest
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from data.balance import make_plan
from data.feed.batch_order import blend
from data.image_neighbours import ImageNeighbours
from data.records import Records
from se_resnet.errors import UserError
from tests.helpers.datasets import make_images, make_records


def exact_blend(images: np.ndarray, plan, rows: np.ndarray) -> np.ndarray:
    """The plan's formula in float64, without rounding: ``[B, H * W * 3]``."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    weight = plan.weight[rows, None]
    return (1 - weight) * flat[plan.base[rows]] + weight * flat[plan.neighbour[rows]]


def imbalanced(benign=6, malignant=14, **options) -> tuple[Records, np.ndarray]:
    records = make_records(benign, malignant, **options)
    return records, make_images(records)


@pytest.mark.parametrize(
    ("method", "sampler"),
    [
        ("smote", SMOTE(random_state=3)),
        ("borderline_smote", BorderlineSMOTE(random_state=3)),
        ("adasyn", ADASYN(random_state=3)),
    ],
)
def test_blending_by_the_plan_equals_imbalanced_learn_on_pixels(method, sampler):
    records, images = imbalanced()
    # Random labels put majority images among the neighbours, which two of the methods need.
    label = np.random.default_rng(0).permutation(records.label)
    records = Records(**{**records.columns(), "label": label})
    flat = images[records.row].reshape(len(records), -1).astype(np.float64)
    expected, labels = sampler.fit_resample(flat, label)
    plan = make_plan(records, images, method=method, within_magnification=False, seed=3)
    assert plan.num_synthetic > 20
    assert (plan.label == labels).all()
    np.testing.assert_allclose(
        exact_blend(images, plan, np.arange(len(plan))), expected, rtol=0, atol=1e-9
    )
    assert (
        np.abs(blend(images, plan, np.arange(len(plan))).reshape(expected.shape) - expected).max()
        <= 0.501
    )


def test_within_magnification_equals_imbalanced_learn_on_each():
    records, images = imbalanced()
    plan = make_plan(records, images, method="smote", seed=5)
    for magnification in (40, 200):
        members = records.take(records.magnification == magnification)
        flat = images[members.row].reshape(len(members), -1).astype(np.float64)
        expected, _ = SMOTE(random_state=5).fit_resample(flat, members.label)
        rows = np.flatnonzero(
            np.isin(plan.base, members.row) & (np.arange(len(plan)) >= len(records))
        )
        np.testing.assert_allclose(
            exact_blend(images, plan, rows), expected[len(members) :], rtol=0, atol=1e-9
        )


def test_synthetic_images_keep_role_class_and_magnification():
    records, images = imbalanced()
    training = records.take(np.arange(len(records)) % 3 != 0)
    plan = make_plan(training, images, method="smote")
    assert set(plan.base) | set(plan.neighbour) <= set(training.row.tolist())
    by_row = {int(row): number for number, row in enumerate(records.row)}
    base = records.take(np.array([by_row[int(row)] for row in plan.base]))
    neighbour = records.take(np.array([by_row[int(row)] for row in plan.neighbour]))
    assert (base.magnification == neighbour.magnification).all()
    assert (base.label == neighbour.label).all() and (base.label == plan.label).all()
    for magnification in (40, 200):
        counts = np.bincount(plan.label[base.magnification == magnification])
        assert counts[0] == counts[1]


def test_real_images_come_first_and_whole():
    records, images = imbalanced()
    plan = make_plan(records, images, method="smote")
    real = slice(0, len(records))
    assert (plan.base[real] == records.row).all() and not plan.weight[real].any()
    pixels = blend(images, plan, np.arange(len(records)))
    assert (pixels == images[records.row]).all()


def test_thumbnails_find_neighbours_too():
    records = make_records(6, 14)
    images = make_images(records, size=(64, 64))
    plan = make_plan(records, images, method="smote", features="thumbnail")
    assert np.bincount(plan.label).tolist() == [140, 140]
    assert plan.num_synthetic == 80
    assert plan.sizes() == {"benign": 140, "malignant": 140, "synthetic": 80}


@pytest.mark.parametrize(
    ("left", "right"), [(np.arange(30), np.arange(30)), (np.arange(5), np.arange(3, 29))]
)
@pytest.mark.parametrize("block_distances", [2**23, 100, 1])
def test_neighbours_equal_scikit_learn(left, right, block_distances, monkeypatch):
    monkeypatch.setattr(ImageNeighbours, "_BLOCK_DISTANCES", block_distances)
    # More than one slab of columns, and the last one is not whole.
    features = np.random.default_rng(0).integers(0, 256, (30, 2500), np.uint8)
    one_hot = sparse.identity(30, format="csr")
    ours = ImageNeighbours(features, np.arange(30), 4).fit(one_hot[right])
    theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(features[right].astype(float))
    distances, nearest = ours.kneighbors(one_hot[left])
    expected_distances, expected = theirs.kneighbors(features[left].astype(float))
    assert (nearest == expected).all()
    np.testing.assert_allclose(distances, expected_distances, atol=1e-3)


def test_distances_are_exact_at_the_extremes():
    features = np.full((2, 150_528), 255, np.uint8)
    features[1] = 0
    features[1, 0] = 254
    search = ImageNeighbours(features, np.arange(2), 2)
    squared = search._squared_distances(np.arange(2), np.arange(2))
    assert squared.tolist() == [[0, 150_527 * 255**2 + 1], [150_527 * 255**2 + 1, 0]]


def test_class_weights_average_one_and_balance_the_classes():
    records, images = imbalanced()
    plan = make_plan(records, images, method="class_weights")
    assert len(plan) == len(records) and plan.importance.mean() == pytest.approx(1)
    sums = np.bincount(plan.label, plan.importance)
    assert sums[0] == pytest.approx(sums[1])


def test_oversample_repeats_whole_minority_images():
    records, images = imbalanced()
    plan = make_plan(records, images, method="oversample")
    assert np.bincount(plan.label).tolist() == [140, 140]
    assert (plan.base == plan.neighbour).all() and not plan.weight.any()


def test_none_leaves_everything():
    records, images = imbalanced()
    plan = make_plan(records, images, method="none")
    assert len(plan) == len(records) and (plan.importance == 1).all()


@pytest.mark.parametrize(("benign", "note"), [(3, "k_neighbors is 2"), (1, "is repeated")])
def test_few_minority_images_bend_the_method_and_say_so(benign, note):
    records, images = imbalanced(benign, 10, images=1, magnifications=(40,))
    plan = make_plan(records, images, method="smote")
    assert np.bincount(plan.label).tolist() == [10, 10]
    assert len(plan.notes) == 1 and note in plan.notes[0] and "40X" in plan.notes[0]


def test_a_magnification_without_one_class_stays_and_says_so():
    both, one = make_records(4, 8, magnifications=(40,)), make_records(0, 3, magnifications=(200,))
    columns = {name: np.concatenate([a, one.columns()[name]]) for name, a in both.columns().items()}
    records = Records(**{**columns, "row": np.arange(75)})
    plan = make_plan(records, make_images(records), method="smote")
    assert np.bincount(plan.label).tolist() == [40, 55]
    assert plan.notes == ("200X has no benign image and cannot be balanced",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "svm_smote"}, "cannot run as a plan"),
        ({"method": "kmeans_smote"}, "cannot run as a plan"),
        ({"method": "smite"}, "choose from smote"),
        ({"method": "smote", "features": "gist"}, "choose from pixels, thumbnail"),
        ({"method": "smote", "k_neighbors": 0}, "give 1 or more"),
    ],
)
def test_mistakes_are_named(options, words):
    records, images = imbalanced()
    with pytest.raises(UserError, match=words):
        make_plan(records, images, **options)


def test_adasyn_without_a_border_is_refused_kindly():
    records, images = imbalanced()
    images[records.row[records.label == 0]] //= 8
    with pytest.raises(UserError, match="use 'smote'"):
        make_plan(records, images, method="adasyn", within_magnification=False)
