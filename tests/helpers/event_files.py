"""What TensorBoard would read of a run."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorboardX.proto import event_pb2


def read_sessions(folder: Path) -> list[tuple[list[int], list]]:
    """For each start of a run, oldest first: the step that it goes on from, and its values.

    A value is a pair of its step and the message, which has ``tag`` and a kind of content.
    """
    sessions = []
    files = folder.glob("events.*")
    for file in sorted(files, key=lambda path: path.stat().st_mtime_ns):
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        events = [event_pb2.Event.FromString(record) for record in records]
        starts = [event.step for event in events if event.HasField("session_log")]
        values = [(event.step, value) for event in events for value in event.summary.value]
        sessions.append((starts, values))
    return sessions


def scalars(values: list) -> list[tuple[str, int, float]]:
    """Those values that are single numbers, as name, step and number."""
    return [
        (value.tag, step, value.simple_value)
        for step, value in values
        if value.HasField("simple_value")
    ]
