"""The list of misclassified images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from se_resnet.report.errors import LISTED, list_errors
from tests.helpers.reports import make_predictions


def predictions(label, probability, fold=None):
    shown = make_predictions(1, len(label))
    return dataclasses.replace(
        shown,
        label=np.asarray(label),
        probability=np.asarray(probability, float),
        fold=np.zeros(len(label), int) if fold is None else np.asarray(fold),
    )


def test_the_most_confident_errors_come_first():
    shown = predictions([1, 0, 1, 0, 1], [0.3, 0.999, 0.9, 0.1, 0.0])
    found = list_errors(shown, np.full(5, 0.5))
    assert (found["missed"], found["false_alarms"]) == (2, 1)
    assert [row["file"] for row in found["rows"]] == ["4.png", "1.png", "0.png"]
    assert found["rows"][1]["truth"] == "benign" and found["rows"][1]["prediction"] == "malignant"


def test_each_image_is_judged_by_the_threshold_of_its_fold():
    shown = predictions([1, 1, 0, 0], [0.4, 0.4, 0.4, 0.4], [0, 1, 0, 1])
    found = list_errors(shown, np.array([0.3, 0.5, 0.3, 0.5]))
    wrong = {(row["file"], row["fold"], row["threshold"]) for row in found["rows"]}
    assert wrong == {("1.png", 1, 0.5), ("2.png", 0, 0.3)}


@pytest.mark.parametrize("count", [LISTED, LISTED + 1])
def test_a_long_list_is_cut(count):
    found = list_errors(predictions([1] * count, [0.1] * count), np.full(count, 0.5))
    assert found["missed"] == count and len(found["rows"]) == LISTED


def test_no_error_gives_an_empty_list():
    found = list_errors(predictions([1, 0], [0.5, 0.4]), np.full(2, 0.5))
    assert found == {"missed": 0, "false_alarms": 0, "rows": []}
