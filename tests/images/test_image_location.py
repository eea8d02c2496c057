"""Files and archive members that a table names."""

from __future__ import annotations

import os
import tarfile
import zipfile

import pytest

from se_resnet.images import decode, image_location
from se_resnet.images.image_location import Location, locate, read_all


def test_a_relative_path_begins_at_the_table_and_an_absolute_path_stands(tmp_path):
    assert locate("a/b.png", tmp_path) == Location(tmp_path / "a/b.png")
    assert locate("/data/b.png", tmp_path).path.as_posix() == "/data/b.png"


@pytest.mark.parametrize("cell", ["", "../a.png", "a/../../b.png", "http://host/a.png"])
def test_a_path_that_leaves_the_folder_or_the_machine_is_refused(tmp_path, cell):
    with pytest.raises(ValueError):
        locate(cell, tmp_path)


def test_members_of_archives_are_read_once_in_the_order_of_the_archive(tmp_path):
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_text(name)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(tmp_path / "two.png", "in/two.png")
        archive.write(tmp_path / "one.png", "in/one.png")
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "one.png", "./one.png")
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    cells = [
        "images.zip/in/one.png",
        "images.zip/in/two.png",
        "images.tar.gz/one.png",
        "images.tar.gz/link.png",
        "images.tar.gz/absent.png",
        "one.png",
    ]
    found = dict(read_all(enumerate(locate(cell, tmp_path) for cell in cells)))
    assert found[0] == found[2] == found[5] == b"one.png" and found[1] == b"two.png"
    assert str(found[3]) == "is a link or no regular file"
    assert str(found[4]) == "is not in images.tar.gz"


def test_a_folder_may_have_the_name_of_an_archive(tmp_path):
    (tmp_path / "images.zip").mkdir()
    (tmp_path / "images.zip" / "a.png").write_text("a")
    location = locate("images.zip/a.png", tmp_path)
    assert not location.member and dict(read_all([(0, location)])) == {0: b"a"}


@pytest.mark.parametrize("name", ["images.zip", "images.tar", "images.tar.gz", "images.tar.xz"])
def test_a_damaged_archive_is_a_problem_of_each_member(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 damaged")
    found = dict(read_all([(7, locate(f"{name}/a.png", tmp_path))]))
    assert str(found[7]).startswith(f"cannot be read from {name}")


def test_missing_large_and_special_files_are_problems(tmp_path, monkeypatch):
    for module in (decode, image_location):
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 3)
    (tmp_path / "large.png").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe.png")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(tmp_path / "large.png", "large.png")
    cells = ["absent.png", "large.png", "pipe.png", "images.zip/large.png"]
    found = dict(read_all(enumerate(locate(cell, tmp_path) for cell in cells)))
    assert [str(found[number])[:14] for number in range(4)] == [
        "cannot be read",
        "is larger than",
        "is not a regul",
        "is larger than",
    ]
