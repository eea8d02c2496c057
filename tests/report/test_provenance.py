from __future__ import annotations

import time

import pytest

from configs import breakhis
from se_resnet.report.provenance import (
    count_images,
    describe_evaluation,
    describe_weights,
    subset_banner,
    table_of_provenance,
)
from se_resnet.runs import provenance, run_files
from se_resnet.runs.image_source import BREAKHIS
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.schema import misfit
from se_resnet.training.config import plain
from tests.helpers.run_folders import make_ensemble_folder, make_run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunFolder(make_run_folder(tmp_path_factory.mktemp("runs") / "run"))


def described(run):
    default = plain(breakhis.get_config())
    return describe_evaluation(run, run.config(), default, time.monotonic(), 116, BREAKHIS)


def test_an_evaluation_has_its_provenance(run):
    facts = described(run)
    assert not misfit(facts, run_files.PROVENANCE_FORM)
    assert facts["differs_from_default"]["epochs"] == 2
    assert "batch_size" in facts["differs_from_default"]
    assert "data.resize" not in facts["differs_from_default"], "it has its default"
    (network,) = facts["networks"]
    assert (network["run"], network["step"], network["finished"]) == (".", 2, True)
    rows = dict(table_of_provenance({**facts, "commit": "abc with changes"}))
    assert rows["Weights"] == "step 2 of 2 (epoch 2 of 2); the training finished"
    assert rows["Project"].endswith(", commit abc with changes")
    assert "JAX" in rows["Software"] and "Training" not in rows


def test_the_starts_of_the_training_are_part_of_it(run, tmp_path):
    ensemble = RunFolder(make_ensemble_folder(tmp_path / "ensemble", run.path))
    second = ensemble.networks()[1]
    for step in (0, 1):
        provenance.begin_training(second, step, 2, 4)
    rows = dict(table_of_provenance(described(ensemble)))
    assert rows["Training of member1"].endswith(", 0.0 s, in 2 starts")
    assert rows["Weights of member1"] == (
        "step 2 of 4 (epoch 1 of 2); the training has not finished"
    )
    assert "Training of member0" not in rows


def test_weights_are_described():
    network = {
        "evaluated_step": 60, "evaluated_epoch": 6.0, "of_steps": 150, "of_epochs": 15,
        "finished": True, "stopped_early": True,
    }  # fmt: skip
    expected = "step 60 of 150 (epoch 6 of 15); the training was stopped early"
    assert describe_weights(network) == expected
    assert describe_weights({**network, "evaluated_step": None}) == "not known"
    unknown = {**network, "of_steps": None, "finished": False}
    assert describe_weights(unknown) == "step 60; the training has not finished"


def test_a_part_of_breakhis_has_a_banner(run):
    assert subset_banner(7909, True, "/data") == ""
    assert subset_banner(50, False, "images.csv") == ""
    assert subset_banner(2013, True, "/data") == (
        "A subset of BreaKHis: 2,013 of 7,909 images. This is no result on BreaKHis."
    )
    assert subset_banner(116, True, "sample").startswith("The sample that ships with the project")
    assert count_images(run) == 56
