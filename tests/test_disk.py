from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from data.disk import make_room
from se_resnet.errors import UserError


def make(folder: Path, needed: int = 1) -> None:
    make_room(folder, ".*.building", needed, purpose="the cache", remedy="use another disk")


def test_only_leftovers_older_than_a_day_are_cleared(tmp_path):
    for name in (".old.building", ".new.building", "whole", ".other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        if name != ".new.building":
            os.utime(tmp_path / name, (0, 0))
    make(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".new.building", "whole", ".other"}


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
