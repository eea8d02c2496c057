from __future__ import annotations

import json

import pytest

from se_resnet.runs import provenance
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.state import training_state, unfinished_warnings
from se_resnet.runtime import software
from se_resnet.runtime.files import write_json
from tests.helpers.run_folders import make_ensemble_folder, make_run_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run_folder(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture
def run(made, tmp_path):
    import shutil

    shutil.copytree(made, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def configure(run, **changes):
    config = json.loads(run.config_path.read_text())
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            config[part][field] = value
        else:
            config[part] = value
    write_json(run.config_path, config)


def test_a_run_of_an_earlier_version_is_judged_by_its_log(run):
    state = training_state(run)
    assert (state.step, state.steps, state.chosen_step) == (2, 2, 2)
    assert state.is_finished and unfinished_warnings(run) == []
    configure(run, epochs=75)
    state = training_state(run)
    assert state.describe() == "step 2 of 75" and not state.is_finished
    assert state.epoch_of(1) == 1.0
    (warning,) = unfinished_warnings(run)
    assert warning == (
        "The training in run has not finished: it is at step 2 of 75. The weights are those after "
        "step 2. Run train.py with the same --workdir to finish it."
    )


def test_the_length_in_training_json_counts_before_the_log(run):
    provenance.begin_training(run, 0, epoch_steps=30, steps=60)
    state = training_state(run)
    assert state.steps == 60 and not state.is_finished
    assert state.as_dict()["evaluated_epoch"] == 0.07


def test_early_stopping_is_an_end(run):
    configure(run, epochs=75, early_stopping={"metric": "val/loss", "patience": 1})
    assert not training_state(run).is_finished, "waited is 0"
    facts = run.checkpoints.folder / "latest" / "2" / "facts.json"
    content = json.loads(facts.read_text())
    content["facts"]["early_stopping"]["waited"] = 1
    facts.write_text(json.dumps(content))
    state = training_state(run)
    assert state.is_finished and state.stopped_early and state.as_dict()["stopped_early"]
    configure(run, early_stopping={"metric": "", "patience": 1})
    assert not training_state(run).is_finished, "it is switched off"
    facts.write_text("{")
    assert not training_state(run).is_finished


def test_without_any_length_the_evaluation_decides(run):
    run.log_path.unlink()
    assert not training_state(run).is_finished
    (run.evaluation().path / "report.html").touch()
    assert training_state(run).is_finished


def test_every_unfinished_network_of_an_ensemble_is_named(made, tmp_path):
    ensemble = RunFolder(make_ensemble_folder(tmp_path / "ensemble", made))
    assert unfinished_warnings(ensemble) == []
    configure(RunFolder(ensemble.path / "member1"), epochs=75)
    (warning,) = unfinished_warnings(ensemble)
    assert warning.startswith("The training in member1 has not finished")


def test_starts_are_recorded_with_their_ends(run, monkeypatch):
    monkeypatch.setattr(software, "commit", lambda: "abc")
    monkeypatch.setattr("sys.argv", ["train.py", "--workdir=my run"])
    provenance.begin_training(run, 0, 3, 6)
    provenance.reach(run, 3)
    provenance.reach(run, ended=provenance.INTERRUPTED)
    provenance.begin_training(run, 3, 3, 6)
    provenance.reach(run, 6)
    provenance.reach(run, ended=provenance.FINISHED)
    training = provenance.read_training(run)
    assert (training["epoch_steps"], training["steps"]) == (3, 6)
    first, second = training["starts"]
    assert first["command"] == "python train.py '--workdir=my run'" and first["commit"] == "abc"
    assert (first["from_step"], first["to_step"], first["ended"]) == (0, 3, "interrupted")
    assert (second["from_step"], second["to_step"], second["ended"]) == (3, 6, "finished")
    assert 0 <= second["seconds"] < 60
    provenance.begin_training(run, 0, 3, 6)
    assert len(provenance.read_training(run)["starts"]) == 1, "a training that begins again"


def test_a_broken_record_does_not_end_a_training(run):
    run.training_path.write_text("{")
    provenance.reach(run, 3)
    provenance.begin_training(run, 3, 3, 6)
    assert len(provenance.read_training(run)["starts"]) == 1
