"""Package, page and export of a run on a table name the table, not BreaKHis."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import se_resnet
from se_resnet.app.example_images import find_samples
from se_resnet.app.run_facts import describe
from se_resnet.export.exporting import describe_origin
from se_resnet.runs.image_source import ImageSource
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from se_resnet.runtime.templates import render
from tests.helpers.run_folders import make_run_folder

SOURCE = ImageSource("images.csv", (("normal",), ("tumor",)))


@pytest.fixture(scope="module")
def breakhis(tmp_path_factory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def table(breakhis, tmp_path) -> Path:
    run = Path(shutil.copytree(breakhis, tmp_path / "table"))
    data = json.loads((run / "data.json").read_text()) | SOURCE.facts() | {"magnifications": []}
    data["description"] = "table images.csv: 56 images of 14 patients"
    for row in data["split"]:
        row["slides"] = row["accessions"]
    (run / "data.json").write_text(json.dumps(data))
    config = json.loads((run / "config.json").read_text())
    config["data"]["dir"] = "images.csv"
    (run / "config.json").write_text(json.dumps(config))
    split = (run / "split.csv").read_text()
    for scale in ("40", "200"):
        split = split.replace(f",{scale},", ",0,")
    (run / "split.csv").write_text(split)
    return run


def given_roles(run: Path, straddling: int) -> None:
    for name, change in (
        ("config.json", lambda c: c["split"].update(protocol="table")),
        ("data.json", lambda d: d["audit"].update(straddling_accessions=straddling)),
    ):
        content = json.loads((run / name).read_text())
        change(content)
        (run / name).write_text(json.dumps(content))


def card(run: Path, out: Path) -> str:
    return (se_resnet.save_pretrained(run, out) / "README.md").read_text()


def page(run: Path) -> str:
    config = RunFolder(run).config()
    facts = describe(run, load_best(run), config)
    limits = {"largest_upload": 1, "largest_image": 1}
    samples = find_samples(run, config)
    return render("se_resnet.app", "app.html.j2", {}, **facts, **limits, samples=samples)


def test_the_model_card_of_a_table(table, breakhis, tmp_path):
    text = card(table, tmp_path / "package")
    for word in ("breakhis", "accession", "cc by", "breast", "slides", "magnifications"):
        found = [line for line in text.lower().splitlines() if word in line]
        assert not found, found
    for words in (
        "the images in `images.csv`, a table of its author",
        "benign stands for 'normal', malignant for 'tumor'",
        "table images.csv: 56 images of 14 patients.",
        "The licence of the training images is not known: the author has to name it",
        "| role | class | images | patients |\n|---|---|---|---|\n| train | benign |",
        "images.csv, protocol strict",
    ):
        assert words in text, words
    before = card(breakhis, tmp_path / "other")
    assert "training images are BreaKHis, CC BY 4.0" in before
    assert "| role | class | images | slides | patients |\n|---|---|---|---|---|\n| tr" in before


def test_a_package_of_a_table_keeps_its_name(table, tmp_path):
    package = se_resnet.save_pretrained(table, tmp_path / "package")
    again = se_resnet.save_pretrained(se_resnet.from_pretrained(package), tmp_path / "again")
    assert "the images in `images.csv`" in (again / "README.md").read_text()


@pytest.mark.parametrize(("straddling", "apart"), [(0, True), (2, False)])
def test_given_roles_in_card_and_page(table, tmp_path, straddling, apart):
    given_roles(table, straddling)
    assert "the user gave the role of each image" in card(table, tmp_path / "package")
    assert ("no test patient was in training" in page(table)) == apart


def test_the_page_of_a_table(table, breakhis):
    text = page(table)
    for word in ("BreaKHis", "breast", "H&amp;E", "0×", "known diagnosis"):
        assert word not in text, word
    assert "images.csv, a table of the run's author. In this table, benign stands for" in text
    assert "breast tissue stained with H&amp;E" in page(breakhis)


def test_an_export_of_a_table_names_the_licence_as_unknown(table, breakhis):
    facts = describe_origin(table, RunFolder(table).config(), "se")
    assert facts["training"]["images"] == "images.csv"
    assert "images.csv: not known, ask the author" in facts["licence"]["model"]
    facts = describe_origin(breakhis, RunFolder(breakhis).config(), "se")
    assert facts["training"]["images"] == "BreaKHis"
    assert "BreaKHis: CC BY 4.0" in facts["licence"]["model"]
