from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from data.disk import make_room, unfinished
from se_resnet.errors import UserError


def make(folder: Path, needed: int = 1) -> None:
    make_room(folder, ".*.building", needed, purpose="the cache", remedy="use another disk")


def test_only_leftovers_whose_builder_has_ended_are_cleared(tmp_path):
    for name in (".dead.building", ".alive.building", ".lockless.building", "whole", ".other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name, (0, 0))  # a clock says nothing
    for name in (".dead.building", "whole", ".other"):
        (tmp_path / f"{name}.lock").touch()
    with FileLock(tmp_path / ".alive.building.lock"):
        make(tmp_path)
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {".alive.building", ".lockless.building", "whole", ".other"}
    assert not (tmp_path / ".dead.building.lock").exists()


def test_a_folder_that_is_being_built_survives_other_builders(tmp_path):
    with unfinished(tmp_path / "one", 1, purpose="the cache", remedy="") as folder:
        os.utime(folder, (0, 0))
        with unfinished(tmp_path / "two", 1, purpose="the cache", remedy=""):
            assert folder.is_dir()
        folder.rename(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), NotImplementedError])
def test_without_locks_folders_are_built_and_none_is_cleared(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    (tmp_path / ".other.building").mkdir()
    (tmp_path / ".other.building.lock").touch()
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with unfinished(tmp_path / "one", 1, purpose="the cache", remedy="") as folder:
        assert not Path(f"{folder}.lock").exists(), "nobody may take the folder for abandoned"
        folder.rename(tmp_path / "one")
    assert (tmp_path / ".other.building").exists() and (tmp_path / "one").exists()


def test_a_leftover_that_another_process_finishes_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / ".gone.building"])
    make(tmp_path)


def test_too_little_room_is_told_with_the_remedy(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    make(tmp_path / "new" / "folder", 2 * 10**9)
    with pytest.raises(
        UserError, match="^the cache needs 3.0 GB but .* has 2.0 GB free: make room"
    ):
        make(tmp_path, 3 * 10**9)
