from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from data.breakhis.official import slide_table
from data.protocols import audit
from data.protocols.roles import assign_roles
from data.protocols.source_notebook import folder_order
from data.protocols.split_file import read_roles, write_split
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import ROLES
from tests.helpers.datasets import full_records, make_records


@pytest.fixture(scope="module")
def full() -> Records:
    return full_records()


def assign(records: Records, protocol: str, **changes) -> np.ndarray:
    options = {"folds": 5, "fold": 0, "val_folds": 5, "seed": 0} | changes
    return assign_roles(records, protocol, **options)


def patients(records: Records, roles: np.ndarray, role: str, label: int | None = None) -> set[str]:
    chosen = roles == role
    if label is not None:
        chosen &= records.label == label
    return set(records.accession[chosen].tolist())


@pytest.mark.parametrize("fold", range(5))
def test_strict_shares_no_patient_and_tests_both_classes(full, fold):
    roles = assign(full, "strict", fold=fold)
    audit.verify(full, roles, "strict")
    parts = [patients(full, roles, role) for role in ROLES]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 70
    assert len(patients(full, roles, "test", 0)) >= 3
    assert len(patients(full, roles, "test", 1)) >= 10
    assert len(patients(full, roles, "val", 0)) >= 2


def test_strict_tests_every_patient_once_over_the_folds(full):
    tested = [patients(full, assign(full, "strict", fold=fold), "test") for fold in range(5)]
    assert sum(map(len, tested)) == 70
    assert len(set.union(*tested)) == 70


@pytest.mark.parametrize("protocol", ["strict", "official", "random"])
def test_the_accession_filed_twice_is_counted_once(full, protocol):
    roles = assign(full, protocol)
    excluded = full.slide[roles == "excluded"]
    assert set(excluded.tolist()) == {"SOB_M_LC-14-13412"}
    assert len(full) - len(excluded) == len(set(full.digest.tolist()))
    assert audit.count_leaks(full, roles)["shared_images"] == 0


@pytest.mark.parametrize("fold", range(5))
def test_official_follows_the_authors_and_straddles(full, fold):
    roles = assign(full, "official", fold=fold)
    audit.verify(full, roles, "official")
    for row in slide_table():
        given = set(roles[full.slide == row["slide"]].tolist()) - {"excluded"}
        authors = {"test"} if row[f"fold{fold + 1}"] == "test" else {"train", "val"}
        assert given <= authors
    # Counted from the authors' own fold files: 674 to 1,145 test images, less the second copies.
    assert 500 < audit.count_leaks(full, roles)["straddling_test_images"] <= 1145
    train_val = patients(full, roles, "train") & patients(full, roles, "val")
    assert not train_val, "the validation set is carved by accession"


def test_random_is_stratified_and_leaks(full):
    roles = assign(full, "random")
    audit.verify(full, roles, "random")
    share = full.label[roles == "test"].mean()
    assert share == pytest.approx(full.label.mean(), abs=0.005)
    assert audit.count_leaks(full, roles)["straddling_accessions"] == 70


def as_derived(full: Records) -> Records:
    """What the notebook divided, by name: its order, and rows for its synthetic images."""
    chosen = full.take(folder_order(full)[:3000])
    columns = chosen.take(np.r_[:3000, np.resize(np.flatnonzero(chosen.label), 1960)]).columns()
    columns["row"] = np.arange(4960)
    columns["file"] = np.r_[chosen.file, [f"synthetic-{k:05d}.png" for k in range(1, 1961)]]
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return Records.from_rows(dict(zip(columns, row, strict=True)) for row in rows)


def test_source_has_the_test_set_of_the_notebook(full):
    records = as_derived(full)
    roles = assign(records, "source")
    audit.verify(records, roles, "source")
    test = roles == "test"
    assert {role: int((roles == role).sum()) for role in ROLES} == {
        "train": 3174,
        "val": 794,
        "test": 992,
    }
    assert int(records.label[test].sum()) == 486
    assert int(records.is_synthetic[test].sum()) == 376
    expected = train_test_split(np.arange(4960), test_size=0.2, random_state=42)[1]
    assert set(records.row[test].tolist()) == set(expected.tolist())
    other_seed = assign(records, "source", seed=1, folds=0)
    assert ((other_seed == "test") == test).all() and (other_seed != roles).any()


