"""The table that ships: it is what its command makes, and a network trains on it."""

from __future__ import annotations

import sys

import pytest

import train
from benchmarks import make_example
from data.dataset import load_dataset
from tests.helpers import ROOT
from tests.helpers.configs import tiny_config

EXAMPLE = ROOT / "data" / "example"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_the_command_makes_the_table_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_example", f"--out={tmp_path}"])
    make_example.main()
    assert (tmp_path / "images.csv").read_bytes() == (EXAMPLE / "images.csv").read_bytes()
    names = sorted(path.name for path in (EXAMPLE / "images").iterdir())
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == names


def test_its_images_load_with_all_columns(cache):
    dataset = load_dataset(str(EXAMPLE / "images.csv"), size=(16, 16), cache_dir=str(cache))
    records = dataset.records
    assert len(records) == 36 and len(set(records.accession.tolist())) == 17
    assert set(records.extra) == {"um_per_px", "source"}
    assert set(records.magnification.tolist()) == {100}
    assert "further columns: source" in dataset.description


def test_a_network_trains_on_it(cache, tmp_path):
    config = tiny_config(EXAMPLE / "images.csv", cache)
    config.epochs = 1
    metrics = train.train_and_evaluate(config, tmp_path / "run")
    assert metrics["audit"]["evaluated_accessions_seen"] == 0
    assert set(metrics["by_subtype"]) & {"ductal carcinoma", "lobular carcinoma"}
