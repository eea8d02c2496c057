"""The versions and devices of a run are recorded at every start that differs."""

from __future__ import annotations

import importlib.metadata
import json
import platform

import jax

from se_resnet.runtime import software
from se_resnet.runtime.schema import misfit


def starts(path) -> list[dict]:
    return json.loads(path.read_text())["starts"]


def test_versions_and_devices_are_those_of_the_process(tmp_path):
    software.keep(tmp_path / "software.json", step=0)
    (start,) = starts(tmp_path / "software.json")
    assert not misfit(start, software.START_FORM)
    assert start["packages"]["jax"] == jax.__version__
    assert start["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert start["python"] == platform.python_version()
    count = len(jax.devices())
    assert start["devices"] == [f"{count} x {jax.devices()[0].device_kind}"]


def test_a_start_with_other_versions_is_added(tmp_path, monkeypatch):
    path = tmp_path / "software.json"
    software.keep(path, step=0)
    software.keep(path, step=5)  # the same software
    assert [start["step"] for start in starts(path)] == [0]
    monkeypatch.setattr(platform, "python_version", lambda: "9.9.9")
    software.keep(path, step=7)
    assert [start["step"] for start in starts(path)] == [0, 7]
    assert starts(path)[1]["python"] == "9.9.9"
    software.keep(path, step=0)  # nothing was trained: the run begins anew
    assert [start["step"] for start in starts(path)] == [0]


def test_a_damaged_record_does_not_stop_a_run(tmp_path):
    path = tmp_path / "software.json"
    path.write_text("{")
    software.keep(path, step=3)
    assert [start["step"] for start in starts(path)] == [3]
