"""Protocol published: the roles of images, the promise of a repaired split, subsets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import data
from data.protocols import audit
from data.protocols.published.assignment import image_roles
from data.protocols.published.splits import find
from data.protocols.roles import assign_roles, check_split, number_of_folds
from data.records import Records
from se_resnet.errors import UserError
from tests.helpers.datasets import full_records, make_records

FOLDS = {"authors": 5, "eva": 1, "patient_audit": 5}
EVERY_FOLD = [(name, fold) for name, folds in FOLDS.items() for fold in range(folds)]


@pytest.fixture(scope="module")
def full() -> Records:
    return full_records()


def assign(records: Records, name: str, fold: int = 0, repaired: bool = False, **changes):
    options = {"folds": 5, "fold": fold, "val_folds": 5, "seed": 0} | changes
    return assign_roles(records, "published", name=name, repaired=repaired, **options)


@pytest.mark.parametrize(("name", "fold"), EVERY_FOLD)
def test_a_repaired_split_keeps_the_promise_of_strict(full, name, fold):
    roles = assign(full, name, fold, repaired=True)
    audit.verify(full, roles, "published", repaired=True)
    audit.verify(full, roles, "strict")
    assert audit.count_leaks(full, roles)["straddling_test_images"] == 0


@pytest.mark.parametrize(("name", "fold"), EVERY_FOLD)
def test_an_unrepaired_split_is_counted_and_not_refused(full, name, fold):
    roles = assign(full, name, fold)
    audit.verify(full, roles, "published")
    assert audit.count_leaks(full, roles)["straddling_test_images"] >= 91
    with pytest.raises(UserError, match="a repaired split promises unseen patients, but ."):
        audit.verify(full, roles, "published", repaired=True)


def test_the_leaks_of_eva_are_counted_on_images_too(full):
    roles = assign(full, "eva")
    counts = audit.count_leaks(full, roles)
    assert counts["straddling_test_images"] == 91 and counts["straddling_accessions"] == 4
    assert Counter(roles.tolist())["test"] == 339
    assert audit.count_leaks(full, assign(full, "patient_audit"))["straddling_test_images"] == 645


@pytest.mark.parametrize("fold", range(5))
def test_the_authors_split_is_protocol_official(full, fold):
    options = {"folds": 5, "fold": fold, "val_folds": 5, "seed": 3}
    official = assign_roles(full, "official", **options)
    assert (assign(full, "authors", fold, seed=3) == official).all()


@pytest.mark.parametrize("repaired", [False, True])
def test_the_second_copies_are_left_out(full, repaired):
    roles = assign(full, "authors", 0, repaired)
    assert set(full.slide[roles == "excluded"].tolist()) == {"SOB_M_LC-14-13412"}
    counts = audit.count_leaks(full, roles)
    copies = len(full) - len(set(full.digest.tolist()))
    assert counts["excluded_copies"] == copies > 100 and counts["shared_images"] == 0


def test_images_outside_the_split_are_excluded_and_no_copies(full):
    roles = assign(full, "eva")
    outside = roles == "excluded"
    assert outside.sum() == 7909 - 1471
    inside = (full.magnification == 40) & np.isin(full.subtype, ["TA", "MC", "F", "DC"])
    assert (outside == ~inside).all()
    # 32 images of LC 14-13412 show the same as images of DC that have a role.
    assert audit.count_leaks(full, roles)["excluded_copies"] == 32


def test_a_copy_outside_the_split_does_not_take_the_place_of_one_inside(full):
    """Adenosis, which eva lacks, comes first by name."""
    digest = full.digest.copy()
    inside = np.flatnonzero(full.slide == "SOB_M_DC-14-13412")
    outside = np.flatnonzero(full.slide == "SOB_B_A-14-22549AB")[: len(inside)]
    digest[inside[: len(outside)]] = digest[outside]
    roles = assign(Records(**{**full.columns(), "digest": digest}), "eva")
    assert (roles[inside] == assign(full, "eva")[inside]).all()


def test_validation_is_taken_from_training_by_accession(full):
    roles = assign(full, "eva")
    role_in_split = image_roles(full, find("eva"), 0, False)
    assert ((roles == "test") == (role_in_split == "test")).all()
    assert set(role_in_split[roles == "val"].tolist()) == {"train"}
    parts = [set(full.accession[roles == role].tolist()) for role in ("train", "val")]
    assert not parts[0] & parts[1]
    other = assign(full, "eva", seed=1)
    assert (other != roles).any() and ((other == "test") == (roles == "test")).all()


@pytest.mark.parametrize("repaired", [False, True])
def test_a_validation_set_of_the_split_is_kept(full, repaired):
    roles = assign(full, "patient_audit", 2, repaired)
    published = image_roles(full, find("patient_audit"), 2, repaired)
    used = roles != "excluded"
    assert (roles[used] == published[used]).all()
    assert (assign(full, "patient_audit", 2, repaired, seed=9, val_folds=3) == roles).all()


def test_a_subset_has_the_roles_of_the_whole(full):
    # Of an accession filed twice, a subset may lack the copy that the whole uses.
    part = np.flatnonzero((np.arange(len(full)) % 3 == 0) & (full.accession != "14-13412"))
    for repaired in (False, True):
        whole = assign(full, "patient_audit", 1, repaired)[part]
        assert (assign(full.take(part), "patient_audit", 1, repaired) == whole).all()


def test_a_subset_without_a_role_is_refused_in_one_sentence(full):
    trained = full.take(image_roles(full, find("eva"), 0, False) == "train")
    words = r"'eva' has no test image among these images: its test slides are SOB_\S+.*, at 40X\. "
    with pytest.raises(UserError, match=words):
        assign(trained, "eva")
    with pytest.raises(UserError, match="'eva' has no train image"):
        assign(make_records(), "eva")
    without = full.take(image_roles(full, find("patient_audit"), 0, False) != "val")
    with pytest.raises(UserError, match="'patient_audit' has no val image"):
        assign(without, "patient_audit")


def test_few_patients_for_a_validation_set_are_named_with_the_remedy(full):
    of_benign = (full.label == 1) | (full.accession == "14-23222") | (full.accession == "14-21998")
    with pytest.raises(UserError, match="only 1 benign patients: bring more benign patients"):
        assign(full.take(of_benign), "eva")


def test_number_of_folds():
    assert {name: number_of_folds("published", 7, name) for name in FOLDS} == FOLDS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "published"}, r"split.name = '' is not a published split: choose from auth"),
        ({"protocol": "published", "name": "evo"}, "'evo' is not a published split: choose from"),
        (
            {"protocol": "published", "name": "eva", "fold": 1},
            r"fold = 1 does not exist: choose 0\.",
        ),
        ({"protocol": "published", "name": "authors", "fold": 5}, "choose 0 to 4"),
        ({"name": "eva"}, "split.name = 'eva' is for config.split.protocol = 'published': set it"),
        ({"repaired": True}, "split.repaired = True is for config.split.protocol = 'published'"),
    ],
)
def test_mistakes_are_named_without_images(changes, words):
    options = {"protocol": "strict", "fold": 0, "val_folds": 5, "file": ""} | changes
    with pytest.raises(UserError, match=words):
        folds = number_of_folds(options["protocol"], 5, options.get("name", ""))
        check_split(folds=folds, **options)


def test_a_notebook_loads_a_published_split():
    options = {"size": (32, 32), "magnifications": (100, 200)}
    _, records, roles = data.load(
        "sample", protocol="published", name="authors", repaired=True, **options
    )
    parts = [set(records.accession[roles == role].tolist()) for role in ("train", "val", "test")]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts))
    with pytest.raises(UserError, match=r"config.split.name = 'eve'"):
        data.load("nowhere", protocol="published", name="eve")
