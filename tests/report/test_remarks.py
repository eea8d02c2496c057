from __future__ import annotations

import pytest

from configs import breakhis
from se_resnet.report.remarks import leak_warnings
from se_resnet.training.config import plain


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Checkpoint, threshold and temperature were chosen"),
        ({"checkpoint.choose": "last"}, "Threshold and temperature were chosen"),
        (
            {"checkpoint.choose": "last", "early_stopping.metric": "val/loss"},
            "Number of epochs, threshold and temperature were chosen",
        ),
    ],
)
def test_the_warning_on_validation_images_names_what_they_chose(fields, words):
    config = breakhis.get_config()
    config.checkpoint.choose = "best"
    config.update_from_flattened_dict(fields)
    (warning,) = leak_warnings({}, "val", plain(config))
    assert warning == f"{words} on these images: the metrics are optimistic."


def test_a_run_of_the_version_before_chose_the_best_checkpoint():
    config = plain(breakhis.get_config())
    del config["checkpoint"]
    (warning,) = leak_warnings({}, "val", config)
    assert warning.startswith("Checkpoint, threshold")
