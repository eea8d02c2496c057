"""Messages about files and numbers of images offer remedies that are possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.breakhis.filenames import parse
from data.problems import Problem, refusal
from data.protocols.roles import assign_roles
from se_resnet.errors import UserError
from tests.helpers.datasets import make_records


@pytest.mark.parametrize(("total", "is_possible"), [(3, True), (2, False)])
def test_files_are_left_out_only_if_others_remain(total, is_possible):
    problems = [Problem(name, "not an image") for name in ("a.png", "b.png")]
    message = str(refusal(Path("tree"), problems, total))
    assert f"2 of {total} image files are unusable in tree" in message
    assert ("on_bad_image" in message) == is_possible


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "tif"])
def test_a_breakhis_image_in_another_format_is_told_its_suffix(suffix):
    with pytest.raises(ValueError, match=rf"its suffix is \.{suffix}, .* python -m data\.table"):
        parse(f"SOB_B_A-14-22549AB-40-001.{suffix}")


@pytest.mark.parametrize(
    ("benign", "words", "lowers"),
    [
        (0, "there are no benign patients: bring more benign patients", False),
        (2, "only 2 benign patients: bring more benign patients", False),
        (3, "only 3 benign patients: lower config.split.folds to 3 or less, or bring", True),
    ],
)
def test_fewer_folds_are_the_remedy_only_where_they_are_possible(benign, words, lowers):
    records = make_records(benign, 12)
    options = {"fold": 0, "val_folds": 2, "seed": 0}
    with pytest.raises(UserError, match=words):
        assign_roles(records, "strict", folds=5, **options)
    if lowers:
        assign_roles(records, "strict", folds=3, **options)
    elif benign:
        with pytest.raises(UserError):
            assign_roles(records, "strict", folds=benign, **options)
