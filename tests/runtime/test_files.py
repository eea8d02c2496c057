import os

import pytest

from se_resnet.runtime.files import read_json, read_small_file, read_text


def test_a_regular_file_is_read_also_through_a_link(tmp_path):
    (tmp_path / "facts.json").write_text('{"a": 1}')
    (tmp_path / "link").symlink_to("facts.json")
    assert read_small_file(tmp_path / "link") == b'{"a": 1}'
    assert read_json(tmp_path / "link", {"a": int}) == {"a": 1}


def test_a_pipe_or_device_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            read_small_file(path)


def test_a_folder_and_a_missing_file_are_os_errors(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OSError):
            read_small_file(path)


def test_size_encoding_depth_and_form_are_limited(tmp_path):
    path = tmp_path / "facts.json"
    path.write_bytes(b"12345")
    with pytest.raises(ValueError, match="larger than"):
        read_small_file(path, limit=4)
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match="utf-8"):
        read_text(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)
    path.write_text('{"steps": "three"}')
    with pytest.raises(ValueError, match="steps is 'three'"):
        read_json(path, {"steps": int})


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "table.csv").write_text("a;b", encoding="utf-8-sig")
    assert read_text(tmp_path / "table.csv") == "a;b"
