from __future__ import annotations

import json

import pytest

from se_resnet.training.early_stopping import EarlyStopping


@pytest.mark.parametrize(
    ("metric", "values", "stops"),
    [
        ("val/roc_auc", [0.5, 0.6, 0.6, 0.55], 3),
        ("val/loss", [0.5, 0.6, 0.4, 0.5, 0.4], 4),
        ("val/roc_auc", [None, 0.5, None, 0.4, None, 0.5], 5),  # an undefined figure does not count
        ("val/accuracy", [0.5, 0.6, 0.7, 0.8], None),
        ("", [0.5, 0.4, 0.3, 0.2], None),
    ],
)
def test_it_stops_after_two_epochs_without_a_new_best(metric, values, stops):
    stopping = EarlyStopping(metric, patience=2)
    stopped = []
    for value in values:
        stopping.update({metric: value})
        stopped.append(stopping.stopped)
        # What a checkpoint keeps is all of it.
        progress = json.loads(json.dumps(stopping.progress()))
        assert EarlyStopping(metric, patience=2, **progress) == stopping
    assert stopped == [stops is not None and epoch >= stops for epoch in range(len(values))]


def test_the_log_is_told():
    stopping = EarlyStopping("val/loss", patience=1, best=0.25, waited=1)
    assert stopping.stopped
    assert stopping.describe() == "val/loss has not improved on 0.25 for 1 epochs"
