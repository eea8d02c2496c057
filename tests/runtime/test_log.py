from __future__ import annotations

import io
import os
import re
import resource
import sys

import pytest

from se_resnet.errors import UserError
from se_resnet.runtime.log import log, log_file, screen
from se_resnet.runtime.progress_bar import progress_bar

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d  ")


def lines_of(path):
    lines = path.read_text().splitlines()
    assert all(TIME.match(line) for line in lines)
    return [TIME.sub("", line) for line in lines]


def test_everything_printed_is_added_with_its_time(tmp_path, capsys):
    path = tmp_path / "log.txt"
    for number in range(2):
        with log_file(path):
            log("model", "one\ntwo")
            print("warning: no end of line", end="", file=sys.stderr)
            print(f"start {number}")
        print("not part of it")
    block = ["model     one", "          two"]
    first, second = ([*block, f"start {number}", "warning: no end of line"] for number in range(2))
    assert lines_of(path) == [*first, *second]
    printed = capsys.readouterr()
    assert printed.out.count("model     one\n          two\nstart") == 2
    assert printed.out.count("not part of it") == 2
    assert printed.err == 2 * "warning: no end of line"


def test_a_bar_is_shown_and_not_logged(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    with log_file(tmp_path / "log.txt"):
        with progress_bar(total=3, desc="training", mininterval=0) as bar:
            bar.update()
            bar.write("epoch 1")
            bar.update()
        print("\r     \rwarning: after a bar of another library", file=sys.stderr)
    assert lines_of(tmp_path / "log.txt") == [
        "epoch 1",
        "warning: after a bar of another library",
    ]
    # The bar is cleared before the line, which therefore begins at the left edge.
    assert re.search(r"\r +\repoch 1\n", terminal.getvalue())
    assert "2/3" in terminal.getvalue()


def test_a_block_in_a_block_writes_each_file_once(tmp_path):
    outer, inner = tmp_path / "outer.txt", tmp_path / "inner.txt"
    streams = sys.stdout, sys.stderr
    with log_file(outer):
        with log_file(inner), log_file(outer):
            print("of the part")
        print("of the whole")
        assert screen(sys.stdout) is streams[0]
    assert (sys.stdout, sys.stderr) == streams
    assert lines_of(inner) == ["of the part"]
    assert lines_of(outer) == ["of the part", "of the whole"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("the disk is full: make room."), "error: the disk is full: make room"),
        (KeyboardInterrupt("saved after step 3 of 9"), "interrupted: saved after step 3 of 9"),
        (KeyError("name"), "error: KeyError: 'name'"),
    ],
)
def test_the_error_that_ends_the_work_is_the_last_line(tmp_path, error, line):
    with pytest.raises(type(error)), log_file(tmp_path / "log.txt"):
        print("begun")
        raise error
    assert lines_of(tmp_path / "log.txt") == ["begun", line]


def test_a_full_disk_is_reported_once_and_does_not_end_the_work(tmp_path, capsys):
    path = tmp_path / "log.txt"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with log_file(path):
        print("before")
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        try:
            print("while it is full")
            print("still")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        print("after")
    assert lines_of(path) == ["before", "after"]
    printed = capsys.readouterr()
    assert printed.out == "before\nwhile it is full\nstill\nafter\n"
    assert printed.err.count("warning: ") == 1
    assert f"{path} cannot be written (File too large)" in printed.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_reported(tmp_path, capsys):
    tmp_path.chmod(0o500)
    with log_file(tmp_path / "log.txt"):
        print("shown")
    assert "log.txt cannot be written (Permission denied)" in capsys.readouterr().err
