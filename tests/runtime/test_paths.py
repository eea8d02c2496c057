from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from absl import flags

import data
from se_resnet.errors import UserError
from se_resnet.runtime.cli import PATH, path_option
from se_resnet.runtime.files import user_cache_dir, writable_folder
from se_resnet.runtime.paths import local_path

REMOTE = [
    "gs://bucket/run",
    "gs:/bucket/run",  # as pathlib shortens it
    "s3://bucket",
    "hdfs://host:1/run",
    "https://host/run",
    "file:///run",
    "GS://bucket",
    "abfs+x.y-z://run",
]


@pytest.mark.parametrize("path", REMOTE)
def test_an_address_is_no_path(path):
    with pytest.raises(UserError, match="is an address, and only local folders"):
        local_path(path)


@pytest.mark.parametrize("path", ["runs/a b", "C:x", "./gs:/x", "a%20b", "x~", "a$", "a$5", "[x]"])
def test_other_names_stay_as_they_are(path):
    assert local_path(path) == path


def test_home_and_variables_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert local_path("~/run") == f"{tmp_path}/run"
    assert local_path("$SCRATCH/run") == local_path("${SCRATCH}/run") == "/scratch/run"


def test_what_cannot_be_expanded_makes_no_folder_of_that_name(monkeypatch):
    monkeypatch.delenv("SCRATCH", raising=False)
    for path, told in (
        ("~no-such-user/run", "home folder of an unknown user"),
        ("$SCRATCH/run", r"variable \$SCRATCH, which is not set"),
        ("", "is empty"),
    ):
        with pytest.raises(UserError, match=told):
            local_path(path)


def test_a_path_that_exists_is_meant_as_it_is_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("~", "$HOME", "~no-such-user"):
        Path(name).mkdir()
        assert local_path(name) == name


def test_every_way_to_give_a_path_refuses_an_address(monkeypatch):
    with pytest.raises(UserError, match=r"config\.data\.dir = gs://bucket is an address"):
        data.load("gs://bucket")
    with pytest.raises(UserError, match=r"config\.data\.cache_dir = gs://bucket is an address"):
        user_cache_dir("gs://bucket")
    monkeypatch.setenv("SE_RESNET_CACHE", "s3://bucket")
    with pytest.raises(UserError, match="SE_RESNET_CACHE = s3://bucket is an address"):
        user_cache_dir()
    with pytest.raises(ValueError, match="is an address"):
        PATH.parse("gs://bucket")
    with pytest.raises(argparse.ArgumentTypeError, match="is an address"):
        path_option("gs://bucket")
    assert path_option("") == ""


def test_flags_that_are_paths_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    flags.DEFINE(PATH, "out", None, "Folder.", flag_values=values)
    values(["command", "--out=~/x"])
    assert values.out == f"{tmp_path}/x"


def test_a_user_without_home_is_asked_for_a_cache_folder(monkeypatch):
    for name in ("SE_RESNET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(UserError, match="set the environment variable SE_RESNET_CACHE"):
        user_cache_dir()


def test_a_path_of_too_many_folders_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        writable_folder(tmp_path / ("x/" * 1900), "choose another")
