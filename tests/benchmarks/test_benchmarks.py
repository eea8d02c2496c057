"""The benchmarks run, and what they compare is the same work."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import (
    contenders,
    contest,
    evaluation,
    generate,
    inference,
    measuring,
    pipeline,
    prediction,
    scaling,
    smote,
    train_step,
)
from benchmarks.measuring import ROOT
from benchmarks.peers import Task
from data.balance import Plan
from data.breakhis.filenames import parse
from data.breakhis.official import official_names
from data.feed.batch_order import blend


def _take(megabytes: int) -> int:
    return int(np.ones(megabytes * 10**6, np.uint8).sum())


@pytest.mark.compiled
def test_a_call_in_its_own_process_is_measured():
    done = measuring.in_own_process(_take, 200)
    assert done.value == 200 * 10**6
    assert 190e6 < done.added_bytes < 260e6 and 0 < done.seconds < 30


def test_tables_and_files_say_the_same(tmp_path, capsys):
    measuring.finish([{"a": 1234.5, "b": None, "c": 0.12345}], tmp_path / "out.json", "a note")
    printed = capsys.readouterr().out
    assert "| 1234 |  | 0.123 |" in printed and "a note" in printed and "cores" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["rows"] == [{"a": 1234.5, "b": None, "c": 0.12345}]
    assert written["machine"]["cores"] >= 1


def test_generated_names_can_be_parsed_and_differ():
    assert set(generate.names(100)) <= set(official_names())
    many = generate.names(20_000)
    assert len(set(many)) == 20_000 and set(official_names()) < set(many)
    assert len({parse(name).accession for name in many}) > 2 * 70


@pytest.mark.compiled
def test_smote_is_compared_with_imbalanced_learn(tmp_path, monkeypatch):
    flags = ["--images", "60", "--sizes", "60", "--side", "16", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["smote", *flags, "--out", str(tmp_path / "out.json")])
    smote.main()
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["images"] == 60 and row["largest difference, grey values"] < 1e-4


def test_extrapolation_finds_the_polynomial():
    sizes = [500, 1000, 2000]
    values = [3e-3 * size + 2e-6 * size**2 for size in sizes]
    found = smote.extrapolated(sizes, values, 2)
    assert found == pytest.approx(3e-3 * 7909 + 2e-6 * 7909**2, rel=1e-6)


def test_growth_tells_linear_from_quadratic():
    rows = [
        {"stage": stage, "images": n, "seconds": 2 + 1e-3 * n**power / 1000 ** (power - 1)}
        for n in (1000, 8000, 80000)
        for stage, power in (("linear", 1), ("quadratic", 2))
    ]
    linear, quadratic = scaling.growth(rows)
    assert linear["constant, s"] == pytest.approx(2) and linear["ms an image"] == pytest.approx(1)
    assert linear["exponent"] == pytest.approx(1) and quadratic["exponent"] > 1.7


def test_the_data_loader_blends_the_same_pixels(monkeypatch):
    pytest.importorskip("torch")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    plan = Plan(
        base=np.array([0, 1]),
        neighbour=np.array([0, 3]),
        weight=np.array([0.0, 0.3]),
        label=np.array([0, 1]),
        importance=np.ones(2),
    )
    monkeypatch.setattr(pipeline, "open_cache", lambda path: type("C", (), {"images": images}))
    dataset = pipeline.Blending("", plan, augmented=False)
    expected = blend(images, plan, np.arange(2)).astype(int)
    assert all(np.abs(dataset[i][0].numpy() - expected[i]).max() <= 1 for i in range(2))
    augmented = pipeline.Blending("", plan, augmented=True)[1][0]
    assert augmented.shape == (3, 8, 8) and augmented.min() >= 0 and augmented.max() <= 255


@pytest.mark.compiled
def test_the_parts_of_an_evaluation_add_up(tmp_path, monkeypatch):
    sizes = "--images 400 --permutations 50 --side 32 --width 4 --stage_sizes 1 1"
    flags = f"{sizes} --out {tmp_path / 'out.json'}".split()
    monkeypatch.setattr(sys, "argv", ["evaluation", *flags])
    evaluation.main()
    written = json.loads((tmp_path / "out.json").read_text())
    *parts, total = written["rows"]
    assert all(part["calls"] for part in parts[:-1]), "a part was renamed or is not called any more"
    by_name = {part["part"]: part for part in parts}
    assert by_name["Grad-CAM"]["images forward"] == 18 and by_name["gates"]["images forward"] == 64
    beside = {part["part"] for part in parts if part["thread"] == "other"}
    assert beside == {"gallery", "Grad-CAM", "summary of gates", "gates"}
    for name in ("seconds, first", "seconds, again"):
        in_turn = sum(part[name] for part in parts if part["thread"] == "main")
        assert in_turn == pytest.approx(total[name])
        assert all(0 <= part[name] <= total[name] for part in parts)


TINY = ["--size", "32", "--width", "4", "--stage_sizes", "1", "2", "--batch", "2"]


@pytest.mark.compiled
@pytest.mark.parametrize("module", [train_step, inference])
def test_contenders_take_turns_and_agree(tmp_path, monkeypatch, module):
    out = tmp_path / "out.json"
    flags = ["--peers", "keras", "--images", "4", "--rounds", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["contest", *TINY, *flags])
    module.main()
    ours, keras = json.loads(out.read_text())["rows"]
    assert ours["contender"] == "ours, fast" and ours["difference"] == 0
    assert keras["contender"] == "keras" and 0 < keras["in the second batch"] < 1e-4
    assert all(row["images/s"] > 0 and row["peak, MB"] > 50 for row in (ours, keras))


@pytest.mark.export
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_other_runtimes_predict_from_the_export(tmp_path, monkeypatch, runtime):
    for package in ("tf2onnx", runtime):
        pytest.importorskip(package)
    out = tmp_path / "out.json"
    flags = ["--peers", runtime, "--images", "2", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["contest", *TINY, *flags])
    inference.main()
    _, peer = json.loads(out.read_text())["rows"]
    assert peer["contender"] == runtime and 0 <= peer["difference"] < 1e-5
    assert peer["images/s"] > 0


@pytest.mark.compiled
def test_the_parts_of_a_prediction_are_timed(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    shape = "--size 32 --width 4 --stage_sizes 1 1"
    flags = f"--images 20 --rounds 1 --against {ROOT} {shape} --out {out}"
    monkeypatch.setattr(sys, "argv", ["prediction", *flags.split()])
    prediction.main()
    written = json.loads(out.read_text())
    *parts, total = written["rows"]
    names = ("this: main thread, s", "this: other threads, s")
    for part in parts[:-2]:
        assert sum(part[name] for name in names) > 0, f"{part['part']} was renamed, or is not used"
    assert 0 < sum(part[names[0]] for part in parts) <= total[names[0]]
    assert [row["largest difference"] for row in written["runs"]] == [0, 0]


def first_turn(*values):
    return SimpleNamespace(values=np.array(values), first=1.0, peak_bytes=0, idle=0.0)


def test_a_contender_with_other_results_is_refused():
    ours = first_turn(0.7, 0.4)
    allowed = train_step.TOLERANCE["float32"]
    contest.check("peer", allowed, first_turn(0.7, 0.405), ours)
    for values in ((0.702, 0.4), (0.7, 0.42), (np.nan, 0.4)):
        with pytest.raises(SystemExit, match="peer computes other values"):
            contest.check("peer", allowed, first_turn(*values), ours)


def test_a_missing_package_is_named():
    assert contenders.Contender("ours", {}).absent() is None
    assert "extra bench" in contenders.Contender("ours", {}, ("no_such_package",)).absent()


def test_ratios_are_those_of_the_same_round():
    turns = {name: [first_turn(0.0, 0.0)] * 2 for name in ("ours", "peer")}
    row = contest.row("peer", {"ours": [2.0, 20.0, 3.0], "peer": [1.0, 10.0, 3.0]}, turns)
    assert row["images/s"] == 3 and row["ours: times as fast"] == 2
    assert (row["lowest"], row["highest"]) == (1, 2)


@pytest.mark.compiled
@pytest.mark.parametrize("role", ["trainer", "predictor"])
def test_torch_computes_the_same(tmp_path, role):
    pytest.importorskip("torch")
    from benchmarks.peers import ours, torch_resnet

    task = Task(2, "float32", 32, (1, 2), 4, tmp_path / "tensors.npz")
    ours.write_tensors(task)
    batches = [task.batch()] * 3
    expected = getattr(ours, role)(task, "plain")(batches)
    np.testing.assert_allclose(getattr(torch_resnet, role)(task)(batches), expected, atol=1e-4)
    assert np.ptp(expected) > 0.01
