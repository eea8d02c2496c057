from __future__ import annotations

import pytest

from configs import breakhis
from se_resnet.report.remarks import leak_warnings, magnification_notes
from se_resnet.training.config import plain

CHOSEN, KEPT = {"reason": ""}, {"reason": "fewer than 10 patients of a class"}


@pytest.mark.parametrize(
    ("fields", "decision", "words"),
    [
        ({}, CHOSEN, "Checkpoint, threshold and temperature were"),
        ({}, KEPT, "The checkpoint was"),
        ({"checkpoint.choose": "last"}, CHOSEN, "Threshold and temperature were"),
        ({"early_stopping.metric": "val/loss"}, KEPT, "Checkpoint and number of epochs were"),
        (
            {"checkpoint.choose": "last", "early_stopping.metric": "val/loss"},
            CHOSEN,
            "Number of epochs, threshold and temperature were",
        ),
    ],
)
def test_the_warning_on_validation_images_names_what_they_chose(fields, decision, words):
    config = breakhis.get_config()
    config.checkpoint.choose = "best"
    config.update_from_flattened_dict(fields)
    (warning,) = leak_warnings({}, "val", plain(config), decision)
    assert warning == f"{words} chosen on these images: the metrics are optimistic."


def test_validation_images_that_chose_nothing_carry_no_warning():
    config = breakhis.get_config()
    config.checkpoint.choose = "last"
    assert leak_warnings({}, "val", plain(config), KEPT) == []


def test_a_run_of_the_version_before_chose_the_best_checkpoint():
    config = plain(breakhis.get_config())
    del config["checkpoint"]
    (warning,) = leak_warnings({}, "val", config, CHOSEN)
    assert warning.startswith("Checkpoint, threshold")


@pytest.mark.parametrize(
    ("evaluated", "trained", "validated", "decision", "expected"),
    [
        ({100, 200}, {100, 200}, {100, 200}, CHOSEN, []),
        ({0}, {100}, {100}, CHOSEN, []),
        ({200}, set(), set(), CHOSEN, []),
        (
            {0, 100, 400, 200},
            {100},
            {100},
            KEPT,
            [
                "The network was trained on images at 100X: evaluated images at 200X, 400X have a "
                "magnification that is new to it.",
                "The checkpoint was chosen on validation images at 100X, and not for images at "
                "200X, 400X.",
            ],
        ),
        (
            {40},
            {40, 200},
            {200},
            CHOSEN,
            [
                "Checkpoint, threshold and temperature were chosen on validation images at 200X, "
                "and not for images at 40X."
            ],
        ),
    ],
)
def test_magnifications_new_to_the_network_are_named(
    evaluated, trained, validated, decision, expected
):
    config = breakhis.get_config()
    config.checkpoint.choose = "best"
    found = magnification_notes(evaluated, trained, validated, plain(config), decision)
    assert found == expected


def test_a_network_without_choices_is_noted_for_its_training_only():
    config = breakhis.get_config()
    config.checkpoint.choose = "last"
    (note,) = magnification_notes({40}, {100}, {100}, plain(config), KEPT)
    assert "trained on images at 100X" in note
