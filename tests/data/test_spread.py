"""Preparation on Apache Beam gives what preparation in one process gives: `pytest -m beam`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data.breakhis import preparation
from data.dataset import load_dataset
from data.table import preparation as table_preparation
from se_resnet.errors import UserError
from tests.helpers import ROOT
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import make_tree
from tests.helpers.own_images import own_table

LOCAL = ["--runner=DirectRunner"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), make_records(4, 6, images=3).file.tolist())


def found(tree: Path, cache: Path, policy: str = "error", options: list[str] | None = None):
    prepared = preparation.prepare(tree, cache, policy, options)
    return prepared.fingerprint, prepared.summary, list(prepared.examples())


@pytest.mark.beam
def test_beam_prepares_the_same_records_in_the_same_order(tree, tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    plain, beam = found(tree, tmp_path / "plain"), found(tree, tmp_path / "beam", options=LOCAL)
    assert beam == plain and len(plain[2]) == 60


@pytest.mark.beam
def test_unusable_files_are_refused_or_skipped_alike(tree, tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    names = make_records(2, 2, images=2).file.tolist()
    broken = make_tree(tmp_path / "tree", names)
    paths = sorted(broken.rglob("*.png"))
    paths[3].write_bytes(paths[3].read_bytes()[:-20])
    (paths[5].parent / "holiday.png").write_bytes(paths[5].read_bytes())
    told = []
    for number, options in enumerate((None, LOCAL)):
        with pytest.raises(UserError) as refused:
            found(broken, tmp_path / f"error{number}", options=options)
        told.append(str(refused.value))
    assert told[0] == told[1] and "2 of 17 image files are unusable" in told[0]
    plain, beam = (
        found(broken, tmp_path / f"skip{number}", "skip", options)
        for number, options in enumerate((None, LOCAL))
    )
    assert beam == plain and len(plain[2]) == 15 and len(plain[1].skipped) == 2


@pytest.mark.beam
def test_a_run_finds_what_several_workers_prepared(tree, tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    command = [sys.executable, "-m", "data.spread", f"--data_dir={tree}", f"--cache_dir={tmp_path}"]
    workers = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = subprocess.run([*command, *workers], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "subset: 60 of 7,909 images" in done.stdout
    (prepared,) = (tmp_path / "prepared").iterdir()
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    assert preparation.prepare(tree, tmp_path).num_images == 60
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


@pytest.mark.beam
def test_a_run_finds_the_images_of_a_table_that_workers_examined(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    table = own_table(tmp_path / "images")
    (table.parent / "case00_0.jpg").write_text("broken")
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "data.spread", f"--data_dir={table}", f"--cache_dir={cache}"]
    workers = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = subprocess.run([*command, *workers], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "case00_0.jpg: is not an image" in done.stderr, done.stderr
    skipping = [*command, "--on_bad_image=skip", *workers]
    done = subprocess.run(skipping, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "table images.csv: 35 images of 12 patients" in done.stdout
    monkeypatch.setattr(table_preparation, "examine_all", None)  # nothing is examined again
    options = {"size": (16, 16), "cache_dir": str(cache), "on_bad_image": "skip"}
    assert len(load_dataset(str(table), **options).records) == 35


def test_without_beam_the_extra_is_named(tree, tmp_path):
    code = (
        "import sys, runpy; sys.modules['apache_beam'] = None; "
        f"sys.argv = ['spread', '--data_dir={tree}', '--cache_dir={tmp_path}']; "
        "runpy.run_module('data.spread', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: Apache Beam is not installed")
    assert "Traceback" not in done.stderr
