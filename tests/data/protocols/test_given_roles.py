"""Protocol `table`: roles and folds that the user gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data.protocols.given_roles import match_files
from data.protocols.roles import assign_roles
from data.protocols.split_file import write_split
from se_resnet.errors import UserError
from se_resnet.runs.run_files import EXCLUDED, TEST, TRAIN, VAL
from tests.helpers.datasets import make_records


def roles_of(records, fold=0, folds=5, file=""):
    return assign_roles(
        records, "table", folds=folds, fold=fold, val_folds=4, seed=0, file=str(file)
    )


def with_column(records, name, values):
    return dataclasses.replace(records, extra={name: np.array(values, np.str_)})


@pytest.fixture()
def records():
    return make_records()


@pytest.fixture()
def halves(records):
    """Test and training, by patient."""
    order = {patient: n for n, patient in enumerate(sorted(set(records.accession.tolist())))}
    return [TEST if order[patient] % 2 else TRAIN for patient in records.accession.tolist()]


def test_given_roles_are_taken_as_they_are(records, halves):
    given = [VAL if i < 30 else role for i, role in enumerate(halves)]
    assert roles_of(with_column(records, "role", given)).tolist() == given


def test_validation_is_taken_out_of_training_by_patient(records, halves):
    roles = roles_of(with_column(records, "role", halves))
    assert (roles == TEST).tolist() == [role == TEST for role in halves]
    validating = set(records.accession[roles == VAL].tolist())
    assert validating and not validating & set(records.accession[roles == TRAIN].tolist())


def test_images_without_a_role_are_excluded(records, halves):
    given = ["" if i % 7 == 0 else role for i, role in enumerate(halves)]
    roles = roles_of(with_column(records, "role", given))
    assert (roles == EXCLUDED).tolist() == [role == "" for role in given]


def test_the_column_fold_names_the_test_images_of_each_fold(records):
    number = {p: n % 3 + 1 for n, p in enumerate(sorted(set(records.accession.tolist())))}
    folds = [number[patient] for patient in records.accession.tolist()]
    with_folds = with_column(records, "fold", folds)
    for fold in range(3):
        roles = roles_of(with_folds, fold, folds=3)
        assert ((roles == TEST) == (np.array(folds) == fold + 1)).all()
    with pytest.raises(UserError, match=r"has 3 values \(1, 2, 3\).*config.split.folds=3"):
        roles_of(with_folds)


def test_the_split_file_of_a_run_divides_again(records, halves, tmp_path):
    roles = roles_of(with_column(records, "role", halves))
    write_split(tmp_path / "split.csv", records, roles)
    assert (roles_of(records, file=tmp_path / "split.csv") == roles).all()


def test_a_copy_takes_the_place_of_an_excluded_image(records, halves):
    digest = records.digest.copy()
    digest[1] = digest[0]
    given = [EXCLUDED, *halves[1:]]
    copied = dataclasses.replace(records, digest=digest)
    assert roles_of(with_column(copied, "role", given))[1] == halves[1] != EXCLUDED


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "needs a column 'role' or 'fold'"),
        ({"role": "testing"}, r"the role 'testing' of SOB_.* is unknown"),
        ({"role": "test", "fold": "1"}, "both columns"),
    ],
)
def test_tables_that_do_not_divide_are_refused(records, columns, message):
    extra = {name: np.full(len(records), value) for name, value in columns.items()}
    with pytest.raises(UserError, match=message):
        roles_of(dataclasses.replace(records, extra=extra))


def test_a_single_division_has_one_fold(records, halves):
    with pytest.raises(UserError, match="config.split.fold = 1 does not exist: the column 'role'"):
        roles_of(with_column(records, "role", halves), fold=1)


def test_a_file_of_other_images_is_refused(records, tmp_path):
    (tmp_path / "split.csv").write_text("file,role\nother.png,test\n")
    with pytest.raises(UserError, match=r"lists none of these images, for example 'other.png'"):
        roles_of(records, file=tmp_path / "split.csv")
    with pytest.raises(UserError, match="config.split.file = 'x.csv' is for"):
        assign_roles(records, "strict", folds=2, fold=0, val_folds=2, seed=0, file="x.csv")


def test_names_are_matched_whole_or_by_a_unique_last_part(records):
    nested = dataclasses.replace(
        records.take(np.arange(3)), file=np.array(["a/1.png", "b/1.png", "b/2.png"])
    )
    names = ["a/1.png", "1.png", "x/2.PNG", ".\\b\\1.png", "3.png"]
    assert match_files(names, nested) == ["a/1.png", "", "b/2.png", "b/1.png", ""]
