"""The published splits give the numbers that their sources and earlier audits give."""

from __future__ import annotations

from collections import Counter

import pytest

from data.breakhis.filenames import parse
from data.breakhis.official import official_names, slide_table
from data.protocols.published import splits
from data.protocols.published.splits import all_splits, check_magnifications, find
from se_resnet.errors import UserError

NAMES = [parse(text) for text in official_names()]


def images(split_name: str, fold: int = 0):
    """The names of all images of a split with their roles, without its own counts."""
    split = next(split for split in all_splits() if split.name == split_name)
    role_of = split.roles(fold, False)
    return [
        (name, role_of[name.slide])
        for name in NAMES
        if name.magnification in split.magnifications and name.slide in role_of
    ]


def leaking(split_name: str, fold: int = 0) -> Counter[str]:
    """Test images by tumour type whose accession is also in training or validation."""
    found = images(split_name, fold)
    seen = {name.accession for name, role in found if role != "test"}
    return Counter(n.subtype for n, role in found if role == "test" and n.accession in seen)


def test_eva_has_the_published_numbers_of_images():
    roles = Counter(role for _, role in images("eva"))
    assert roles == {"train": 1132, "test": 339}


def test_91_test_images_of_eva_leak_among_them_all_mucinous_carcinomas():
    assert leaking("eva") == {"MC": 42, "TA": 35, "F": 14}
    tested = Counter(name.subtype for name, role in images("eva") if role == "test")
    assert tested == {"MC": 42, "TA": 47, "F": 82, "DC": 168}


def test_the_leaking_accessions_of_eva():
    found = images("eva")
    tested, trained = ({n.accession for n, r in found if r == role} for role in ("test", "train"))
    assert tested & trained == {"14-16184", "14-18842", "14-19979", "14-23060"}


@pytest.mark.parametrize("fold", range(5))
def test_645_test_images_of_the_audit_leak_among_them_all_benign(fold):
    found = images("patient_audit", fold)
    tested = [name for name, role in found if role == "test"]
    assert len(tested) == 1653
    by_type = leaking("patient_audit", fold)
    assert by_type.total() == 645
    benign = [name for name in tested if name.label == 0]
    assert sum(by_type[subtype] for subtype in ("A", "F", "PT", "TA")) == len(benign) == 458


def test_the_folds_of_the_audit_have_one_test_set_and_divide_the_rest():
    folds = find("patient_audit").folds
    tests = {frozenset(s for s, role in fold.items() if role == "test") for fold in folds}
    assert len(tests) == 1 and len(*tests) == 16
    validation = [slide for fold in folds for slide, role in fold.items() if role == "val"]
    assert len(validation) == len(set(validation)) == 66


@pytest.mark.parametrize(("fold", "number"), [*enumerate((1145, 674, 697, 836, 999))])
def test_the_folds_of_the_authors_leak(fold, number):
    assert leaking("authors", fold).total() == number
    columns = {row["slide"]: row[f"fold{fold + 1}"] for row in slide_table()}
    assert find("authors").folds[fold] == columns


def test_eva_8class_does_not_give_its_published_numbers():
    split = next(split for split in all_splits() if split.name == "eva_8class")
    roles = Counter(role for _, role in images("eva_8class"))
    assert roles == {"train": 1393, "test": 602}
    assert split.published_images == {"train": 1471, "test": 524} and not split.is_reproduced
    # The remark in its file: the published numbers are those of two groups of tumour types.
    types = Counter(name.subtype for name in NAMES if name.magnification == 40)
    assert sum(types[name] for name in ("TA", "MC", "F", "DC")) == 1471
    assert sum(types[name] for name in ("A", "PT", "LC", "PC")) == 524


def test_every_split_names_its_source():
    for split in all_splits():
        assert split.title and split.licence and split.note and split.source["repository"]
        assert split.source["commit"] == "" or len(split.source["commit"]) == 40


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'evo' is not a.*choose from authors, eva, patient_audit"):
        find("evo")
    with pytest.raises(UserError, match=r"published numbers of images .*: choose from authors"):
        find("eva_8class")


def test_other_magnifications_are_refused():
    with pytest.raises(UserError, match="magnifications = 100, 200 leaves no image.* 40 only"):
        check_magnifications(find("eva"), (100, 200))
    for magnifications in ((40, 100), (40, 100, 200, 400), ()):
        check_magnifications(find("eva"), magnifications)


def test_an_identifier_that_names_no_slide_or_two_is_refused():
    slides = find("authors").slides
    assert splits._named(["13413"], slides) == ["SOB_M_MC-14-13413"]
    for identifier, number in (("99999", 0), ("13412", 2)):
        with pytest.raises(ValueError, match=f"{identifier} names {number} slides"):
            splits._named([identifier], slides)
