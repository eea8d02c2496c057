"""config.repeats: the same experiment with other seeds, one after another, in one folder."""

from __future__ import annotations

import numpy as np
import pytest

import eval as evaluation
import train
from se_resnet.errors import UserError
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.predictor import load_run
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from tests.helpers.configs import tiny_config
from tests.helpers.interruption import interrupt
from tests.helpers.run_folders import metrics_of, predictions_of

pytestmark = pytest.mark.compiled
REPEATS = 2


def repeated(place, seeds="split", repeats=REPEATS):
    config = tiny_config(*place)
    config.repeats = repeats
    config.repeat_seeds = seeds
    config.epochs = 1
    return config


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    """Two repeats with other divisions of the patients."""
    workdir = tmp_path_factory.mktemp("repeats") / "run"
    train.train_and_evaluate(repeated(place), workdir)
    return workdir


def test_each_repeat_is_a_run_with_its_seeds(finished):
    configs = [RunFolder(finished / f"repeat{n}").config() for n in range(REPEATS)]
    assert [config["split"]["seed"] for config in configs] == [0, 1]
    assert [config["seed"] for config in configs] == [0, 0]
    assert {config["repeats"] for config in configs} == {1}
    tested = [set(predictions_of(finished / f"repeat{n}").accession.tolist()) for n in range(2)]
    assert tested[0] != tested[1]
    assert not (finished / "checkpoints").exists()


def test_the_command_again_only_evaluates_the_repeats_together(place, finished, capsys):
    (finished / "eval" / "test" / "report.html").unlink()
    train.train_and_evaluate(repeated(place), finished)
    printed = capsys.readouterr().out
    assert "0: finished before" in printed and "1: finished before" in printed
    assert "run: 2 repeats" in printed and "image accuracy" in printed
    assert (finished / "eval" / "test" / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repeats": 1}, "config.repeats = 2, but this command has 1"),
        ({"repeat_seeds": "both"}, "config.repeat_seeds = 'split', but this command has 'both'"),
        ({"seed": 5}, "config.seed = 0, but this command has 5"),
    ],
)
def test_another_configuration_is_refused(place, finished, change, words):
    config = repeated(place)
    config.update(change)
    with pytest.raises(UserError, match=words):
        train.train_and_evaluate(config, finished)


def test_the_folder_of_a_single_run_takes_no_repeats(run, place):
    config = tiny_config(*place)
    config.repeats = 3
    with pytest.raises(UserError, match="config.repeats = 1, but this command has 3"):
        train.train_and_evaluate(config, run)


def test_one_network_is_asked_for_by_its_repeat(place, finished, tmp_path):
    with pytest.raises(UserError, match=r"holds repeats, .* --workdir=.*/repeat0\b"):
        evaluation.evaluate_run(finished, "val")
    with pytest.raises(UserError, match=r"test images of their own: load .*/repeat0\."):
        load_run(finished).errors()
    together = predict_folder(finished, place[0], tmp_path / "predictions", overlays=False)
    assert len(load_best(finished).members) == REPEATS
    assert all(prediction.malignant_votes is not None for prediction in together)


def test_views_are_evaluated_in_every_repeat_that_lacks_them(finished):
    evaluation.evaluate_run(finished / "repeat0", tta="dihedral")
    metrics = finished / "repeat0" / "eval" / "test-dihedral" / "metrics.json"
    before = metrics.stat().st_mtime_ns
    evaluation.evaluate_run(finished, tta="dihedral")
    assert metrics.stat().st_mtime_ns == before
    assert (finished / "repeat1" / "eval" / "test-dihedral" / "report.html").exists()
    together = (finished / "eval" / "test-dihedral" / "report.html").read_text()
    assert "repeat1/eval/test-dihedral/report.html" in together


def test_an_interrupted_repeat_is_resumed_and_more_repeats_are_added(
    place, finished, tmp_path, monkeypatch, capsys
):
    workdir = tmp_path / "run"
    config = repeated(place)
    config.checkpoint_minutes = 0.0
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 20, KeyboardInterrupt)  # in the second repeat
        train.train_and_evaluate(config, workdir)
    with pytest.raises(UserError, match="repeat1 is not finished: run train.py .* again"):
        evaluation.evaluate_run(workdir)
    capsys.readouterr()
    train.train_and_evaluate(config, workdir)
    printed = capsys.readouterr().out
    assert "0: finished before" in printed and "from step" in printed
    for n in range(REPEATS):
        name = f"repeat{n}/eval/test/predictions.csv"
        assert (workdir / name).read_bytes() == (finished / name).read_bytes()
    train.train_and_evaluate(repeated(place, repeats=3), workdir)
    assert len(metrics_of(workdir)["repeats"]["image_accuracy"]["values"]) == 3
    with pytest.raises(UserError, match="config.repeats = 3, but this command has 2"):
        train.train_and_evaluate(config, workdir)


def test_other_training_seeds_test_the_same_images(place, tmp_path):
    train.train_and_evaluate(repeated(place, "training"), tmp_path / "run")
    first, second = (predictions_of(tmp_path / "run" / f"repeat{n}") for n in range(2))
    assert first.file.tolist() == second.file.tolist()
    assert not np.allclose(first.probability, second.probability)


def test_cross_validations_are_repeated(place, tmp_path):
    config = repeated(place)
    config.split.fold = "all"
    config.split.folds = 2
    train.train_and_evaluate(config, tmp_path / "run")
    for n in range(REPEATS):
        repeat = RunFolder(tmp_path / "run" / f"repeat{n}")
        predictions = repeat.tested()
        assert len(set(predictions.file.tolist())) == len(predictions) == 144
        for number in range(2):
            part = predictions_of(repeat.path / f"fold{number}")
            assert predictions.take(predictions.fold == number).file.tolist() == part.file.tolist()
    assert len(load_best(tmp_path / "run").members) == 2 * REPEATS
    assert len(load_best(tmp_path / "run" / "repeat0").members) == 2
