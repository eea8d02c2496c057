"""train.py and eval.py from end to end, on generated images and a tiny network."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import eval as evaluation
import train
from configs import smoke
from data.breakhis.filenames import parse
from se_resnet.errors import UserError
from se_resnet.metrics.decision import decide
from se_resnet.metrics.predictions import Predictions
from se_resnet.runs.checkpoint import Checkpoints
from se_resnet.runs.workdir import load_best
from se_resnet.training import loop
from se_resnet.training.validation import validation_metrics
from tests.helpers import ROOT
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree
from tests.helpers.interruption import interrupt, skip_evaluation
from tests.helpers.marks import compiled


def lines_of(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_it_promises(run):
    for name in (
        *("config.json", "split.csv", "metrics.jsonl", "metrics.csv", "log.txt", "data.json"),
        *("software.json",),
    ):
        assert (run / name).stat().st_size > 0
    for name in ("predictions.csv", "metrics.json", "report.html"):
        assert (run / "eval" / "test" / name).stat().st_size > 0
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best", "latest"}
    roles = {row["role"] for row in csv.DictReader((run / "split.csv").open())}
    assert roles == {"train", "val", "test"}
    plan = json.loads((run / "data.json").read_text())["plan"]
    assert plan["benign"] == plan["malignant"] > 0 and plan["synthetic"] > 0


def test_every_test_image_is_predicted_once(run):
    split = list(csv.DictReader((run / "split.csv").open()))
    expected = [row["file"] for row in split if row["role"] == "test"]
    predictions = Predictions.read_csv(run / "eval" / "test" / "predictions.csv")
    assert predictions.file.tolist() == expected
    results = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    assert {"image", "patient", "by_magnification", "audit"} <= set(results)
    accuracy = ((predictions.probability >= 0.5) == predictions.label).mean()
    assert results["image"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert results["audit"]["evaluated_images_of_seen_accessions"] == 0
    assert {"decision", "at_chosen_threshold", "calibration", "selective"} <= set(results)
    assert "Threshold, calibration and uncertainty" in (run / "eval/test/report.html").read_text()


def test_the_decision_of_validation_is_saved(run):
    decision = Checkpoints(run / "checkpoints").best_facts()["decision"]
    evaluation.evaluate_run(run, "val")
    val = Predictions.read_csv(run / "eval" / "val" / "predictions.csv")
    expected = dataclasses.asdict(decide(val, "balanced_accuracy"))
    assert {**decision, "margin": None} == {**expected, "margin": None}
    assert decision["margin"] == pytest.approx(expected["margin"], rel=1e-4)
    assert "too few to choose" in decision["reason"], "two benign patients validate"
    results = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    assert results["decision"] == decision
    test = Predictions.read_csv(run / "eval" / "test" / "predictions.csv")
    accuracy = ((test.probability >= decision["threshold"]) == test.label).mean()
    assert results["at_chosen_threshold"]["image"]["accuracy"]["value"] == pytest.approx(accuracy)


def test_the_log_tells_training_and_validation(run):
    lines = lines_of(run)
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert [line["epoch"] for line in lines if "val/loss" in line] == [1.0, 2.0]
    assert all(np.isfinite(line["train/loss"]) for line in lines if "train/loss" in line)


def test_eval_alone_gives_the_same_predictions(run, tmp_path):
    before = (run / "eval" / "test" / "predictions.csv").read_bytes()
    evaluation.evaluate_run(run, out=tmp_path / "again")
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("split", ["val", "train", "all"])
def test_other_splits_carry_their_warning(run, split, capsys):
    results = evaluation.evaluate_run(run, split)
    assert (run / "eval" / split / "report.html").exists()
    assert results["audit"]["evaluated_images_seen"] > 0
    assert "WARNING" in capsys.readouterr().out


def test_another_folder_of_one_patient_is_evaluated(run, tmp_path, capsys):
    names = [f"SOB_M_MC-14-777-{magnification}-001.png" for magnification in (40, 200)]
    make_tree(tmp_path / "one_patient", names, size=(33, 57))
    (tmp_path / "one_patient" / "notes.txt").touch()
    results = evaluation.evaluate_run(run, data_dir=str(tmp_path / "one_patient"))
    assert results["counts"]["images"]["all"] == 2
    assert results["image"]["roc_auc"]["value"] is None
    assert "reason" in results["image"]["roc_auc"]
    assert (run / "eval" / "one_patient-all" / "report.html").exists()
    told = capsys.readouterr().out
    assert "undefined" in told
    assert "\n  not looked at: other suffixes 1 (.txt 1)\n" in told


def test_a_renamed_training_image_is_found_by_its_content(run, place, tmp_path, capsys):
    rows = [row for row in csv.DictReader((run / "split.csv").open()) if row["role"] == "train"]
    original = next(place[0].rglob(rows[0]["file"]))
    letter, subtype = ("B", "A") if rows[0]["label"] == "0" else ("M", "DC")
    for number in (1, 2):  # two copies count once
        name = parse(f"SOB_{letter}_{subtype}-14-777-40-{number:03d}.png")
        copy = tmp_path / "copies" / name.folder / str(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, copy)
    results = evaluation.evaluate_run(run, data_dir=str(tmp_path / "copies"))
    assert results["counts"]["images"]["all"] == 1
    assert results["audit"]["evaluated_images_seen"] == 1
    assert "left out: 1 copies of images" in capsys.readouterr().out


def test_a_moved_data_set_keeps_its_split(run, place, tmp_path):
    shutil.copytree(place[0], tmp_path / "moved")
    evaluation.evaluate_run(run, "test", str(tmp_path / "moved"), tmp_path / "out")
    first = (run / "eval" / "test" / "predictions.csv").read_bytes()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == first


@pytest.mark.parametrize("stop", [5, compiled(17)])  # in the first epoch, in the second
def test_an_interrupted_run_goes_on_to_the_same_end(run, place, tmp_path, monkeypatch, stop):
    """Stopped after a checkpoint in the middle of an epoch."""
    config = tiny_config(*place)
    config.checkpoint_minutes = 0.0
    interrupt(monkeypatch, stop, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        train.train_and_evaluate(config, tmp_path / "run")
    monkeypatch.undo()
    train.train_and_evaluate(config, tmp_path / "run")
    assert lines_of(tmp_path / "run") == lines_of(run)
    predictions = Path("eval") / "test" / "predictions.csv"
    assert (tmp_path / "run" / predictions).read_bytes() == (run / predictions).read_bytes()


def test_a_finished_run_started_again_only_evaluates(run, place):
    before = lines_of(run)
    train.train_and_evaluate(tiny_config(*place), run)
    (run / "input_reference.safetensors").unlink()  # the shared run has no input gate
    assert lines_of(run) == before


def test_another_configuration_is_refused_with_the_difference(run, place):
    config = tiny_config(*place)
    config.optim.learning_rate = 0.5
    with pytest.raises(UserError, match=r"config.optim.learning_rate = 0.001, but .* 0.5"):
        train.train_and_evaluate(config, run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("eval_batch_size", -1),
        ("log_every_steps", 0),
        ("eval_batch_size", 10**9),
        ("permutations", 0),
        ("permutations", 10**9),
        ("seed", -1),
        ("split.seed", 2**32),
        ("optim.learning_rate", float("inf")),
        ("checkpoint_minutes", float("inf")),
    ],
)
def test_numbers_out_of_range_are_named_before_any_work(tmp_path, name, value):
    config = smoke.get_config()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError, match=f"config.{name} = {value} is out of range"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mistake_leaves_the_workdir_free_for_another_command(place, tmp_path, monkeypatch):
    skip_evaluation(monkeypatch)
    config = tiny_config(*place)
    config.split.folds = 13
    with pytest.raises(UserError, match="only 10 benign patients"):
        train.train_and_evaluate(config, tmp_path / "run")
    config.split.folds = 5
    config.epochs = 1
    train.train_and_evaluate(config, tmp_path / "run")


@pytest.mark.parametrize("name", ["config.json", "data.json", "split.csv"])
def test_checkpoints_of_an_unknown_run_are_not_adopted(run, place, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(UserError, match=f"holds checkpoints but no {name}"):
        train.train_and_evaluate(tiny_config(*place), tmp_path / "run")


@pytest.mark.compiled
def test_the_lost_weights_of_the_last_epoch_are_reported(place, tmp_path, monkeypatch):
    skip_evaluation(monkeypatch)
    config = tiny_config(*place)
    config.checkpoint.choose = "last"
    interrupt(monkeypatch, 20, KeyboardInterrupt)  # in the second and last epoch
    with pytest.raises(KeyboardInterrupt):
        train.train_and_evaluate(config, tmp_path / "run")
    with pytest.raises(UserError, match="no checkpoint to evaluate: run train.py .* again"):
        load_best(tmp_path / "run")
    monkeypatch.undo()
    skip_evaluation(monkeypatch)
    train.train_and_evaluate(config, tmp_path / "run")
    assert load_best(tmp_path / "run").decision.target == "balanced_accuracy"
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "best")
    with pytest.raises(UserError, match="if the training has ended, delete that folder"):
        train.train_and_evaluate(config, tmp_path / "run")


@pytest.mark.parametrize("lost", ["all", "facts", "tree"])
def test_a_lost_best_checkpoint_is_told_before_training_goes_on(run, place, tmp_path, lost):
    shutil.copytree(run, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best"
    if lost == "all":
        shutil.rmtree(best)
    else:
        step = best / str(Checkpoints(best.parent).steps("best")[-1])
        shutil.rmtree(step / "tree") if lost == "tree" else (step / "facts.json").unlink()
    with pytest.raises(UserError, match="run train.py"):
        train.train_and_evaluate(tiny_config(*place), tmp_path / "run")


@pytest.mark.compiled
def test_what_a_start_killed_early_left_does_not_bind(place, tmp_path, monkeypatch):
    skip_evaluation(monkeypatch)
    config = tiny_config(*place)
    config.epochs = 1
    (tmp_path / "run").mkdir()
    for name in ("config.json", "data.json", "split.csv"):
        (tmp_path / "run" / name).write_text("half a fi")
    train.train_and_evaluate(config, tmp_path / "run")


def test_other_images_are_refused(run, place, tmp_path):
    config = tiny_config(*place)
    make_tree(tmp_path / "other", make_records(10, 14, images=2).file.tolist())
    config.data.dir = str(tmp_path / "other")
    with pytest.raises(UserError, match="no longer those that the run"):
        train.train_and_evaluate(config, run)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[]"),
        ("config.json", "[" * 100_000),
        ("config.json", '{"seed": 0}'),
        ("data.json", "{}"),
        ("data.json", "{"),
        ("data.json", '{"audit": {}, "split": [], "seen_digests": []}'),
        ("data.json", '{"audit": {}, "split": [{"role": "x"}], "seen_digests": []}'),
        ("split.csv", ""),
    ],
)
def test_a_damaged_workdir_is_named(run, tmp_path, name, content):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(UserError, match=name):
        evaluation.evaluate_run(tmp_path / "run")


def test_an_output_folder_that_cannot_be_made_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="give another folder by --out"):
        evaluation.evaluate_run(run, out=tmp_path / "file" / "out")


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("choose", "scores", "chosen"),
    [
        # The highest AUC, whatever the loss; of equal AUCs the lowest loss; one class: the loss.
        ("best", [(0.6, 1.0), (0.9, 1.0), (0.7, 0.1)], 2),
        compiled("best", [(0.9, 1.0), (0.9, 0.4), (0.9, 0.7)], 2),
        compiled("best", [(None, 1.0), (None, 0.4), (None, 0.7)], 2),
        ("last", [(0.6, 1.0), (0.9, 1.0), (0.7, 0.1)], 3),
    ],
)
def test_the_checkpoint_to_evaluate_is_of_the_best_or_the_last_epoch(
    place, tmp_path, monkeypatch, choose, scores, chosen
):
    config = tiny_config(*place)
    config.checkpoint.choose = choose
    config.epochs = 3
    given = iter(scores)
    skip_evaluation(monkeypatch)

    def figures(label, logits):
        auc, loss = next(given)
        return {"val/loss": loss, "val/accuracy": 0.5, "val/roc_auc": auc}

    monkeypatch.setattr(loop, "validation_metrics", figures)
    train.train_and_evaluate(config, tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    steps = {kind: checkpoints.steps(kind)[-1] for kind in ("best", "latest")}
    assert steps["best"] * 3 == steps["latest"] * chosen


def test_validation_figures_equal_scikit_learn():
    rng = np.random.default_rng(0)
    label, logits = rng.integers(0, 2, 50), rng.normal(size=50)
    figures = validation_metrics(label, logits)
    probability = 1 / (1 + np.exp(-logits))
    assert figures["val/loss"] == pytest.approx(log_loss(label, probability))
    assert figures["val/roc_auc"] == pytest.approx(roc_auc_score(label, probability))
    assert figures["val/accuracy"] == pytest.approx(((logits >= 0) == label).mean())
    assert validation_metrics(np.ones(3, int), logits[:3])["val/roc_auc"] is None


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("batch_size", "log_every_steps"),
    # Seen by the loss, by the parameters, by validation.
    [compiled(8, 3), (8, 1), compiled(80, 3)],
)
def test_a_run_that_diverges_is_stopped_before_it_is_saved(
    place, tmp_path, batch_size, log_every_steps
):
    config = tiny_config(*place)
    config.batch_size = batch_size
    config.log_every_steps = log_every_steps
    config.checkpoint_minutes = 0.0
    config.optim.learning_rate = 1e39  # infinite in float32
    with pytest.raises(UserError, match=r"of step \d+ is not finite \(files in the batch: SOB_"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").rglob("tree"))


@pytest.mark.compiled
@pytest.mark.parametrize("method", [compiled("class_weights"), "oversample", compiled("none")])
def test_other_ways_to_balance_train_too(place, tmp_path, method):
    config = tiny_config(*place)
    config.epochs = 1
    config.balance.method = method
    train.train_and_evaluate(config, tmp_path / "run")


@pytest.mark.compiled
def test_skipped_files_are_listed_in_the_workdir(place, tmp_path):
    shutil.copytree(place[0], tmp_path / "tree")
    broken = next((tmp_path / "tree").rglob("*-40-001.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    config = tiny_config(tmp_path / "tree", place[1])
    config.epochs = 1
    with pytest.raises(UserError, match=broken.name):
        train.train_and_evaluate(config, tmp_path / "strict")
    config.data.on_bad_image = "skip"
    train.train_and_evaluate(config, tmp_path / "lenient")
    rows = list(csv.DictReader((tmp_path / "lenient" / "skipped_files.csv").open()))
    assert len(rows) == 1 and rows[0]["path"].endswith(broken.name)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.py"], "--config is missing"),
        compiled(["train.py", "--workdir={tmp}/w"], "--config is missing"),
        compiled(["train.py", "--config=configs/nothing.py", "--workdir={tmp}/w"], "nothing.py"),
        (
            ["train.py", "--config=configs/smoke.py", "--workdir={tmp}/w", "--config.epohcs=3"],
            "did you mean --config.epochs",
        ),
        compiled(
            ["train.py", "--config=configs/smoke.py", "--workdir={tmp}/w", "--config.epochs=many"],
            "--config.epochs=many",
        ),
        (
            [
                "train.py",
                "--config=configs/smoke.py",
                "--workdir={tmp}/w",
                "--config.data.dir={tmp}/x",
            ],
            "does not exist",
        ),
        compiled(
            ["train.py", "--config=configs/smoke.py", "--workdir=README.md/w"], "cannot be written"
        ),
        (["eval.py", "--workdir={tmp}/nothing"], "must be the folder of a run"),
        compiled(["eval.py", "--workdir={tmp}", "--split=tets"], "tets"),
        compiled(["eval.py", "--workdir={tmp}", "extra"], "unexpected argument 'extra'"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_code_2(tmp_path, arguments, words):
    result = command(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert result.returncode == 2, result.stderr
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and words in told[0]
    assert "Traceback" not in result.stderr


@pytest.mark.compiled
def test_the_notebooks_procedure_runs_and_is_called_what_it_is(tmp_path):
    make_tree(tmp_path / "tree", make_records(4, 14, images=3).file.tolist())
    config = tiny_config(tmp_path / "tree", tmp_path / "cache")
    config.split.protocol = "source"
    config.epochs = 1
    results = train.train_and_evaluate(config, tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "split.csv").open()))
    tested = [row for row in rows if row["role"] == "test"]
    synthetic = sum(row["file"].startswith("synthetic-") for row in tested)
    assert len(tested) == results["counts"]["images"]["all"] and synthetic
    assert results["audit"]["synthetic_test_images"] == synthetic
    assert results["audit"]["evaluated_images_of_seen_accessions"] > 0
    report = (tmp_path / "run" / "eval" / "test" / "report.html").read_text()
    assert f"{synthetic} of the test images are synthetic" in report
    # The images are as drawn, so another evaluation reads the same pixels.
    again = evaluation.evaluate_run(tmp_path / "run", out=tmp_path / "again")
    assert again["image"] == results["image"]
    with pytest.raises(UserError, match="no tiles can be cut"):
        evaluation.evaluate_run(tmp_path / "run", tta="tiles")
