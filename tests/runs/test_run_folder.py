from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from se_resnet.errors import UserError
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import claim
from tests.helpers.run_folders import make_run_folder


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return make_run_folder(tmp_path_factory.mktemp("single") / "run")


def test_a_single_run_has_no_folds(single):
    predictions = RunFolder(single).tested()
    assert not predictions.fold.any()
    expected = Predictions.read_csv(single / "eval" / "test" / "predictions.csv")
    np.testing.assert_array_equal(predictions.file, expected.file)


def test_images_of_a_cross_validation_carry_their_fold(single, tmp_path):
    rows = [3, 5]
    for number, count in enumerate(rows):
        shutil.copytree(single, tmp_path / f"fold{number}")
        path = tmp_path / f"fold{number}" / "eval" / "test" / "predictions.csv"
        Predictions.read_csv(path).take(np.arange(count)).write_csv(path)
    config = json.loads((single / "config.json").read_text())
    config["split"]["fold"] = "all"
    (tmp_path / "config.json").write_text(json.dumps(config))
    predictions = RunFolder(tmp_path).tested()
    assert len(predictions) == sum(rows) and predictions.fold.tolist() == [0] * 3 + [1] * 5
    (tmp_path / "fold1" / "eval" / "test" / "predictions.csv").unlink()
    with pytest.raises(UserError, match="fold1"):
        RunFolder(tmp_path).tested()


def test_repeats_that_have_begun_are_in_the_order_of_their_numbers(single, tmp_path):
    run = RunFolder(tmp_path)
    assert run.begun_parts() == ("", [])
    assert [network.path for network in run.networks()] == [tmp_path]
    for name in ("repeat10", "repeat2", "repeat3/fold0", "repeat01x"):
        shutil.copytree(single, tmp_path / name)
    (tmp_path / "repeat4").mkdir()
    kind, begun = run.begun_parts()
    assert kind == "repeat"
    assert [part.path.name for part in begun] == ["repeat2", "repeat3", "repeat10"]
    networks = [network.path.relative_to(tmp_path).as_posix() for network in run.networks()]
    assert networks == ["repeat2", "repeat3/fold0", "repeat10"]
    assert [repeat.path.name for repeat in run.repeats(2)] == ["repeat0", "repeat1"]


def test_an_evaluation_that_no_network_made_is_not_overwritten(tmp_path):
    run = RunFolder(tmp_path)
    claim(run, {"seed": 0}, free=())
    report = run.evaluation().path / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    with pytest.raises(UserError, match="an evaluation without checkpoints"):
        claim(run, {"seed": 0}, free=())
