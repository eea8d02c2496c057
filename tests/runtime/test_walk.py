from __future__ import annotations

import os
import socket

import pytest

from se_resnet.errors import UserError
from se_resnet.predict.image_files import find_images
from se_resnet.runtime import walk as walking
from se_resnet.runtime.walk import PassedOver, walk
from tests.helpers.image_trees import make_unreadable


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_every_file_is_listed_or_accounted_for(tmp_path):
    touch(tmp_path, "b [1]/\udcff.png", "a.png", ".DS_Store", "__MACOSX/._a.png", "@eaDir/a.png")
    passed_over = PassedOver()
    assert walk(tmp_path, passed_over).files == ["a.png", "b [1]/\udcff.png"]
    assert passed_over.as_dict() == {
        "hidden": {"count": 3, "examples": [".DS_Store", "@eaDir", "__MACOSX"]}
    }


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "open/a.png", "private/b.png")
    make_unreadable(monkeypatch, "private")
    passed_over = PassedOver()
    assert walk(tmp_path, passed_over).files == ["open/a.png"]
    assert passed_over.describe() == ("folders that cannot be read 1 (private: Permission denied)")


def test_links_are_followed_once_and_the_path_without_links_wins(tmp_path):
    touch(tmp_path, "in/z/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "a").symlink_to("z")
    (tmp_path / "in" / "linked").symlink_to("../elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to("../in")
    passed_over = PassedOver()
    assert walk(tmp_path / "in", passed_over).files == ["linked/b.png", "z/a.png"]
    assert passed_over.describe() == "links to folders that were read already 2 (a, linked/back)"


def test_folders_nested_too_deeply_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(walking, "MAX_DEPTH", 2)
    touch(tmp_path, "1/2/a.png", "1/2/3/b.png")
    passed_over = PassedOver()
    assert walk(tmp_path, passed_over).files == ["1/2/a.png"]
    assert passed_over.describe() == "folders nested too deeply 1 (1/2/3)"


def test_what_predict_passes_over_is_one_line(tmp_path):
    touch(tmp_path, "a.png", "b.JPEG", "README", *(f"{number}.txt" for number in range(1000)))
    (tmp_path / "dead.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)  # the path of a socket must be short
    listener.bind("socket.png")
    os.chdir(here)
    passed_over = PassedOver()
    found = find_images(tmp_path, passed_over=passed_over)
    listener.close()
    # Links that lead nowhere are listed as not used when they are read.
    assert [path.name for path in found] == ["a.png", "b.JPEG", "dead.png", "loop.png"]
    assert passed_over.describe() == (
        "other suffixes 1,001 (.txt 1,000, no suffix 1); "
        "pipes, sockets and devices 2 (pipe.png, socket.png)"
    )


def test_pictures_of_a_prediction_are_no_images_of_the_users(tmp_path):
    touch(tmp_path, "a.png", "out/predictions.json", "out/overlays/deeper/a.png.png")
    touch(tmp_path, "killed/.unfinished/placing/predictions.json", "killed/overlays/a.png.png")
    touch(tmp_path, "mine/overlays/b.png")
    passed_over = PassedOver()
    found = find_images(tmp_path, passed_over=passed_over)
    assert found == [tmp_path / "a.png", tmp_path / "mine" / "overlays" / "b.png"]
    assert "pictures that a prediction wrote 2" in passed_over.describe()
    (picture,) = find_images(tmp_path / "killed" / "overlays")
    assert picture.name == "a.png.png"


def test_a_folder_without_images_tells_what_it_holds(tmp_path):
    touch(tmp_path, "images.zip", "line\nbreak.txt")
    with pytest.raises(UserError, match=r"holds no image.*\.zip 1") as caught:
        find_images(tmp_path)
    assert "\n" not in str(caught.value)
