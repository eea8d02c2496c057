"""The examples in docstrings run, on a tiny run that lies where they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.fixture
def with_run(gated_run, tmp_path, monkeypatch):
    """A working directory as the examples expect it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "smoke").symlink_to(gated_run)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "examples"),
    [
        ("se_resnet.models.resnet", 7),
        ("se_resnet.predict.predictor", 8),
        ("se_resnet.package.save_load", 7),
        ("data.load_images", 5),
        ("data.breakhis.candidates", 1),
        ("se_resnet.predict.patients", 1),
        ("se_resnet.report.reporting.wording", 4),
        ("se_resnet.runs.image_source", 1),
        ("se_resnet.runtime.batches", 2),
        ("se_resnet.runtime.csv_dialect", 2),
        ("se_resnet.runtime.data_package", 3),
        ("se_resnet.runtime.paths", 1),
        ("se_resnet.runtime.text_table", 1),
    ],
)
def test_examples_run(with_run, name, examples):
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted >= examples and not tried.failed
