from __future__ import annotations

import csv

import pytest

from se_resnet.runs.run_folder import RunFolder
from se_resnet.tracking.epoch_table import COLUMNS
from se_resnet.tracking.metric_log import MetricLog

LOSSES = (0.9, 0.7, 0.8, 0.4, 0.4, 0.5)
VALIDATION = {3: (0.6, 0.75), 6: (0.5, 0.75), 9: (0.4, None)}


def train(run, start, stop):
    """Logs steps ``start + 1`` to ``stop`` of epochs of 3 steps, a line for 2, 3, 5, ..."""
    with MetricLog(run, start, 3) as log:
        for step in range(start + 1, stop + 1):
            steps = {2: (1, 2), 0: (3,)}.get(step % 3, ())
            first = step - step % 3 if step % 3 else step - 3
            if steps:
                losses = [LOSSES[(first + place - 1) % len(LOSSES)] for place in steps]
                mean = sum(losses) / len(losses)
                rates = {"train/accuracy": 1 - mean, "train/learning_rate": 1 / step}
                log.write(step, {"train/loss": mean, **rates})
            if step % 3 == 0:
                loss, auc = VALIDATION[step]
                log.write(step, {"val/loss": loss, "val/accuracy": 0.5, "val/roc_auc": auc})
        return log.last_epoch


def rows(run):
    with run.epochs_path.open() as file:
        return list(csv.DictReader(file))


def test_a_row_has_the_means_over_the_steps_of_its_epoch(tmp_path):
    run = RunFolder(tmp_path)
    last = train(run, 0, 9)
    first, second, third = rows(run)
    assert tuple(first) == COLUMNS
    assert [row["epoch"] for row in rows(run)] == ["1", "2", "3"]
    assert [row["step"] for row in rows(run)] == ["3", "6", "9"]
    # The line of step 2 stands for two steps, that of step 3 for one.
    assert float(first["train_loss"]) == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert float(second["train_loss"]) == pytest.approx((0.4 + 0.4 + 0.5) / 3)
    assert float(first["train_accuracy"]) == pytest.approx(1 - 0.8)
    assert float(first["learning_rate"]) == pytest.approx(1 / 3)
    assert float(first["val_loss"]) == 0.6 and third["val_roc_auc"] == ""
    assert [row["best"] for row in rows(run)] == ["yes", "yes", "no"]
    assert (last.number, last.is_best) == (3, False)


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 7, 8])
def test_an_interrupted_run_has_the_table_of_an_undisturbed_one(tmp_path, stop):
    whole, resumed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "resumed")
    for run in (whole, resumed):
        run.path.mkdir()
    train(whole, 0, 9)
    train(resumed, 0, 8)  # killed after step 8; the last saved state is that of an earlier step
    saved = max(step for step in (0, 2, 3, 5, 6, 8) if step <= stop)
    assert len(rows(resumed)) == 2
    train(resumed, saved, 9)
    assert resumed.epochs_path.read_bytes() == whole.epochs_path.read_bytes()


def test_the_table_of_a_run_that_begins_again_is_empty(tmp_path):
    run = RunFolder(tmp_path)
    train(run, 0, 6)
    MetricLog(run, 0, 3).close()
    assert rows(run) == []
