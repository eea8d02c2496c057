from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.dataset import Dataset
from data.protocols import __main__, audit, source_notebook
from data.protocols.near_duplicates import NEAR_DISTANCE
from data.protocols.roles import assign_roles
from data.protocols.split_file import read_roles
from data.records import Records
from tests.helpers import ROOT
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import encode, make_tree
from tests.helpers.pictures import altered, pictures


@pytest.fixture
def clean() -> tuple[Records, np.ndarray, np.ndarray]:
    """128 images of 32 patients, a strict split of them, and their pictures."""
    records = make_records(images=2)
    roles = assign_roles(records, "strict", folds=5, fold=0, val_folds=5, seed=0)
    return records, roles, pictures(len(records))


def change(records: Records, column: str, place: int, value: str) -> Records:
    values = getattr(records, column).astype(object)
    values[place] = value
    return dataclasses.replace(records, **{column: values.astype(str)})


def first(roles: np.ndarray, role: str) -> int:
    return int(np.flatnonzero(roles == role)[0])


def test_a_clean_split_is_called_clean(clean):
    records, roles, images = clean
    result = audit.audit(records, roles, images)
    assert result["verdict"].startswith("clean for unseen patients")
    assert result["leaks"] == [] and result["notes"] == []
    assert set(result["counts"].values()) == {0}
    assert all(row["shared"] == 0 for rows in result["overlap"].values() for row in rows)
    assert result["near_duplicates"]["pairs"] == []
    assert json.loads(json.dumps(result)) == result
    assert "verdict: clean" in __main__.describe(result)


def test_an_image_of_equal_content_is_found_in_another_role(clean):
    records, roles, images = clean
    test, val = first(roles, "test"), first(roles, "val")
    records = change(records, "digest", test, records.digest[val])
    images[records.row[test]] = images[records.row[val]]
    result = audit.audit(records, roles, images)
    rows = {tuple(row["roles"]): row for row in result["overlap"]["image content"]}
    assert [rows[pair]["shared"] for pair in rows] == [0, 0, 1, 1]
    assert rows["val", "test"]["names"] == sorted([records.file[val], records.file[test]])
    assert rows["val", "test"]["images"] == [1, 1]
    assert result["leaks"] == [
        "1 test image is also in training or validation, by identical pixels."
    ]
    assert result["near_duplicates"]["pairs"] == [], "identical images are told once"


def test_a_near_duplicate_is_found(clean):
    records, roles, images = clean
    test, train = first(roles, "test"), first(roles, "train")
    images[records.row[test]] = altered(images[records.row[train]])
    result = audit.audit(records, roles, images)
    (pair,) = result["near_duplicates"]["pairs"]
    assert pair["test_file"] == records.file[test] and pair["file"] == records.file[train]
    assert pair["role"] == "train" and 0 < pair["distance"] <= NEAR_DISTANCE
    assert not pair["same_accession"]
    assert result["leaks"] == [
        "1 test image is nearly the same as an image in training or validation, 1 of another "
        "patient."
    ]
    assert result["counts"]["near_duplicate_test_images"] == 1
    assert result["counts"]["near_duplicate_test_images_of_another_accession"] == 1


def test_a_slide_and_an_accession_on_both_sides_are_named(clean):
    records, roles, images = clean
    test, train = first(roles, "test"), first(roles, "train")
    mine = records.accession == records.accession[test]
    records = change(records, "accession", train, records.accession[test])
    result = audit.audit(records, roles, images)
    overlap = {level: rows[-1] for level, rows in result["overlap"].items()}
    assert overlap["accession"]["names"] == [records.accession[test]]
    assert overlap["accession"]["images"] == [1, mine.sum()] == [1, 4]
    assert overlap["slide"]["shared"] == 0
    assert result["counts"]["straddling_accessions"] == 1
    assert result["counts"]["straddling_test_images"] == 4
    assert result["leaks"] == [
        "1 patient is in the test set, with 4 images, and in training or validation too "
        f"({records.accession[test]})."
    ]
    records = change(records, "slide", train, records.slide[test])
    result = audit.audit(records, roles, images)
    assert result["overlap"]["slide"][1] == {
        "roles": ["train", "test"],
        "shared": 1,
        "images": [1, 4],
        "names": [records.slide[test]],
    }
    assert len(result["leaks"]) == 2 and result["verdict"].startswith("NOT clean")


