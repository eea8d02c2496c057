"""The benchmark of a GPU runs, also without one, and what it compares is the same work."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gpu, gpu_members, gpu_step, measuring

SIZES = "--side 32 --width 4 --stage_sizes 1 --images 8 --steps 2 --dispatches 1 --copy 1"
CASE = gpu_step.Case(2, "float32", 4, 16, 4, (1,), 2, 1, True, 1)


@pytest.mark.compiled
def test_training_on_a_device_is_measured_without_tensorflow(tmp_path):
    out = tmp_path / "out.json"
    flags = f"--quick --batch 2 --members 2 --no_torch {SIZES} --out {out}".split()
    code = f"""
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None  # importing them fails
from benchmarks import gpu
sys.argv = ["gpu", *{flags}]
gpu.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=measuring.ROOT
    )
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.startswith("1 cases") and "this project, 2 members at once" in first
    for name in ("this project", "2 members at once"):
        prefix = f"batch 2, bfloat16, {name}: "
        assert sum(line.startswith(f"{prefix}compiled in") for line in lines) == 1
        assert sum(line.startswith(f"{prefix}round 1:") for line in lines) == 1
    written = json.loads(out.read_text())
    (speed,), (roofline,) = written["rows"], written["roofline"]
    assert speed["images/s"] == pytest.approx(2 / (speed["step, ms"] / 1000))
    assert speed["compile, s"] > 0 and speed["busy, %"] is None
    assert speed["members, images/s"] == pytest.approx(
        speed["images/s"] * speed["members, times as fast as in turn"]
    )
    assert roofline["GB a step"] > 0 and roofline["copy, GB/s"] > 0
    assert "Platform: " in written["notes"][0] and "--no_torch" in written["notes"][1]


@pytest.mark.compiled
def test_members_at_once_compute_what_each_computes_alone():
    members = [gpu_step.build(CASE, seed) for seed in range(2)]
    # As folds do, the members have different plans for the same images.
    plan = members[1].data
    members[1].data = dataclasses.replace(
        plan, base=plan.base[::-1], importance=2 * plan.importance
    )
    rows = np.stack([CASE.blocks()[0], CASE.blocks()[0] + 1])
    alone = [
        member.program(member.data, jax.tree.map(jnp.copy, member.state), block, np.int32(2))
        for member, block in zip(members, rows, strict=True)
    ]
    program, arguments, states = gpu_members.joined(members)
    states, metrics = program(*arguments, states, rows, np.int32(2))
    assert metrics["loss"].shape == (2, 2) and np.ptp(metrics["loss"][:, 1]) > 0
    for number, (state, expected) in enumerate(alone):
        np.testing.assert_allclose(metrics["loss"][number], expected["loss"], rtol=1e-5)
        jax.tree.map(
            lambda many, one, number=number: np.testing.assert_allclose(
                many[number], one, rtol=1e-3, atol=1e-4
            ),
            states.batch_stats,
            state.batch_stats,
        )


def _values(first, *others):
    yield first
    yield from others


@pytest.mark.compiled
def test_a_contender_advances_in_its_process_on_request(capfd):
    staged = measuring.Staged(_values, os.getpid(), 1, 2)
    assert staged.ready(60) and staged.value() == os.getpid()
    assert not staged.ready(0.2), "the next value was made without a request"
    assert [staged.next(), staged.next()] == [1, 2]
    with pytest.raises(SystemExit, match="_values"):
        staged.next()  # there are no more values
    staged.close()
    assert "StopIteration" in capfd.readouterr().err


def test_a_known_card_has_its_roofline_and_torch_its_ratio():
    case = gpu.Case(64, "bfloat16", 8, 32, 4, (1,), 2, 1, True, 1)
    run = {"kind": "NVIDIA H200", "seconds": 0.02, "single_seconds": 0.03, "busy": 0.9}
    run |= {"flops": 4.945e12, "compiled_flops": 4e12, "bytes": 4.8e10, "peak_bytes": 2e9}
    run |= {"compile_seconds": 40}
    runs = [{**run, "seconds": seconds, "copy_bandwidth": 4e12} for seconds in (0.02, 0.01, 0.04)]
    row = gpu.roofline_row(case, runs)
    assert row["of peak, %"] == pytest.approx(25) and row["of copy, %"] == pytest.approx(60)
    assert row["of peak bandwidth, %"] == pytest.approx(50)
    peer = [
        {"seconds": seconds, "peak_bytes": None, "compile_seconds": 50}
        for seconds in (0.02, 0.03, 0.04)
    ]
    speed = gpu.speed_row(case, {gpu.OURS: runs, gpu.TORCH: peer})
    assert speed["times as fast"] == 1 and speed["images/s"] == 3200
    assert speed["compile, s"] == 40 and speed["torch.compile, compile s"] == 50
    assert gpu.speed_row(case, {gpu.OURS: runs})["times as fast"] is None


@pytest.mark.parametrize("seconds, gain, words", [(0.03, 4 / 3, "pays"), (0.05, 0.8, "not pay")])
def test_members_at_once_pay_if_they_are_faster_than_in_turn(seconds, gain, words):
    run = {"seconds": 0.02, "single_seconds": 0.02, "busy": None, "peak_bytes": None}
    many = {"seconds": seconds, "peak_bytes": 2e9}
    row = gpu.speed_row(
        CASE,
        {gpu.OURS: [{**run, "compile_seconds": 40}], gpu.together(2): [many]},
        members=2,
    )
    assert row["members, times as fast as in turn"] == pytest.approx(gain)
    assert f"{gain:.2f} times" in gpu.verdict(row) and words in gpu.verdict(row)


def test_time_that_two_kernels_share_counts_once():
    assert gpu_step.covered([]) is None
    assert gpu_step.covered([(0, 4), (1, 2), (3, 6), (8, 10)]) == pytest.approx(0.8)


def test_one_resampling_turns_and_mirrors_as_augmentation(monkeypatch):
    torch = pytest.importorskip("torch")
    from benchmarks import gpu_torch

    for name in gpu_step.AUGMENT:
        monkeypatch.setitem(gpu_step.AUGMENT, name, 0.0)
    pixels = torch.arange(3 * 16.0).reshape(1, 3, 4, 4).repeat(64, 1, 1, 1)
    views = {
        tuple(torch.rot90(pixels[0].flip(axes), turns, (1, 2)).round().flatten().tolist())
        for axes in ((), (1,))
        for turns in range(4)
    }
    found = gpu_torch.augmented(pixels)
    assert {tuple(image.round().flatten().tolist()) for image in found} == views
