"""Batches made on the device are those that the host makes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import train
from data.balance import make_plan
from data.feed import batch_order, device, host
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import Predictions
from se_resnet.runtime.mesh import batch_sharding, data_mesh, replicated
from se_resnet.tracking.metric_log import read_log
from tests.helpers import ROOT
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_images, make_records


@pytest.fixture
def setting():
    records = make_records(4, 9)
    images = make_images(records)
    return images, make_plan(records, images, method="smote"), batch_sharding(data_mesh(), 8)


@pytest.mark.parametrize("method", ["smote", "class_weights"])
def test_a_batch_is_the_one_of_the_host(method):
    records = make_records(4, 9)
    images = make_images(records)
    plan = make_plan(records, images, method=method)
    placed = device.place(images, plan, replicated(data_mesh()))
    rows = np.arange(len(plan))
    batch = jax.jit(device.make_batch)(placed, rows)
    expected = batch_order.blend(images, plan, rows)
    difference = np.abs(np.asarray(batch["image"]) - expected)
    assert difference.max() <= 1 and (difference == 0).mean() > 0.999
    real = plan.weight == 0
    assert (difference[real] == 0).all()
    np.testing.assert_array_equal(batch["label"], plan.label)
    np.testing.assert_allclose(batch["importance"], plan.importance, rtol=1e-6)


@pytest.mark.parametrize(("start", "stop"), [(0, 30), (7, 30), (5, 5)])
def test_blocks_hold_the_rows_of_the_steps_and_pause_where_told(setting, start, stop):
    _, plan, sharding = setting
    epoch_steps = batch_order.steps_per_epoch(plan, 8)
    blocks = device.row_blocks(
        plan, batch_size=8, seed=3, start=start, stop=stop, pause=4, sharding=sharding
    )
    step, lengths = start, []
    for block, steps in blocks:
        assert block.shape == (4, 8)  # another shape would be another program to compile
        for rows in np.asarray(block)[:steps]:
            np.testing.assert_array_equal(rows, batch_order.rows_of_step(plan, 8, 3, step))
            step += 1
        lengths.append(steps)
        inside = range(step - steps + 1, step)
        assert not any(s % 4 == 0 or s % epoch_steps == 0 for s in inside)
    assert step == stop and all(lengths)


def test_plans_of_all_folds_have_columns_of_one_length(setting):
    images, plan, _ = setting
    columns = ("base", "neighbour", "weight", "label", "importance")
    shorter = dataclasses.replace(plan, **{name: getattr(plan, name)[:20] for name in columns})
    for rows in (plan, shorter):
        placed = device.place(images, rows, replicated(data_mesh()))
        assert placed.weight.shape == (2 * len(images),)
        np.testing.assert_array_equal(placed.base[: len(rows)], rows.base)


@pytest.mark.parametrize("count", [1, 8, 9])
def test_evaluation_batches_are_those_of_the_host(setting, count):
    images, plan, sharding = setting
    rows = np.random.default_rng(0).permutation(len(images))[:count]
    placed = device.place(images, plan, replicated(data_mesh()))
    ours = list(device.eval_batches(placed.images, rows, batch_size=8, sharding=sharding))
    hosts = list(host.eval_batches(images, rows, batch_size=8, sharding=sharding))
    for a, b in zip(ours, hosts, strict=True):
        np.testing.assert_array_equal(a["mask"], b["mask"])
        np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.compiled
def test_a_run_on_the_device_is_the_run_on_the_host(place, tmp_path):
    config = tiny_config(*place)
    config.augment.rotate = True
    hosts = train.train_and_evaluate(config, tmp_path / "host")
    config.data.placement = "device"
    devices = train.train_and_evaluate(config, tmp_path / "device")
    logs = [read_log(tmp_path / name / "metrics.jsonl") for name in ("host", "device")]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for a, b in zip(*logs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    parts = [
        Predictions.read_csv(tmp_path / name / "eval" / "test" / "predictions.csv")
        for name in ("host", "device")
    ]
    np.testing.assert_allclose(parts[0].probability, parts[1].probability, atol=1e-3)
    assert hosts["counts"] == devices["counts"]


def test_an_unknown_placement_is_refused(place, tmp_path):
    config = tiny_config(*place)
    config.data.placement = "disk"
    with pytest.raises(UserError, match="config.data.placement = 'disk'.*host, device"):
        train.train_and_evaluate(config, tmp_path / "run")


def cache_of(run, place) -> Path:
    """The cache folder that ``run`` has read its images from."""
    wanted = json.loads((run / "data.json").read_text())["fingerprint"]
    for facts in (place[1] / "pixels").glob("*/cache.json"):
        if json.loads(facts.read_text())["fingerprint"] == wanted:
            return facts.parent
    raise AssertionError("the cache is gone")


@pytest.mark.compiled
def test_a_run_from_a_cache_on_the_device_needs_no_tensorflow(place, run, tmp_path):
    cache = cache_of(run, place)
    code = f"""
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None  # importing them fails
import train
from pathlib import Path
from tests.helpers.configs import tiny_config
config = tiny_config(Path({str(cache)!r}), Path("unused"))
config.data.placement = "device"
config.epochs = 1
print(train.train_and_evaluate(config, {str(tmp_path / "run")!r})["counts"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first = read_log(run / "metrics.jsonl")[0]
    assert read_log(tmp_path / "run" / "metrics.jsonl")[0] == pytest.approx(first, rel=1e-3)


@pytest.mark.parametrize(("field", "value"), [("size", (16, 8)), ("resize", "crop")])
def test_a_cache_of_other_pixels_is_refused(place, run, tmp_path, field, value):
    config = tiny_config(cache_of(run, place), tmp_path)
    config.data[field] = value
    with pytest.raises(UserError, match=f"set config.data.{field} to the s"):
        train.train_and_evaluate(config, tmp_path / "run")
