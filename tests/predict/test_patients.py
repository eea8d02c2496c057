from __future__ import annotations

from types import SimpleNamespace

import pytest

from se_resnet.errors import UserError
from se_resnet.predict.patients import (
    BREAKHIS_PATIENT,
    check_pattern,
    other_magnifications,
    patient_of,
    summarise_patients,
)


@pytest.mark.parametrize(
    ("file", "pattern", "patient"),
    [
        ("case_P01.png", r"(P\d+)|(Q\d+)", "P01"),
        ("case_Q02.png", r"(P\d+)|(Q\d+)", "Q02"),
        ("case_R03.png", r"(P\d+)|(Q\d+)", ""),
        ("P1/a.png", r"(P\d)/", "P1"),
        ("P1/P2.png", r"(P\d)", "P2"),  # the name goes first
        ("P1/a.png", r"^(?P<patient>\w+)/", "P1"),
        ("case12.png", r"(\d*)", "12"),
        ("case.png", r"()", ""),
        ("x/SOB_B_A-14-22549AB-40-001.png", BREAKHIS_PATIENT, "14-22549"),
        ("x/photo.png", BREAKHIS_PATIENT, ""),
    ],
)
def test_the_first_group_that_matched_is_the_patient(file, pattern, patient):
    assert patient_of(file, pattern) == patient


@pytest.mark.parametrize("pattern", ["(", "abc", "(a{99999999999})", "(?P<1>a)"])
def test_a_pattern_that_tells_no_patient_is_refused(pattern):
    with pytest.raises(UserError, match="cannot be used"):
        check_pattern(pattern)


def predicted(file, patient, probability):
    call = "malignant" if probability >= 0.5 else "benign"
    return SimpleNamespace(file=file, patient=patient, probability=probability, call=call)


def test_a_copy_counts_once_for_its_patient_and_is_told():
    predictions = [
        predicted("a/1.png", "P1", 0.9),
        predicted("b/1.png", "P1", 0.9),
        predicted("2.png", "P1", 0.1),
        predicted("3.png", "P2", 0.9),
        predicted("4.png", "", 0.9),
    ]
    digests = {"a/1.png": "same", "b/1.png": "same", "2.png": "x", "3.png": "same", "4.png": "y"}
    first, second = summarise_patients(predictions, 0.5, digests)
    assert first == {
        "patient": "P1",
        "images": 2,
        "called_malignant": 1,
        "mean_probability": 0.5,
        "call": "malignant",
        "copies": 1,
        "withheld": 0,
    }
    assert (second["patient"], second["images"], second["copies"]) == ("P2", 1, 0)


def test_magnifications_that_were_not_trained_on_are_counted():
    files = [f"x/SOB_M_PC-14-9146-{scale}-001.png" for scale in (40, 40, 100, 200)]
    assert other_magnifications([*files, "40.png"], [200]) == {"40X": 2, "100X": 1}
