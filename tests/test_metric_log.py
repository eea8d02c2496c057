from __future__ import annotations

import pytest
import tensorflow as tf
from tensorboardX.proto import event_pb2

from se_resnet.errors import UserError
from se_resnet.metric_log import MetricLog, read_log


def test_lines_after_the_resumed_step_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricLog(tmp_path, 0, 5)
    for step in range(1, 6):
        log.write(step, {"train/loss": 1.0})
    log.close()
    log = MetricLog(tmp_path, 3, 5)
    log.write(4, {"train/loss": 2.0})
    log.close()
    assert [(line["step"], line["train/loss"]) for line in read_log(path)] == [
        (1, 1.0),
        (2, 1.0),
        (3, 1.0),
        (4, 2.0),
    ]
    assert [line["epoch"] for line in read_log(path)] == [0.2, 0.4, 0.6, 0.8]


def test_tensorboard_shows_the_figures_and_drops_what_is_done_again(tmp_path):
    log = MetricLog(tmp_path, 0, 5)
    for step in range(1, 6):
        log.write(step, {"train/loss": step / 2, "val/roc_auc": None})
    log.close()
    log = MetricLog(tmp_path, 3, 5)
    log.write(4, {"train/loss": 7.0})
    log.close()
    files = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    sessions = []
    for file in files:
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        events = [event_pb2.Event.FromString(record) for record in records]
        starts = [event.step for event in events if event.HasField("session_log")]
        values = [
            (value.tag, event.step, value.simple_value)
            for event in events
            for value in event.summary.value
        ]
        sessions.append((starts, values))
    # A reader drops what an earlier session wrote from the step that a later one starts at.
    assert sessions == [
        ([1], [("train/loss", step, step / 2) for step in range(1, 6)]),
        ([4], [("train/loss", 4, 7.0)]),
    ]


def test_only_a_last_line_may_be_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert read_log(path) == [{"step": 1}, {"step": 2}]
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2 of .* is damaged"):
        MetricLog(tmp_path, 5, 1)
    assert path.read_bytes().count(b"\n") == 3, "nothing is lost"
