"""python -m data.protocols --published: without images, a table and the splits as files."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict

import pytest

from data.protocols import __main__
from data.protocols.published import publish
from data.protocols.published.leak_table import all_leaks
from data.protocols.published.splits import find
from data.protocols.roles import assign_roles
from data.protocols.split_file import read_roles
from tests.helpers.datasets import full_records
from tests.helpers.image_trees import make_tree


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    __main__.main(["--published", f"--out={folder}"])
    return folder


def test_the_command_prints_the_table_and_names_its_files(tmp_path, capsys):
    __main__.main(["--published", f"--out={tmp_path / 'out'}"])
    printed = capsys.readouterr().out
    assert "patient_audit  4     repaired" in printed and "645" in printed
    assert printed.endswith("out: authors, eva, patient_audit, published.csv\n")


def test_every_file_is_written_and_no_other(out):
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == set(publish.files()) and len(found) == 23
    assert {"eva/split.csv", "eva/repaired/split.csv", "authors/fold4/split.csv"} < found


def test_the_split_files_hold_the_images_of_the_table(out):
    for found in all_leaks():
        with (out / publish.split_path(found)).open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = ["file", "slide", "accession", "magnification", "subtype", "label", "role"]
        assert list(rows[0]) == columns
        expected = found.split.images(found.fold, found.repaired)
        assert Counter(row["role"] for row in rows) == +Counter(expected)
        roles_of = defaultdict(set)
        for row in rows:
            roles_of[row["accession"]].add(row["role"])
        several = sum(len(roles) > 1 for roles in roles_of.values())
        assert several == 0 if found.repaired else several >= 4


def test_a_split_file_can_be_read_for_the_images(out):
    records = full_records()
    roles = read_roles(out / "eva" / "split.csv", records)
    assert Counter(roles.tolist()) == {"train": 1132, "test": 339, "excluded": 7909 - 1471}


@pytest.mark.parametrize("place", ["eva/split.csv", "patient_audit/fold3/repaired/split.csv"])
def test_protocol_table_divides_by_a_split_file_as_protocol_published(out, place):
    records = full_records()
    name, *more, _ = place.split("/")
    options = {"folds": 5, "val_folds": 5, "seed": 0}
    by_file = assign_roles(records, "table", fold=0, file=str(out / place), **options)
    fold = 3 if "fold3" in more else 0
    repaired = "repaired" in more
    by_name = assign_roles(records, "published", fold=fold, name=name, repaired=repaired, **options)
    assert (by_file == by_name).all()


def test_the_table_has_a_row_for_every_fold_and_version(out):
    with (out / publish.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 22
    keys = [(row["split"], row["fold"], row["version"]) for row in rows]
    assert len(set(keys)) == 22 and keys[10] == ("eva", "", "as published")
    assert rows[10]["leaking_test_images"] == "91" and rows[11]["moved_images"] == "81"


def test_a_second_call_replaces_the_files_and_keeps_others(out):
    (out / "mine.txt").write_text("mine")
    (out / "eva" / "mine.txt").write_text("mine")
    before = (out / "eva" / "split.csv").read_bytes()
    (out / "eva" / "split.csv").write_text("old")
    __main__.main(["--published", f"--out={out}"])
    assert (out / "eva" / "split.csv").read_bytes() == before
    assert (out / "mine.txt").exists() and (out / "eva" / "mine.txt").exists()
    (out / "mine.txt").unlink()
    (out / "eva" / "mine.txt").unlink()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give one of --data_dir, --published"),
        (["--published", "--data_dir=sample"], "--data_dir and --published exclude each other"),
        (["--published", "--fold=2"], "--published takes no option but --out: leave out --fold"),
        (["--data_dir=x", "--name=eva"], "--name = 'eva' is for --protocol = 'published'"),
        (["--data_dir=x", "--repaired"], "--repaired = True is for --protocol = 'published'"),
        (["--data_dir=x", "--protocol=published"], "--name = '' is not a published split"),
        (
            ["--data_dir=x", "--protocol=published", "--name=eva", "--fold=1"],
            "--fold = 1 does not exist: choose 0.",
        ),
    ],
)
def test_mistakes_end_in_one_sentence_before_images_are_read(options, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        __main__.main(options)
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1 and words in message


def test_the_command_audits_images_by_a_published_split(tmp_path, capsys):
    records = full_records()
    split = find("eva")
    is_40x = (records.magnification == 40) & (records.subtype != "LC")
    names = [
        name
        for slide in sorted(set(records.slide[is_40x].tolist()))
        for name in records.file[is_40x & (records.slide == slide)][:1].tolist()
    ]
    tree = make_tree(tmp_path / "tree", names)
    for more, leaks in (([], True), (["--repaired"], False)):
        out = tmp_path / f"out{leaks}"
        options = [f"--data_dir={tree}", f"--cache_dir={tmp_path / 'cache'}", f"--out={out}"]
        __main__.main([*options, "--protocol=published", "--name=eva", *more])
        written = json.loads((out / "audit.json").read_text())
        assert written["split"]["name"] == "eva" and written["split"]["repaired"] is not leaks
        assert written["counts"]["straddling_accessions"] == (4 if leaks else 0)
        excluded = [name for name in names if name.rsplit("-", 2)[0] not in split.roles(0, False)]
        assert written["counts"]["excluded_copies"] == 0 and excluded
        assert f"{len(excluded)} images are excluded from every role." in written["notes"]
    assert "split: eva, repaired, published, fold 0 of 1" in capsys.readouterr().out
