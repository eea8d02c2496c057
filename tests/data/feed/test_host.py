from __future__ import annotations

import jax
import numpy as np
import pytest

from data.balance import make_plan
from data.feed import batch_order, host
from se_resnet.errors import UserError
from se_resnet.runtime.mesh import batch_sharding, data_mesh
from tests.helpers.datasets import make_images, make_records


@pytest.fixture
def setting():
    records = make_records(4, 9)
    images = make_images(records)
    return images, make_plan(records, images, method="smote"), batch_sharding(data_mesh(), 8)


def collect(setting, start: int, stop: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    images, plan, sharding = setting
    batches = host.train_batches(
        images, plan, batch_size=8, seed=seed, start=start, stop=stop, sharding=sharding
    )
    return [{name: np.asarray(array) for name, array in batch.items()} for batch in batches]


def test_the_same_seed_gives_the_same_batches_from_any_step(setting):
    whole, tail = collect(setting, 0, 30), collect(setting, 17, 30)
    assert len(whole) == 30 and len(tail) == 13
    for a, b in zip(whole[17:], tail, strict=True):
        assert all((a[name] == b[name]).all() for name in a)
    other = collect(setting, 0, 1, seed=1)[0]
    assert (other["image"] != whole[0]["image"]).any()


def test_an_epoch_visits_a_row_at_most_once_and_epochs_differ(setting):
    _, plan, _ = setting
    steps = batch_order.steps_per_epoch(plan, 8)
    first, second = (
        np.concatenate([batch_order.rows_of_step(plan, 8, 0, step) for step in range(s, s + steps)])
        for s in (0, steps)
    )
    assert len(set(first.tolist())) == len(first) == steps * 8
    assert (first != second).any()


def test_batches_hold_what_the_plan_says(setting):
    images, plan, sharding = setting
    rows = batch_order.rows_of_step(plan, 8, 0, 3)
    batch = collect(setting, 3, 4)[0]
    assert (batch["image"] == batch_order.blend(images, plan, rows)).all()
    assert (batch["label"] == plan.label[rows]).all() and batch["label"].dtype == np.float32
    assert (batch["importance"] == 1).all()


def test_class_weights_arrive_with_their_images():
    records = make_records(4, 9)
    images = make_images(records)
    plan = make_plan(records, images, method="class_weights")
    batch = collect((images, plan, batch_sharding(data_mesh(), 8)), 0, 1)[0]
    rows = batch_order.rows_of_step(plan, 8, 0, 0)
    assert (batch["importance"] == plan.importance[rows].astype(np.float32)).all()
    assert len(set(batch["importance"].tolist())) == 2


def test_batches_are_global_arrays_on_all_devices(setting):
    images, plan, sharding = setting
    batch = next(
        host.train_batches(images, plan, batch_size=8, seed=0, start=0, stop=1, sharding=sharding)
    )
    assert all(isinstance(array, jax.Array) for array in batch.values())
    assert batch["image"].sharding == sharding and batch["image"].shape == (8, 8, 8, 3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 40])
def test_evaluation_counts_every_image_once_in_order(setting, count):
    images, _, sharding = setting
    rows = np.random.default_rng(0).permutation(len(images))[:count]
    batches = list(host.eval_batches(images, rows, batch_size=8, sharding=sharding))
    assert all(batch["image"].shape == (8, 8, 8, 3) for batch in batches)
    seen = np.concatenate([np.asarray(b["image"])[np.asarray(b["mask"])] for b in batches])
    assert (seen == images[rows]).all()


def test_blend_rounds_to_the_nearest_grey_value():
    records = make_records(3, 9)
    images = make_images(records)
    plan = make_plan(records, images, method="smote")
    row = int(np.flatnonzero(plan.weight)[0])
    weight, base, neighbour = plan.weight[row], images[plan.base[row]], images[plan.neighbour[row]]
    expected = base * (1 - weight) + neighbour * weight
    assert np.abs(batch_order.blend(images, plan, np.array([row]))[0] - expected).max() <= 0.501


def test_a_batch_larger_than_the_epoch_is_refused(setting):
    images, plan, sharding = setting
    with pytest.raises(UserError, match="lower it or bring more images"):
        next(
            host.train_batches(
                images, plan, batch_size=4000, seed=0, start=0, stop=1, sharding=sharding
            )
        )
