"""Images with names of their own: from a table to a run, an audit and an external test."""

from __future__ import annotations

import csv
import json
import re

import pytest

import eval as evaluation
import train
from data.protocols.__main__ import main as audit
from data.table.__main__ import main as list_images
from data.table.columns import Reading
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import Predictions
from tests.helpers.configs import tiny_config
from tests.helpers.own_images import own_table, write_images, write_table


def configured(table, folder, **changes):
    config = tiny_config(table, folder / "cache")
    config.split.folds = config.split.val_folds = 3
    config.epochs = 1
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    columns = {
        "site": lambda n: "AB"[n % 2],
        "age": lambda n: 40 + n,
        "magnification": lambda _: 20,
    }
    return own_table(tmp_path_factory.mktemp("own"), **columns)


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train.train_and_evaluate(configured(table, folder), folder / "run")
    return folder / "run"


def test_a_run_keeps_the_columns_of_its_table(run):
    with (run / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36 and rows[0]["site"] == "A" and rows[0]["age"] == "40"
    predictions = Predictions.read_csv(run / "eval/test/predictions.csv")
    assert set(predictions.extra) == {"site", "age"}
    assert set(predictions.magnification.tolist()) == {20}
    facts = json.loads((run / "data.json").read_text())
    assert facts["magnifications"] == [20]
    assert facts["description"].startswith("table images.csv: 36 images of 12 patients")


def test_no_patient_is_both_trained_on_and_tested(run):
    with (run / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    roles = {
        role: {row["accession"] for row in rows if row["role"] == role}
        for role in ("train", "val", "test")
    }
    assert all(roles.values())
    assert not roles["test"] & (roles["train"] | roles["val"]) and not roles["train"] & roles["val"]


def test_the_same_table_resumes_and_a_changed_label_is_refused(run, table, tmp_path):
    config = configured(table, run.parent)
    train.train_and_evaluate(config, run)
    changed = tmp_path / "images.csv"
    changed.write_text(
        table.read_text()
        .replace("\ncase", f"\n{table.parent}/case")
        .replace(",0,case00", ",1,case00")
    )
    with pytest.raises(UserError, match="no longer those that the run"):
        train.train_and_evaluate(configured(changed, run.parent), run)


def test_other_images_are_an_external_test(run, tmp_path):
    rows = [
        row | {"label": "tumor" if row["label"] else "normal"}
        for row in write_images(tmp_path / "other", patients=6)
    ]
    other = write_table(tmp_path / "other" / "other.csv", rows)
    with pytest.raises(UserError, match="set --positive to those that mean malignant"):
        evaluation.evaluate_run(run, data_dir=str(other))
    metrics = evaluation.evaluate_run(run, data_dir=str(other), reading=Reading("tumor"))
    assert metrics["counts"]["images"]["all"] == 18
    report = (run / "eval" / "other.csv-all" / "report.html").read_text()
    assert "other images (other.csv)" in report
    assert "The magnification of these images is not known." in report
    # Their patients have the names of patients of the run, and are not the same.
    assert "if they are the same patients" in report


def test_labels_of_a_table_that_is_not_given_are_refused(run):
    with pytest.raises(UserError, match="give --data_dir too"):
        evaluation.evaluate_run(run, reading=Reading(patient="case"))


def test_the_audit_takes_a_table(table, tmp_path, capsys):
    audit(
        [
            f"--data_dir={table}",
            f"--out={tmp_path / 'audit'}",
            "--folds=3",
            "--val_folds=3",
            f"--cache_dir={tmp_path}",
        ]
    )
    assert "verdict: clean for unseen patients" in capsys.readouterr().out
    audit(
        [
            f"--data_dir={table}",
            f"--out={tmp_path / 'random'}",
            "--protocol=random",
            f"--cache_dir={tmp_path}",
        ]
    )
    assert "verdict: NOT clean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split.folds": 9}, "9 folds need 9 .* of each class"),
        ({"split.protocol": "table"}, "needs a column 'role' or 'fold'"),
        ({"split.fold": "7"}, "config.split.fold = 7 does not exist"),
        ({"split.protocol": "official"}, "the authors' folds lack the slide"),
        ({"balance.method": "smoot"}, "config.balance.method = 'smoot' is unknown"),
        ({"model.attention_position": "root"}, "config.model.attention_position"),
        ({"data.resize": "shrink"}, "config.data.resize = 'shrink' is unknown"),
        ({"data.magnifications": (200,)}, "no image has magnification 200"),
        ({"data.patient": "person"}, "lacks the column 'person'"),
        ({"data.on_bad_image": "ignore"}, "config.data.on_bad_image"),
    ],
)
def test_everything_is_checked_before_an_image_is_read(tmp_path, changes, message):
    table = own_table(tmp_path / "images")
    for image in table.parent.glob("*.jpg"):
        image.unlink()
    with pytest.raises(UserError, match=message):
        train.train_and_evaluate(configured(table, tmp_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_class_folders_become_a_table(tmp_path, capsys):
    for name in ("Normal", "Benign", "InSitu", "Invasive"):
        write_images(tmp_path / "BACH" / name, patients=2, images=1)
    list_images(
        [
            str(tmp_path / "BACH"),
            r"--patient=(case\d+)",
            "--positive=InSitu,Invasive",
            "--negative=Normal,Benign",
            "--um_per_px=0.42",
            f"--out={tmp_path / 'bach.csv'}",
        ]
    )
    assert "8 images of 2 patients" in capsys.readouterr().out
    with (tmp_path / "bach.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "file": "BACH/Benign/case00_0.jpg",
        "label": "0",
        "patient": "case00",
        "subtype": "Benign",
        "um_per_px": "0.42",
    }
    assert {row["subtype"] for row in rows if row["label"] == "1"} == {"InSitu", "Invasive"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patient=case"], "no group in parentheses"),
        ([r"--patient=(P\d+)"], r"6 images of .* cannot be listed"),
        (["--patient=file", "--positive=tumor"], "no image in a folder named"),
        (["--patient=file", "--um_per_px=0"], "is no plausible scale"),
        (["--patient=file", "--positive=Normal"], "named twice"),
        (["--patient=file", "--negative="], "names no folder"),
    ],
)
def test_mistakes_with_class_folders_end_in_one_sentence(tmp_path, capsys, options, message):
    write_images(tmp_path / "tree" / "normal", patients=6, images=1)
    argv = [str(tmp_path / "tree"), f"--out={tmp_path / 'images.csv'}", "--negative=normal"]
    if "tumor" in options[-1]:
        argv[-1] = "--negative=healthy"
    with pytest.raises(SystemExit) as stop:
        list_images([*argv, *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "images.csv").exists()
