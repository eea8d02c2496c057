"""The table of the published splits: its counts, and the page that shows it."""

from __future__ import annotations

from collections import Counter

import pytest

from data.breakhis.filenames import parse
from data.breakhis.official import official_names
from data.protocols.published.leak_table import Leaks, all_leaks, describe
from data.protocols.published.splits import find
from tests.helpers import ROOT

ROLES = ("train", "val", "test")


@pytest.mark.parametrize("found", all_leaks(), ids=lambda f: f"{f.split.name}{f.fold}{f.repaired}")
def test_every_row_agrees_with_a_count_of_the_file_names(found):
    names = [parse(text) for text in official_names()]
    role_of = found.split.roles(found.fold, found.repaired)
    names = [n for n in names if n.slide in role_of]
    names = [n for n in names if n.magnification in found.split.magnifications]
    row = found.row()
    for role in ROLES:
        part = [n for n in names if role_of[n.slide] == role]
        assert row[f"{role}_images"] == len(part)
        assert row[f"{role}_ids"] == len({n.slide for n in part})
        assert row[f"{role}_accessions"] == len({n.accession for n in part})
    seen = {n.accession for n in names if role_of[n.slide] != "test"}
    tested = [n for n in names if role_of[n.slide] == "test"]
    leaking = [n for n in tested if n.accession in seen]
    assert row["leaking_test_images"] == len(leaking)
    assert row["leaking_accessions"] == len({n.accession for n in leaking})
    for label, name in enumerate(("benign", "malignant")):
        of_class = [n for n in tested if n.label == label]
        assert row[f"test_{name}"] == len(of_class)
        assert row[f"leaking_test_{name}"] == sum(n in leaking for n in of_class)
        assert row[f"test_accessions_{name}"] == len({n.accession for n in of_class})
    published = found.split.roles(found.fold, False)
    moved = [n for n in names if published[n.slide] != role_of[n.slide]]
    assert row["moved_images"] == len(moved)
    assert row["moved_accessions"] == len({n.accession for n in moved})
    to = Counter(role_of[n.slide] for n in moved)
    assert [row[f"moved_to_{role}_images"] for role in ROLES] == [to[role] for role in ROLES]
    assert not found.repaired or row["leaking_test_images"] == 0


def test_the_row_of_eva():
    row = Leaks(find("eva"), 0, False).row()
    assert (row["leaking_test_images"], row["test_images"], row["train_images"]) == (91, 339, 1132)
    assert row["leaking_by_tumour_type"] == "TA 35 of 47, MC 42 of 42, F 14 of 82, DC 0 of 168"
    assert (row["train_ids"], row["test_ids"]) == (50, 14)
    assert (row["train_accessions"], row["test_accessions"]) == (49, 13)


def test_an_accession_filed_twice_is_counted_by_name_and_said():
    text = " ".join(describe(all_leaks()).split())
    assert "14-13412 is filed twice, as DC and LC, with 123 images each" in text
    assert "123 of this accession in authors, fold 0; authors, fold 2; authors, fold 4." in text


def test_the_split_that_is_left_out_is_named_with_both_counts():
    text = " ".join(describe(all_leaks()).split())
    assert "eva_8class is left out: its source gives 1,471 training and 524 test images" in text
    assert "its identifiers give 1,393 training and 602 test images" in text


def test_the_page_shows_what_the_command_prints():
    page = (ROOT / "docs" / "published-splits.md").read_text()
    assert describe(all_leaks()) in page
