"""Runs of protocol published: a tiny network on generated images of official names."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from ml_collections import ConfigDict

import eval as evaluation
import se_resnet
import train
from data import run_data
from data.config_check import check_data_config
from data.protocols.published.splits import find
from se_resnet.app import run_facts
from se_resnet.errors import UserError
from se_resnet.package.save_load import save_pretrained
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.cli import exit_on_user_error
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import full_records
from tests.helpers.image_trees import make_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """One image of every slide at 40X, two of those with several slides, and some at 200X."""
    records = full_records()
    names = [
        f"{slide}-{magnification}-{sequence:03d}.png"
        for slide in sorted(set(records.slide.tolist()))
        for magnification in (40, 200)
        for sequence in (1, 2)
    ]
    return make_tree(tmp_path_factory.mktemp("tree"), sorted({*names} & {*records.file.tolist()}))


@pytest.fixture
def config(tree, tmp_path_factory) -> ConfigDict:
    config = tiny_config(tree, tmp_path_factory.getbasetemp() / "cache")
    config.epochs = 1
    config.split.protocol = "published"
    config.split.name = "eva"
    return config


def test_an_unrepaired_split_trains_and_warns(config, tmp_path, capsys):
    metrics = train.train_and_evaluate(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "published split 'eva', unrepaired, fold 0 of 1" in printed
    assert "WARNING: 4 patients of the test set, with" in printed
    assert "images that the split does not contain" in printed
    assert metrics["audit"]["protocol"] == "published"
    assert metrics["audit"]["straddling_accessions"] == 4
    assert metrics["audit"]["excluded_copies"] == 0
    tested = {row["slide"] for row in rows_of(tmp_path / "run", "test")}
    role_of = find("eva").roles(0, False)
    assert tested <= {slide for slide, role in role_of.items() if role == "test"}
    run = RunFolder(tmp_path / "run")
    loaded = se_resnet.load_run(run.path)
    assert run_facts.describe(run.path, loaded.run, run.config())["known_patients"] == 4
    report = (tmp_path / "run" / "eval" / "test" / "report.html").read_text()
    assert "say little about unseen patients" in report


def test_a_repaired_split_trains_resumes_and_tests_unseen_patients(config, tmp_path, capsys):
    config.split.repaired = True
    run = RunFolder(tmp_path / "run")
    metrics = train.train_and_evaluate(config, run.path)
    printed = capsys.readouterr().out
    assert "published split 'eva', repaired, fold 0 of 1" in printed
    assert "WARNING" not in printed.split("\nbalance ")[0]
    assert metrics["audit"]["straddling_accessions"] == 0
    assert metrics["audit"]["evaluated_accessions_seen"] == 0
    parts = [{row["accession"] for row in rows_of(run.path, r)} for r in ("train", "val", "test")]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts))
    # The tables for a journal name the split and count what it lacks, apart from copies.
    reporting = next((run.path / "eval" / "test").rglob("flow.csv")).read_text()
    left_out = len(rows_of(run.path, "excluded"))
    assert f"not taken by the protocol,{left_out}," in reporting
    assert "copy of another image" not in reporting
    words = next((run.path / "eval" / "test").rglob("methods*")).read_text().split()
    methods = " ".join(words)
    assert "split 'eva'" in methods and "were moved to one part" in methods
    # The page and the model card say that patients are apart.
    loaded = se_resnet.load_run(run.path)
    assert run_facts.describe(run.path, loaded.run, run.config())["known_patients"] == 0
    save_pretrained(run.path, tmp_path / "package")
    card = (tmp_path / "package" / "README.md").read_text()
    assert "a published split by slide folder, repaired" in card
    assert "training and validation contain no patient of the test set" in card
    config.epochs = 1
    train.train_and_evaluate(config, run.path)
    config.split.repaired = False
    with pytest.raises(
        UserError, match=r"config.split.repaired = True, but this command has False"
    ):
        train.train_and_evaluate(config, run.path)


@pytest.mark.slow
def test_all_folds_of_the_audit_are_trained_and_pooled(config, tmp_path):
    config.split.name, config.split.fold = "patient_audit", "all"
    config.data.magnifications = (40,)
    config.split.repaired = True
    metrics = train.train_and_evaluate(config, tmp_path / "run")
    assert len(metrics["folds"]) >= 1 and metrics["audit"]["straddling_accessions"] == 0
    folds = sorted(path.name for path in (tmp_path / "run").glob("fold*"))
    assert folds == [f"fold{number}" for number in range(5)]
    tested = [{row["file"] for row in rows_of(tmp_path / "run" / f, "test")} for f in folds]
    assert all(files == tested[0] for files in tested)
    again = evaluation.evaluate_run(tmp_path / "run")
    assert again["image"] == metrics["image"]


@pytest.fixture
def mirrored(config, tmp_path) -> ConfigDict:
    """One image of every slide; a training image of eva shows a test image of another patient."""
    records = full_records()
    slides = sorted(set(records.slide[records.magnification == 40].tolist()))
    names = [next(n for n in records.file.tolist() if n.startswith(f"{s}-40-")) for s in slides]
    tree = make_tree(tmp_path / "tree", names)
    source, target = (
        next(tree.rglob(f"{slide}-40-*.png"))
        for slide in ("SOB_M_DC-14-15792", "SOB_M_DC-14-10926")
    )
    cv2.imwrite(str(target), cv2.imread(str(source))[:, ::-1])
    config.data.dir = str(tree)
    return config


def test_a_repaired_split_refuses_near_duplicates_of_another_patient(mirrored, tmp_path):
    mirrored.split.repaired = True
    run = RunFolder(tmp_path / "run")
    words = "^a repaired split promises unseen patients, but the test image SOB_M_DC-14-15792-40-"
    with pytest.raises(UserError, match=words):
        run_data.prepare(mirrored, run, lambda images: images)
    mirrored.split.allow_near_duplicates = True
    prepared = run_data.prepare(mirrored, run, lambda images: images)
    assert set(prepared.near.values()) == {1}


def test_an_unrepaired_split_counts_near_duplicates(mirrored, tmp_path, capsys):
    prepared = run_data.prepare(mirrored, RunFolder(tmp_path / "run"), lambda images: images)
    assert set(prepared.near.values()) == {1}
    assert "WARNING: 1 test image is nearly the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split.name": ""}, "config.split.name = '' is not a published split: choose from"),
        ({"split.name": "evo"}, "choose from authors, eva, patient_audit"),
        ({"split.fold": "1"}, "config.split.fold = 1 does not exist: choose 0."),
        ({"split.protocol": "strict"}, "config.split.name = 'eva' is for"),
        ({"split.protocol": "official", "split.name": "", "split.repaired": True}, "repaired ="),
        ({"data.magnifications": (100, 200)}, "has images of magnification 40 only"),
        ({"split.name": "patient_audit", "repeats": 3}, "config.repeat_seeds = 'training'"),
        ({"split.val_folds": 1}, "config.split.val_folds = 1 leaves no training images"),
    ],
)
def test_mistakes_end_a_run_before_an_image_is_read(config, tmp_path, capsys, changes, words):
    config.data.dir = str(tmp_path / "absent")
    config.update_from_flattened_dict(changes)
    with pytest.raises(SystemExit) as stopped, exit_on_user_error():
        train.train_and_evaluate(config, tmp_path / "run")
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and words in message
    assert not (tmp_path / "run" / "config.json").exists()


def test_repeats_are_allowed_where_they_differ(config):
    config.repeats = 3
    check_data_config(config)
    config.split.name, config.repeat_seeds = "patient_audit", "training"
    check_data_config(config)


def rows_of(run: Path, role: str) -> list[dict[str, str]]:
    return [row for row in RunFolder(run).split(("file", "slide", "role")) if row["role"] == role]
