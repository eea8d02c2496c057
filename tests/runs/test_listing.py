from __future__ import annotations

import json
import shutil

import pytest

from se_resnet.runs import provenance
from se_resnet.runs.__main__ import main
from se_resnet.runs.listing import list_runs
from se_resnet.runs.lock import is_running, locked
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import write_json
from tests.helpers.run_folders import make_ensemble_folder, make_repeats_folder, make_run_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = make_run_folder(tmp_path_factory.mktemp("runs") / "made")
    (run / "eval" / "test" / "report.html").touch()
    return run


@pytest.fixture
def folder(made, tmp_path):
    """Runs ``a/run2`` and ``a/run10``, a model package, and a folder without a run."""
    for name in ("run10", "run2"):
        shutil.copytree(made, tmp_path / "a" / name)
    write_json(tmp_path / "package" / "config.json", {"format": "se_resnet", "split": {}})
    (tmp_path / "empty").mkdir()
    return tmp_path


def change(path, **fields):
    write_json(path / "config.json", {**json.loads((path / "config.json").read_text()), **fields})


def test_runs_are_listed_in_the_order_of_their_numbers(folder):
    rows = list_runs(folder)
    assert [row.path for row in rows] == ["a/run2", "a/run10"]
    row = rows[0]
    assert (row.protocol, row.attention) == ("strict, fold 0", "se")
    assert (row.epochs, row.state) == ("2 of 2", "finished")
    assert row.data == "sample, 56 images"
    metrics = RunFolder(folder / "a" / "run2").evaluation().metrics()
    assert row.estimate == metrics["image"]["roc_auc"]
    (alone,) = list_runs(folder / "a" / "run2")
    assert alone.path == "run2"


def test_states_are_told_apart(folder):
    run = RunFolder(folder / "a" / "run2")

    def state():
        return list_runs(folder)[0].state

    (run.evaluation().path / "report.html").unlink()
    assert state() == "finished, not evaluated"
    change(run.path, epochs=75)
    assert state() == "stopped at step 2 of 75"
    with locked(run):
        assert is_running(run)
        assert state() == "running, step 2 of 75"
    assert not is_running(run)
    write_json(run.owner_path, {"pid": 1, "host": "x", "started": "y"})  # of a killed process
    assert state() == "stopped at step 2 of 75"
    provenance.begin_training(run, 1, 1, 75)
    provenance.reach(run, ended=f"{provenance.FAILED}the loss is not finite")
    assert state() == "failed at step 2 of 75: the loss is not finite"


def test_broken_runs_are_listed_with_the_reason(folder):
    (folder / "a" / "run2" / "config.json").write_text("{")
    (folder / "a" / "run10" / "eval" / "test" / "metrics.json").write_text("[]")
    first, second = list_runs(folder)
    assert first.state.startswith("broken: ") and "config.json cannot be read" in first.state
    assert second.state.startswith("broken: ") and "metrics.json" in second.state
    assert second.protocol == "strict, fold 0"


def test_several_networks_are_one_row_and_their_parts_by_request(made, tmp_path, capsys):
    ensemble = make_ensemble_folder(tmp_path / "ensemble", made)
    make_repeats_folder(tmp_path / "repeats", 2)
    rows = list_runs(tmp_path)
    assert [(row.path, row.state) for row in rows] == [
        ("ensemble", "stopped, 2 of 2 begun members finished"),
        ("repeats", "stopped, 0 of 2 begun repeats finished"),
    ]
    shutil.copytree(made / "eval", ensemble / "eval")
    assert list_runs(tmp_path)[0].state == "finished, an ensemble of 2"
    assert list_runs(tmp_path)[0].epochs == "4 of 4"
    rows = list_runs(tmp_path, parts=True)
    assert [(row.level, row.path) for row in rows] == [
        (0, "ensemble"), (1, "member0"), (1, "member1"),
        (0, "repeats"), (1, "repeat0"), (1, "repeat1"),
    ]  # fmt: skip
    main([str(tmp_path), "--all"])
    header, first, second, *_ = capsys.readouterr().out.splitlines()
    assert header.startswith("run ") and header.endswith("image ROC AUC (95 % interval)")
    assert first.startswith("ensemble  ") and second.startswith("  member0  ")


def test_the_highest_estimate_is_first_by_request(folder, capsys):
    metrics = folder / "a" / "run10" / "eval" / "test" / "metrics.json"
    content = json.loads(metrics.read_text())
    before = content["image"]["roc_auc"]["value"]
    content["image"]["roc_auc"]["value"] = before + 0.1
    write_json(metrics, content)
    shutil.rmtree(folder / "a" / "run2" / "eval")
    shutil.copytree(folder / "a" / "run10", folder / "b")
    content["image"]["roc_auc"]["value"] = before + 0.2
    write_json(folder / "b" / "eval" / "test" / "metrics.json", content)
    main([str(folder), "--sort=headline"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["b", "a/run10", "a/run2"]
    assert f"{before + 0.2:.3f} (" in lines[1]


def test_a_folder_without_runs_or_that_is_missing_is_named(tmp_path, capsys):
    main([str(tmp_path)])
    assert capsys.readouterr().out == f"no run of train.py below {tmp_path}\n"
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "missing")])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "missing cannot be read (No such file" in message