def test_source_keeps_second_copies_and_has_one_fold():
    records = make_records(16, 16)
    digest = np.full(len(records), "the same")
    roles = assign(dataclasses.replace(records, digest=digest), "source")
    assert "excluded" not in roles
    audit.verify(dataclasses.replace(records, digest=digest), roles, "source")
    with pytest.raises(UserError, match=r"config.split.fold = 1 does not exist: choose 0\."):
        assign(records, "source", fold=1)


def test_source_refuses_images_that_nothing_has_evened_out(full):
    with pytest.raises(UserError, match="2480 benign and 5429 malignant"):
        assign(full, "source")


def test_the_seed_decides(full):
    assert (assign(full, "strict", seed=1) == assign(full, "strict", seed=1)).all()
    assert (assign(full, "strict", seed=1) != assign(full, "strict", seed=2)).any()


def test_verify_refuses_a_straddling_patient_only_under_strict():
    records = make_records()
    roles = assign(records, "strict")
    accession = records.accession[roles == "test"][0]
    roles[np.flatnonzero(records.accession == accession)[0]] = "train"
    audit.verify(records, roles, "random")
    message = rf"unseen patients, but 1 patient is in more than one role \({accession}\)"
    with pytest.raises(UserError, match=message):
        audit.verify(records, roles, "strict")


def test_verify_refuses_an_image_in_two_roles():
    records = make_records()
    roles = assign(records, "random")
    digest = records.digest.copy()
    digest[np.flatnonzero(roles == "test")[0]] = digest[np.flatnonzero(roles == "train")[0]]
    with pytest.raises(UserError, match="1 images have more than one role"):
        audit.verify(dataclasses.replace(records, digest=digest), roles, "random")


def test_verify_refuses_empty_roles_and_one_class_training():
    records = make_records()
    with pytest.raises(UserError, match="no val image"):
        audit.verify(records, np.where(records.label == 0, "train", "test"), "strict")
    roles = assign(records, "strict")
    roles[(roles == "train") & (records.label == 0)] = "excluded"
    with pytest.raises(UserError, match="only one class"):
        audit.verify(records, roles, "strict")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "stricter"}, "choose from strict, official, random"),
        ({"fold": 5}, "choose 0 to 4"),
        ({"fold": -1}, "choose 0 to 4"),
        ({"folds": 1}, "give 2 or more"),
        ({"val_folds": 1}, "leaves no training images"),
        ({"folds": 13}, "only 12 benign patients"),
        ({"protocol": "official"}, "lack the slide SOB_B_A-14-1000"),
    ],
)
def test_mistakes_are_named(changes, words):
    options = {"protocol": "strict", "folds": 5, "fold": 0, "val_folds": 5, "seed": 0}
    with pytest.raises(UserError, match=words):
        assign_roles(make_records(), **(options | changes))


def test_one_patient_cannot_be_divided():
    with pytest.raises(UserError, match="only 1 benign patients: bring more"):
        assign(make_records(benign=1, malignant=0), "strict")


def test_split_file_round_trip(tmp_path):
    records = make_records()
    roles = assign(records, "strict")
    write_split(tmp_path / "split.csv", records, roles)
    assert (read_roles(tmp_path / "split.csv", records) == roles).all()
    header = (tmp_path / "split.csv").read_text().splitlines()[0]
    assert header == "file,slide,accession,magnification,subtype,label,role"


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "file,accession,role\nx.png,14-1,hero\n", "\x00\xff"]
)
def test_a_broken_split_file_is_refused(tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match=r"split\.csv"):
        read_roles(tmp_path / "split.csv", make_records())


def test_summary_counts_add_up():
    records = make_records()
    rows = audit.summarise(records, assign(records, "strict"))
    assert sum(row["images"] for row in rows) == len(records)
    assert sum(row["accessions"] for row in rows) == 32
