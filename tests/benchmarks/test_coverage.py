"""A short version of ``python -m benchmarks.coverage``."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import Cell, image_counts, measure, true_values
from se_resnet.metrics.binary import binary_metrics
from se_resnet.metrics.cohort import Cohort

SAMPLES = 150
# 92 % less three standard errors of a coverage of 92 %; 5.5 % plus three of a share of 5.5 %.
LEAST = 0.92 - 3 * np.sqrt(0.92 * 0.08 / SAMPLES)
MOST = 0.055 + 3 * np.sqrt(0.055 * 0.945 / SAMPLES)


@pytest.mark.simulation
@pytest.mark.parametrize(
    "cell",
    [
        Cell(2, 6, 0.99, 0.25, "normal"),
        Cell(4, 12, 0.9, 0.5, "beta"),
        Cell(12, 32, 0.95, 0.75, "normal"),
        Cell(16, 54, 0.8, 0.5, "beta"),
    ],
    ids=str,
)
def test_intervals_cover_and_equal_runs_do_not_differ(cell, monkeypatch):
    monkeypatch.setattr(coverage, "POPULATION", 10_000)
    found = measure(cell, SAMPLES)
    for name, entry in found["intervals"].items():
        if entry["defined"] > SAMPLES / 2:
            assert entry["coverage"] >= LEAST, name
        assert entry["zero"] == 0, name
    assert np.mean([entry["coverage"] for entry in found["intervals"].values()]) >= 0.94
    for name, entry in found["excluded"].items():
        if entry["defined"] > SAMPLES / 2:
            assert entry["share"] <= MOST, name


@pytest.mark.parametrize("model", coverage.MODELS)
@pytest.mark.parametrize("share", [0.25, 0.75])
def test_simulated_images_have_the_true_auc_and_share(model, share, monkeypatch):
    cell = Cell(16, 54, 0.9, share, model)
    (predictions,) = cell.draw(np.random.default_rng(0), scale=60)
    label, cohort = predictions.label == 1, Cohort.of(predictions)
    columns = (label, predictions.probability, predictions.probability >= 0.5)
    metrics = binary_metrics(*columns, np.zeros(len(label), int), np.ones((1, 1)))
    assert metrics["roc_auc"][0] == pytest.approx(0.9, abs=0.01)
    assert metrics["recall"][0] == pytest.approx(metrics["specificity"][0], abs=0.02)
    right = (columns[2] == label).astype(float)
    images = cohort.images.sum(axis=1)
    between = np.var((np.bincount(cohort.group, right) / images)[images > 20])
    smallest = 0.3 * share if model == "normal" else 0.8 * share
    assert between / (right.mean() * (1 - right.mean())) > smallest


def test_patients_have_the_images_of_breakhis():
    benign, malignant = image_counts()
    assert (len(benign), len(malignant)) == (16, 54)
    assert benign.sum() + malignant.sum() == 2013


def test_the_command_prints_both_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coverage, "POPULATION", 300)
    monkeypatch.setattr(coverage.os, "cpu_count", lambda: 1)
    out = tmp_path / "cells.json"
    options = "--samples 2 --patients 8 --aucs 0.9 --shares 0.5 --models normal --out"
    monkeypatch.setattr(sys, "argv", ["coverage", *options.split(), str(out)])
    coverage.main()
    printed = capsys.readouterr().out
    assert "| image roc auc |" in printed and "excludes 0" in printed
    (cell,) = json.loads(out.read_text())
    assert set(cell["intervals"]) <= set(true_values(Cell(**cell["cell"])))
