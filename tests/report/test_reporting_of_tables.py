"""Tables for a journal of a run on a table of images: nothing is called BreaKHis' that is not."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from se_resnet.metrics.full import all_metrics
from se_resnet.metrics.predictions import Predictions
from se_resnet.report import __main__ as command
from se_resnet.report.reporting import characteristics, checklist
from se_resnet.report.reporting.study import Study
from se_resnet.runs.evaluations import REPORT
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_folder import RunFolder
from tests.helpers.browser import FAULTS
from tests.helpers.run_folders import DECISION, make_run_folder

SOURCE = ImageSource("images.csv", (("normal",), ("in situ", "invasive")))
# Words that are true of BreaKHis only.
FOREIGN = ("BreaKHis", "ccession", "breast", "H&E", "CC BY", "adenosis", "carcinoma", "0x", "years")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = make_run_folder(tmp_path_factory.mktemp("reporting") / "run")
    (folder / "eval" / "test" / REPORT).write_text("report")
    return folder


@pytest.fixture
def table(made, tmp_path):
    """Makes a finished run on a table; each column is a function of the number of the image."""

    def make(protocol: str = "strict", magnification=lambda n: 0, subtype=lambda n: "", **columns):
        run = Path(shutil.copytree(made, tmp_path / "run"))
        with (run / "split.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        patients = {row["accession"]: f"case{n:02d}" for n, row in enumerate(rows)}
        for number, row in enumerate(rows):
            patient = patients[row["accession"]]
            row |= {"file": f"{number:03d}.jpg", "accession": patient, "slide": patient}
            row |= {"magnification": str(magnification(number)), "subtype": subtype(number)}
            role = row.pop("role")
            row |= {name: value(number) for name, value in columns.items()} | {"role": role}
        with (run / "split.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        tested = [row for row in rows if row["role"] == "test"]
        column = {name: np.array([row[name] for row in tested]) for name in rows[0]}
        predictions = Predictions(
            **{name: column[name] for name in ("file", "slide", "accession", "subtype")},
            magnification=column["magnification"].astype(int),
            label=column["label"].astype(int),
            probability=np.linspace(0, 1, len(tested)),
            extra={name: column[name] for name in columns},
        )
        out = run / "eval" / "test"
        predictions.write_csv(out / "predictions.csv")
        audit = json.loads((out / "metrics.json").read_text())["audit"]
        metrics = all_metrics(predictions, [DECISION], permutations=20) | {"audit": audit}
        (out / "metrics.json").write_text(json.dumps(metrics))
        data = json.loads((run / "data.json").read_text()) | SOURCE.facts()
        data["description"] = f"table images.csv: {len(rows)} images of {len(patients)} patients"
        (run / "data.json").write_text(json.dumps(data))
        config = json.loads((run / "config.json").read_text())
        config["split"]["protocol"] = protocol
        (run / "config.json").write_text(json.dumps(config))
        return run

    return make


def study(run: Path) -> Study:
    folder = RunFolder(run)
    return Study.read(folder, folder.evaluation().metrics(), folder.evaluation().predictions())


def answers(run: Path) -> dict[str, str]:
    """The answers by guideline and item."""
    return {
        f"{guideline.name} {row['item']}": row["answer"]
        for guideline in checklist.GUIDELINES
        for row in checklist.fill(guideline, study(run))
    }


def laid_out(run: Path) -> dict[str, list[str]]:
    return dict(characteristics.lay_out(study(run)).rows)


def test_nothing_says_that_the_images_are_those_of_breakhis(table):
    run = table()
    command.main([str(run)])
    folder = run / "eval" / "test" / "reporting"
    for name in ("methods.txt", "tripod_ai.csv", "claim.csv", "reporting.html", "flow.svg"):
        text = (folder / name).read_text()
        # The patient recognition rate is defined in the paper on BreaKHis, whose title is cited.
        text = text.replace("A dataset for breast", "").replace("2.0x", "")
        for word in FOREIGN:
            assert word not in text, (name, word, text[max(0, text.find(word) - 90) :][:180])
    text = " ".join((folder / "methods.txt").read_text().split())
    assert "listed in the table images.csv. In this table, benign stands for 'normal'" in text
    assert "The magnification of the images is not recorded." in text
    assert "slide" not in text
    found = answers(run)
    assert found["tripod_ai 5b"] == "The run knows no dates."
    assert "'in situ' or 'invasive'" in found["tripod_ai 8a"]
    assert "ubtype" not in found["tripod_ai 8a"]
    images = len(study(run).used)
    assert f"subtype ({images}), magnification ({images})" in found["claim 12"]
    assert "not reported by any part" in found["tripod_ai 14"]
    assert "not reported by any part" in found["tripod_ai 23b"]


def test_breakhis_keeps_its_sentences(made):
    found = answers(made)
    assert "breast tumours in histology images" in found["tripod_ai 1"]
    assert "accession numbers of the images begin with the years" in found["tripod_ai 5b"]
    assert "An accession number stands for a patient." in found["claim 7"]
    assert "Tumour types are benign: adenosis" in found["tripod_ai 8a"]
    assert "tumour type, magnification, slide and accession number" in found["claim 12"]


def test_the_flow_of_a_table_counts_patients_and_no_slides(table):
    run = table()
    command.main([str(run)])
    with (run / "eval" / "test" / "reporting" / "flow.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["stage"] == "found" and int(rows[0]["patients"]) > 0
    assert {row["slides"] for row in rows if row["images"] != "0"} == {""}
    assert "slide" not in (run / "eval" / "test" / "reporting" / "flow.svg").read_text()


def test_further_columns_are_counted_by_value_or_by_median(table):
    run = table(
        site=lambda n: "north" if n % 3 else "",
        age=lambda n: str(30 + n),
        um_per_px=lambda n: "0.25",
        note=lambda n: f"text {n}",
    )
    rows, used = laid_out(run), study(run).used
    everything = {"benign": "0", "malignant": "1"}

    def of(label: str) -> list[dict]:
        return [row for row in used if row["label"] == everything[label]]

    benign, malignant = of("benign"), of("malignant")
    assert rows["site: images"] == []
    counted = [sum(row["site"] == "north" for row in group) for group in (benign, malignant)]
    assert rows["north"][-2:] == list(map(str, counted))
    missing = [sum(row["site"] == "" for row in group) for group in (benign, malignant)]
    assert rows["not known"][-2:] == list(map(str, missing))
    assert rows["0.25"][-2:] == [str(len(benign)), str(len(malignant))]
    ages = [sorted(int(row["age"]) for row in group) for group in (benign, malignant)]
    shown = [f"{np.median(a):g} ({a[0]} to {a[-1]})" for a in ages]
    assert rows["age, median (range)"][-2:] == shown
    assert rows["note"][-2:] == [f"{len(group)} different values" for group in (benign, malignant)]
    columns = characteristics.columns(study(run))
    assert {"images_site=north", "images_site=not known", "age_median", "age_max"} <= set(columns)
    assert set(columns) == set(characteristics.count_characteristics(study(run))[0])
    found = answers(run)
    assert "the columns age and note: the author has to say" in found["tripod_ai 20b"]
    assert "come from 1 site (north)" in found["tripod_ai 12d"]
    assert "Site north: image accuracy" in found["tripod_ai 23b"]
    assert "reported by site only" in found["tripod_ai 14"]


def test_a_number_that_is_missing_is_counted(table):
    run = table(age=lambda n: "" if n % 2 else str(n))
    missing = sum(row["age"] == "" and row["label"] == "0" for row in study(run).used)
    assert laid_out(run)["age, median (range)"][-2].endswith(f", not known {missing}")


def test_subtypes_of_a_table_keep_their_names(table):
    run = table(subtype=lambda n: "A" if n % 2 else "per_patient_median")
    rows = laid_out(run)
    assert "Subtype: images (patients)" in rows and "A" in rows and "adenosis" not in rows
    row = characteristics.count_characteristics(study(run))[0]
    assert isinstance(row["images_per_patient_median"], float | int)
    assert row["images_subtype=A"] + row["images_subtype=per_patient_median"] == row["images"]
    found = answers(run)
    assert "Subtypes are benign: A and per_patient_median" in found["tripod_ai 8a"]
    assert "reported by subtype only" in found["tripod_ai 14"]


def test_images_of_unknown_magnification_are_named(table):
    run = table(magnification=lambda n: 20 if n % 2 else 0)
    used = study(run).used
    unknown = sum(row["magnification"] == "0" for row in used)
    sentence = answers(run)["claim 13"]
    assert f"1 magnification: {len(used) - unknown} at 20x." in sentence
    assert f"magnification of {unknown} images is not recorded" in sentence
    assert "20x" in laid_out(run) and "0x" not in laid_out(run)
    assert "unknown magnification" in answers(run)["tripod_ai 16"]


@pytest.mark.parametrize(
    ("columns", "file", "origin"),
    [
        ({}, "", "the column 'role' of images.csv"),
        ({"fold": lambda n: str(n % 5)}, "", "the column 'fold' of images.csv"),
        ({}, "split.csv", "a table with a role for each image"),
    ],
)
def test_given_roles_are_said_to_be_given_with_the_audit(table, columns, file, origin):
    run = table(protocol="table", **columns)
    config = json.loads((run / "config.json").read_text())
    config["split"]["file"] = file
    (run / "config.json").write_text(json.dumps(config))
    data = json.loads((run / "data.json").read_text())
    data["audit"]["straddling_accessions"] = 3
    (run / "data.json").write_text(json.dumps(data))
    sentence = answers(run)["claim 19"]
    assert "roles of the images in the division were given by the user" in sentence
    assert f"They come from {origin} (protocol 'table')" in sentence
    assert "with training or validation images: 3; images in more than one part: 0." in sentence
    assert "at random" not in sentence
    assert "fold" not in characteristics.columns(study(run))[9:]


@pytest.mark.parametrize("width", [1200, 420])
def test_the_pages_of_a_table_are_drawn_and_fit(browser, width, table):
    run = table(
        site=lambda n: f"hospital {n % 8} of a rather long name",
        age=lambda n: str(n),
        subtype=lambda n: "a subtype" if n % 2 else "",
    )
    command.main([str(run)])
    for name in ("reporting.html", "tripod_ai.html", "claim.html"):
        browser.open(run / "eval" / "test" / "reporting" / name, width)
        assert browser.messages + browser.evaluate(FAULTS) == [], name