def test_a_patient_in_training_and_validation_is_no_leak(clean):
    records, roles, images = clean
    records = change(
        records, "accession", first(roles, "val"), records.accession[first(roles, "train")]
    )
    result = audit.audit(records, roles, images)
    assert result["leaks"] == []
    assert result["notes"][0].startswith("1 patient is in both training and validation")


def test_synthetic_images_are_counted_by_role(clean):
    records, roles, images = clean
    for number, role in enumerate(("test", "train")):
        records = change(records, "file", first(roles, role), f"synthetic-0000{number}.png")
    result = audit.audit(records, roles, images, {"test": 2})
    assert result["synthetic"] == {"train": 1, "val": 0, "test": 3}
    assert result["counts"]["synthetic_test_images"] == 3
    assert audit.count_leaks(records, roles)["synthetic_test_images"] == 1
    assert result["leaks"] == ["3 test images are synthetic: blends, not photographs."]


def test_balance_adds_up(clean):
    records, roles, images = clean
    balance = audit.audit(records, roles, images)["balance"]
    assert sum(row["images"] for row in balance if row["magnification"]) == len(records)
    totals = [row for row in balance if row["magnification"] is None]
    assert sum(row["images"] for row in totals) == len(records)
    assert sum(row["accessions"] for row in totals) == 32
    (row,) = [
        row
        for row in balance
        if (row["role"], row["class"], row["magnification"]) == ("test", "malignant", 40)
    ]
    mine = (roles == "test") & (records.label == 1) & (records.magnification == 40)
    assert row["images"] == mine.sum() and row["slides"] == row["accessions"] == mine.sum() / 2


def test_an_accession_filed_twice_is_told_with_its_copies(clean):
    records, roles, images = clean
    mine = np.flatnonzero(records.accession == records.accession[first(roles, "train")])
    copy = int(mine[1])
    records = change(records, "subtype", copy, "F")
    records = change(records, "slide", copy, "SOB_B_F-14-1000")
    records = change(records, "digest", copy, records.digest[mine[0]])
    roles[copy] = "excluded"
    result = audit.audit(records, roles, images)
    (row,) = result["filed_twice"]
    assert row["identical_images"] == 1 and row["excluded"] == 1
    assert sum(row["slides"].values()) == len(mine) and len(row["slides"]) == 2
    assert any("filed as" in note for note in result["notes"])
    assert result["verdict"].startswith("clean")


def test_subtypes_are_named_where_a_table_has_no_slides(clean):
    records, roles, images = clean
    patient = records.accession[first(roles, "train")]
    mine = np.flatnonzero(records.accession == patient)
    copy = int(mine[1])
    records = change(records, "subtype", copy, "F")
    records = change(records, "digest", copy, records.digest[mine[0]])
    roles[copy] = "excluded"
    (note,) = [note for note in audit.audit(records, roles, images)["notes"] if "filed as" in note]
    assert note.startswith(f"patient {patient} is filed as A and F: 1 of")


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        (np.full(128, "train"), "no test image"),
        (np.full(128, "test"), "neither training nor validation"),
        (np.full(128, "unassigned"), "no test image"),
    ],
)
def test_nothing_is_called_clean_where_nothing_can_be_judged(clean, roles, words):
    records, _, images = clean
    result = audit.audit(records, roles, images)
    assert result["verdict"].startswith("nothing to judge") and words in result["verdict"]
    __main__.describe(result)


