"""Training and testing at different magnifications."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data.protocols import audit
from data.protocols.magnifications import exclude_magnifications
from data.protocols.roles import assign_roles
from se_resnet.errors import UserError
from se_resnet.runs.run_files import EXCLUDED, ROLES, TEST, TRAIN, VAL
from tests.helpers.datasets import make_records

STRICT = {"folds": 4, "fold": 1, "val_folds": 4, "seed": 0}


@pytest.fixture(scope="module")
def records():
    return make_records(12, 20, images=2, magnifications=(40, 100, 200))


@pytest.fixture(scope="module")
def roles(records):
    return assign_roles(records, "strict", **STRICT)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ((100,), (200,), {TRAIN: {100}, VAL: {100}, TEST: {200}}),
        ((40, 200), (), {TRAIN: {40, 200}, VAL: {40, 200}, TEST: {40, 100, 200}}),
        ((), (40,), {TRAIN: {40, 100, 200}, VAL: {40, 100, 200}, TEST: {40}}),
    ],
)
def test_roles_keep_their_patients_and_lose_other_magnifications(
    records, roles, train, test, expected
):
    found = exclude_magnifications(records, roles, train, test)
    for role in ROLES:
        before, after = roles == role, found == role
        assert set(records.accession[before]) == set(records.accession[after])
        assert set(records.magnification[after].tolist()) == expected[role]
        assert (found[before] == np.where(after[before], role, EXCLUDED)).all()
    audit.verify(records, found, "strict")
    assert audit.count_leaks(records, found)["excluded_copies"] == 0


def test_without_the_options_no_role_changes(records, roles):
    assert (exclude_magnifications(records, roles, (), ()) == roles).all()


def test_a_copy_is_counted_apart_from_other_magnifications(records):
    digest = records.digest.copy()
    digest[1] = digest[0]
    records = dataclasses.replace(records, digest=digest)
    roles = assign_roles(records, "strict", **STRICT)
    assert roles[1] == EXCLUDED
    scale = int(records.magnification[0])
    found = exclude_magnifications(records, roles, (scale,), (scale,))
    assert audit.count_leaks(records, found)["excluded_copies"] == 1
    assert (found == EXCLUDED).sum() == 1 + (records.magnification != scale).sum()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            (100, 400),
            (),
            r"train_magnifications = \(100, 400\): no image has the magnification 400X",
        ),
        ((), (300,), r"test_magnifications = \(300,\): .* choose from 40X, 100X, 200X"),
    ],
)
def test_a_magnification_that_the_images_lack_is_named(records, roles, train, test, message):
    with pytest.raises(UserError, match=message):
        exclude_magnifications(records, roles, train, test)


def test_unknown_magnifications_cannot_be_chosen(records, roles):
    unknown = dataclasses.replace(records, magnification=np.zeros_like(records.magnification))
    with pytest.raises(UserError, match="the magnifications of these images are not known"):
        exclude_magnifications(unknown, roles, (100,), ())


@pytest.mark.parametrize(
    ("role", "option"),
    [
        (TEST, "test_magnifications"),
        (VAL, "train_magnifications"),
        (TRAIN, "train_magnifications"),
    ],
)
def test_a_role_without_an_image_is_named_with_its_magnifications(records, roles, role, option):
    kept = (roles != role) | (records.magnification == 200)
    fewer, roles = records.take(kept), roles[kept]
    arguments = {"train": (), "test": (), option.split("_")[0]: (100,)}
    message = rf"config.split.{option} = \(100,\) leaves no {role} image: .* at 200X only"
    with pytest.raises(UserError, match=message):
        exclude_magnifications(fewer, roles, **arguments)


def test_a_training_set_of_one_class_is_refused_by_the_audit(records, roles):
    kept = (records.label == 1) | (records.magnification != 100)
    found = exclude_magnifications(records.take(kept), roles[kept], (100,), ())
    with pytest.raises(UserError, match="the training set has only one class"):
        audit.verify(records.take(kept), found, "strict")
