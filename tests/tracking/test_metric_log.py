from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from se_resnet.errors import UserError
from se_resnet.runs.run_folder import RunFolder
from se_resnet.tracking.metric_log import MetricLog, read_log
from tests.helpers.event_files import read_sessions, scalars


def test_lines_after_the_resumed_step_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricLog(RunFolder(tmp_path), 0, 5)
    for step in range(1, 6):
        log.write(step, {"train/loss": 1.0})
    log.close()
    log = MetricLog(RunFolder(tmp_path), 3, 5)
    log.write(4, {"train/loss": 2.0})
    log.close()
    assert [(line["step"], line["train/loss"]) for line in read_log(path)] == [
        (1, 1.0),
        (2, 1.0),
        (3, 1.0),
        (4, 2.0),
    ]
    assert [line["epoch"] for line in read_log(path)] == [0.2, 0.4, 0.6, 0.8]


def test_tensorboard_shows_metrics_and_drops_repeated_steps(tmp_path):
    log = MetricLog(RunFolder(tmp_path), 0, 5, ["tensorboard"], {"seed": 1})
    for step in range(1, 6):
        log.write(step, {"train/loss": step / 2, "val/roc_auc": None})
    log.close()
    log = MetricLog(RunFolder(tmp_path), 3, 5, ["tensorboard"], {"seed": 1})
    log.write(4, {"train/loss": 7.0})
    log.close()
    first, second = read_sessions(tmp_path / "tensorboard")
    # A reader drops what an earlier session wrote from the step that a later one starts at.
    assert (first[0], scalars(first[1])) == (
        [1],
        [("train/loss", step, step / 2) for step in range(1, 6)],
    )
    assert (second[0], scalars(second[1])) == ([4], [("train/loss", 4, 7.0)])
    assert [value.tag for _, value in first[1]][:3] == [
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    ]


def test_a_file_in_the_place_of_the_events_is_named(tmp_path):
    (tmp_path / "tensorboard").touch()
    with pytest.raises(UserError, match=r"tensorboard cannot be written .*: move what is there"):
        MetricLog(RunFolder(tmp_path), 0, 5, ["tensorboard"], {})


def test_a_tracker_that_comes_later_is_told_what_was_before(tmp_path):
    with MetricLog(RunFolder(tmp_path), 0, 5) as log:
        log.write(1, {"train/loss": 0.5})
        log.write(2, {"train/loss": 0.25, "val/roc_auc": None})
    with MetricLog(RunFolder(tmp_path), 1, 5, ["tensorboard"], {}) as log:
        log.write(2, {"train/loss": 0.25})
    ((starts, values),) = read_sessions(tmp_path / "tensorboard")
    assert starts == [1]
    told = [scalar for scalar in scalars(values) if scalar[0] == "train/loss"]
    assert told == [("train/loss", 1, 0.5), ("train/loss", 2, 0.25)]


def test_the_evaluation_is_logged_once_outside_training_lines(tmp_path):
    drawn = []

    def draw():
        drawn.append(1)
        return {"test/roc": cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()}

    for step in (0, 3, 3):
        with MetricLog(RunFolder(tmp_path), step, 5, ["tensorboard"], {}) as log:
            if step == 0:
                log.write(3, {"train/loss": 0.5})
                continue  # killed before the evaluation
            log.write_evaluation({"test/image_roc_auc": 0.75}, draw)
    _, told, again = read_sessions(tmp_path / "tensorboard")
    assert scalars(told[1]) == [("test/image_roc_auc", 3, 0.75)]
    (picture,) = [(step, value) for step, value in told[1] if value.HasField("image")]
    assert (picture[0], picture[1].tag) == (3, "test/roc")
    assert (picture[1].image.width, picture[1].image.height) == (6, 4)
    assert again[1] == [] and drawn == [1]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()] == [
        {"step": 3, "epoch": 0.6, "train/loss": 0.5}
    ]


@pytest.mark.parametrize("line", ["[" * 100_000, "[1]", '{"step": "x"}', '{"step": null}'])
def test_a_line_of_another_form_is_damage(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{line}\n{{"step": 1}}\n')
    with pytest.raises(UserError, match="line 1"):
        read_log(tmp_path / "metrics.jsonl")


def test_a_folder_is_no_log(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="metrics.jsonl cannot be read .Is a directory."):
        read_log(tmp_path / "metrics.jsonl")


def test_only_a_last_line_may_be_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert read_log(path) == [{"step": 1}, {"step": 2}]
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2 of .* is damaged"):
        MetricLog(RunFolder(tmp_path), 5, 1)
    assert path.read_bytes().count(b"\n") == 3, "nothing is lost"


def test_a_damaged_state_is_named_with_its_remedy(tmp_path):
    (tmp_path / "trackers.json").write_text("{")
    with pytest.raises(UserError, match="delete the file"):
        MetricLog(RunFolder(tmp_path), 0, 5)