def test_no_records_are_no_error():
    records = make_records(0, 0)
    result = audit.audit(records, np.array([], str), np.zeros((0, 8, 8, 3), np.uint8))
    assert result["verdict"].startswith("nothing to judge")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Images of 10 benign and 10 malignant patients, two of one patient showing one field."""
    root = tmp_path_factory.mktemp("tree")
    records = make_records(10, 10, images=2)
    base = make_tree(root, records.file.tolist())
    picture = pictures(1, seed=9)[0]
    paths = [next(base.rglob(name)) for name in records.file[:2].tolist()]
    paths[0].write_bytes(encode(picture))
    paths[1].write_bytes(encode(altered(picture)))
    return base


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def own_split(path: Path, rows: list[tuple[str, str]], header: str = "file,role") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def command(tree: Path, cache_dir: Path, out: Path, *more: str) -> dict:
    __main__.main([f"--data_dir={tree}", f"--cache_dir={cache_dir}", f"--out={out}", *more])
    return json.loads((out / "audit.json").read_text())


def test_the_command_audits_a_protocol(tree, cache_dir, tmp_path, capsys):
    written = command(tree, cache_dir, tmp_path / "out", "--protocol=strict", "--fold=1")
    assert written["verdict"].startswith("clean") and written["split"]["fold"] == 1
    printed = capsys.readouterr().out
    assert "split: strict, fold 1 of 5" in printed and "verdict: clean" in printed
    records = make_records(10, 10, images=2)
    expected = assign_roles(records, "strict", folds=5, fold=1, val_folds=5, seed=0)
    assert (read_roles(tmp_path / "out" / "split.csv", records) == expected).all()


def test_the_command_restricts_magnifications(tree, cache_dir, tmp_path):
    written = command(tree, cache_dir, tmp_path, "--magnifications=200", "--protocol=random")
    assert written["images"] == 40 and written["magnifications"] == [200]
    assert written["leaks"]


def test_an_audit_replaces_another_and_keeps_its_split(tree, cache_dir, tmp_path, monkeypatch):
    command(tree, cache_dir, tmp_path, "--fold=1")
    split = (tmp_path / "split.csv").read_bytes()
    written = command(tree, cache_dir, tmp_path, f"--split={tmp_path / 'split.csv'}")
    assert (tmp_path / "split.csv").read_bytes() == split
    assert written["split"] == {"file": str(tmp_path / "split.csv")}

    def fail(*_arguments):
        raise OSError("no more")

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.setattr(__main__, "write_split", fail)
    with pytest.raises(OSError):
        command(tree, cache_dir, tmp_path, "--fold=2")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before


def test_the_command_audits_what_the_notebook_did(tree, cache_dir, tmp_path):
    options = ["--protocol=source", "--val_folds=2"]
    small = make_tree(tmp_path / "tree", make_records(3, 8, images=5).file.tolist())
    written = command(small, cache_dir, tmp_path / "out", *options)
    assert written["counts"]["synthetic_test_images"] > 0
    assert written["verdict"].startswith("NOT clean")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"audit.json", "near_duplicates.csv", "split.csv"}


def test_the_command_audits_the_images_that_a_run_has_made(tmp_path, cache_dir):
    records = make_records(6, 14, images=5)
    images = Dataset(pictures(len(records)), records, "generated", "what was found", [])
    made = source_notebook.derive(images, tmp_path / "source", lambda block: block, seed=0)
    files = made.records.file.tolist()
    roles = ["test" if file.startswith("synthetic-") else "train" for file in files]
    path = own_split(tmp_path / "mine.csv", list(zip(files, roles, strict=True)))
    written = command(tmp_path / "source", cache_dir, tmp_path / "out", f"--split={path}")
    synthetic = int(made.records.is_synthetic.sum())
    assert written["synthetic"] == {"train": 0, "val": 0, "test": synthetic}
    assert written["near_duplicates"]["test_images"] > synthetic / 2, "blends are near a parent"


def test_the_command_audits_somebodys_own_split(tree, cache_dir, tmp_path, capsys):
    files = make_records(10, 10, images=2).file.tolist()
    roles = ["test", *["train"] * 50, *["val"] * 9, *["test"] * 10]
    listed = [(f"some\\folder/{file}", role) for file, role in zip(files, roles, strict=False)]
    listed.append(("synthetic-7.png", "test"))
    path = own_split(tmp_path / "mine.csv", listed)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    written = command(tree, cache_dir, tmp_path / "out", f"--split={path}")
    assert written["split"] == {"file": str(path)}
    assert len(written["unassigned"]) == 10 and written["unassigned"] == files[70:]
    assert written["synthetic"]["test"] == 1
    pairs = list(csv.DictReader((tmp_path / "out" / "near_duplicates.csv").open()))
    assert [(pair["test_file"], pair["file"]) for pair in pairs] == [tuple(files[:2])]
    assert pairs[0]["same_accession"] == "True"
    assert not (tmp_path / "out" / "split.csv").exists()
    printed = capsys.readouterr().out
    assert "note: 10 images are unassigned" in printed and f"{files[0]} (test) and" in printed
    assert "WARNING: 1 patient is in the test set, with 1 image, and" in printed


def test_an_own_split_may_list_other_magnifications(tree, cache_dir, tmp_path):
    records = make_records(10, 10, images=2)
    roles = np.where(records.magnification == 40, "train", "test").tolist()
    path = own_split(tmp_path / "mine.csv", list(zip(records.file.tolist(), roles, strict=True)))
    options = [f"--split={path}", "--magnifications=200"]
    written = command(tree, cache_dir, tmp_path / "out", *options)
    images = {row["role"]: 0 for row in written["balance"]}
    for row in written["balance"]:
        images[row["role"]] += row["images"] if row["magnification"] else 0
    assert images == {"train": 0, "val": 0, "test": 40} and written["unassigned"] == []


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (
            [("SOB_B_A-14-9-40-001.png", "train")],
            "file,role",
            "1 in all, for example 'SOB_B_A-14-9",
        ),
        ([("SOB_B_A-14-1000-40-001.png", "hero")], "file,role", "unknown role 'hero': use train"),
        ([("SOB_B_A-14-1000-40-001.png",)], "file,role", "line 2: 1 values instead of 2"),
        ([("SOB_B_A-14-1000-40-001.png", "val")] * 2, "file,role", "-001.png twice"),
        ([("a/SOB_B_A-14-1000-40-001.png", "x")], "path,role", "lacks the column 'file'"),
        ([("SOB_B_A-14-1000-40-001.png", "val")], "file;role", "line 2: 1 values instead of 2"),
    ],
)
def test_mistakes_in_a_split_end_in_one_sentence(
    tree, cache_dir, tmp_path, capsys, rows, header, words
):
    path = own_split(tmp_path / "mine.csv", rows, header)
    with pytest.raises(SystemExit) as stopped:
        command(tree, cache_dir, tmp_path / "out", f"--split={path}")
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and printed.count("\n") == 1
    assert words in printed and "mine.csv" in printed


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--protocol=stricter", "--protocol = 'stricter' is unknown"),
        ("--fold=5", "--fold = 5 does not exist"),
        ("--magnifications=30", "magnification 30 does not exist"),
        ("--magnifications=a", "'a' is not a list such as 100,200"),
        ("--seed=-1", "'-1' is not a number from 0"),
        ("--data_dir=", "--data_dir is empty"),
        ("--split=/nowhere.csv", "/nowhere.csv cannot be read"),
        ("--folds=two", "--help lists the options"),
    ],
)
def test_mistaken_options_end_in_one_sentence(tree, cache_dir, tmp_path, capsys, option, words):
    with pytest.raises(SystemExit) as stopped:
        command(tree, cache_dir, tmp_path / "out", option)
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and printed.count("\n") == 1 and words in printed


@pytest.mark.compiled
def test_the_module_audits_the_shipped_sample(tmp_path):
    options = ["--data_dir=sample", f"--cache_dir={tmp_path}", f"--out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "data.protocols", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "verdict: clean for unseen patients" in done.stdout and done.stderr == ""
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written["images"] == 116
