"""The images of a table as input of the prediction."""

from __future__ import annotations

import csv
import json
import re

import pytest

from se_resnet.errors import UserError
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.inputs import find_inputs
from se_resnet.predict.pictures import overlay_name
from se_resnet.runtime.walk import PassedOver
from tests.helpers.own_images import write_images, write_table


@pytest.fixture()
def rows(tmp_path):
    return write_images(tmp_path / "images", patients=4, images=2)


def test_the_images_and_patients_of_a_table_are_predicted(run, rows, tmp_path, capsys):
    rows[0]["file"] = str(tmp_path / "images" / rows[0]["file"])
    (tmp_path / "images" / "unlisted.jpg").write_text("not an image")
    table = write_table(
        tmp_path / "images" / "new.csv", [*rows[:-1], {**rows[-1], "file": "a.jpg"}]
    )
    predict_folder(run, table, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    assert [row["file"] for row in predicted] == [row["file"] for row in rows[:-1]]
    assert predicted[0]["patient"] == "case00"
    with (tmp_path / "out" / "patients.csv").open() as file:
        assert [row["images"] for row in csv.DictReader(file)] == ["2", "2", "2", "1"]
    printed = capsys.readouterr().out
    assert "not used: a.jpg cannot be read" in printed
    overlays = tmp_path / "out" / "overlays"
    assert (overlays / overlay_name(predicted[0]["file"])).is_file()
    assert len(list(overlays.rglob("*.png"))) == 7


def test_a_second_prediction_replaces_the_first(run, rows, tmp_path):
    table = write_table(tmp_path / "images" / "new.csv", rows)
    predict_folder(run, table, tmp_path / "out", overlays=False)
    write_table(table, rows[:3])
    predict_folder(run, table, tmp_path / "out", overlays=False)
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(written["predictions"]) == 3


def test_without_patients_and_labels_a_table_is_a_list_of_files(run, rows, tmp_path, capsys):
    table = write_table(tmp_path / "images" / "new.csv", [{"file": row["file"]} for row in rows])
    predict_folder(run, table, tmp_path / "out", overlays=False)
    assert "the table names no patients" in capsys.readouterr().out
    assert not (tmp_path / "out" / "patients.csv").exists()


def test_a_scale_that_the_run_cannot_use_is_said(run, rows, tmp_path, capsys):
    rows = [row | {"um_per_px": 0.5} for row in rows]
    table = write_table(tmp_path / "images" / "new.csv", rows)
    predict_folder(run, table, tmp_path / "out", overlays=False)
    assert "um_per_px of the table is not used: the run has no scale" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\n../a.jpg\nb.jpg\n", r"1 rows of .*\n  line 2: a path with '\.\.'"),
        ("file\na.jpg\n./a.jpg\n", "line 3: a.jpg is listed twice"),
        ("file,um_per_px\na.jpg,nm\n", "line 2: um_per_px = 'nm' is not a number"),
        ("path\na.jpg\n", "lacks the column 'file'"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, message):
    table = tmp_path / "new.csv"
    table.write_text(text)
    with pytest.raises(UserError) as error:
        find_inputs(table, "(x)", PassedOver())
    assert re.search(message, str(error.value))


def test_overlays_of_absolute_paths_stay_in_their_folder():
    assert overlay_name("/data/a.jpg") == "data/a.jpg.png"
    assert not overlay_name(f"/{'a' * 300}.jpg").startswith("/")
