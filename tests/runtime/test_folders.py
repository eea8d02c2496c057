from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from se_resnet.errors import UserError
from se_resnet.runtime import folders
from se_resnet.runtime.folders import UNFINISHED, current, whole_folder

NAMES = ("table.csv", "facts.json")


class Killed(BaseException):
    pass


def kill(monkeypatch, step: int) -> None:
    """From the given change of the disk on, nothing is changed any more, as after SIGKILL."""
    done = 0

    def counting(function):
        def change(*arguments, **options):
            nonlocal done
            done += 1
            if done >= step:
                raise Killed
            return function(*arguments, **options)

        return change

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(Path, name, counting(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", counting(shutil.rmtree))


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).as_posix().startswith(".")
    }


def write(folder: Path, content: dict[str, str], seen: list | None = None) -> None:
    def old() -> list[str]:
        found = files(folder)
        if seen is not None:
            seen.append(found)
        return [name for name in found if not name.startswith("mine")]

    with whole_folder(folder, NAMES, "give another folder", old) as new:
        for name, text in content.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text)


OLD = {"table.csv": "old", "facts.json": "old", "pictures/a.png": "old", "pictures/b.png": "old"}
NEW = {"table.csv": "new", "facts.json": "new", "pictures/b.png": "new"}
MINE = {"mine.txt": "mine", "mine/picture.png": "mine"}


def is_killed(folder: Path, step: int) -> bool:
    """Writes the new content and returns whether it was killed at this step."""
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, step)
        try:
            write(folder, NEW)
        except Killed:
            return True
    return False


def test_a_kill_at_any_moment_leaves_the_old_content_or_the_new(tmp_path):
    outcomes = []
    for step in range(1, 100):
        folder = tmp_path / str(step)
        write(folder, {**OLD, **MINE})
        if not is_killed(folder, step):
            break
        read = {current(folder / name).read_text() for name in NAMES}
        seen: list[dict[str, str]] = []
        write(folder, {"table.csv": "third", "facts.json": "third"}, seen)
        assert seen[0] in ({**OLD, **MINE}, {**NEW, **MINE})
        assert read == {seen[0]["facts.json"]}
        assert files(folder) == {"table.csv": "third", "facts.json": "third", **MINE}
        assert not (folder / UNFINISHED).exists()
        outcomes.append(seen[0]["facts.json"])
    assert files(folder) == {**NEW, **MINE}
    assert outcomes == sorted(outcomes, reverse=True) and {*outcomes} == {"old", "new"}


def test_no_file_of_old_content_stands_beside_one_of_new_content(tmp_path):
    for step in range(1, 100):
        folder = tmp_path / str(step)
        write(folder, OLD)
        if not is_killed(folder, step):
            break
        assert len({*files(folder).values()}) <= 1


def test_an_error_leaves_the_old_content_as_it_was(tmp_path):
    write(tmp_path, OLD)
    with (
        pytest.raises(RuntimeError),
        whole_folder(tmp_path, NAMES, "give another folder", lambda: NAMES) as new,
    ):
        (new / "table.csv").write_text("half")
        raise RuntimeError
    assert files(tmp_path) == OLD and not (tmp_path / UNFINISHED).exists()


def test_a_folder_that_is_refused_is_left_as_it_was(tmp_path):
    def refuse():
        raise UserError("holds other files")

    write(tmp_path, OLD)
    with pytest.raises(UserError), whole_folder(tmp_path, NAMES, "give another folder", refuse):
        pass
    assert files(tmp_path) == OLD and not (tmp_path / UNFINISHED).exists()


def test_leftovers_are_removed_and_other_hidden_files_stay(tmp_path):
    for name in (".table.csv.ea9ae822", ".ea9ae822", ".facts.json.0123abcd"):
        (tmp_path / name).touch()
    for name in (".export-x1y2_z3w", f"{UNFINISHED}/new/pictures"):
        (tmp_path / name).mkdir(parents=True)
    kept = {".gitignore", ".notes.md.ea9ae822", ".table.csv.mine"}
    for name in kept:
        (tmp_path / name).touch()
    write(tmp_path, {"table.csv": "", "mine": ""})
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "table.csv", "mine"}


def test_two_processes_do_not_write_one_folder_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_LOCK_SECONDS", 0.1)
    (tmp_path / UNFINISHED).mkdir()
    with (
        FileLock(tmp_path / UNFINISHED / "lock"),
        pytest.raises(UserError, match=r"written by another process: .*, or give another folder\."),
    ):
        write(tmp_path, NEW)
    write(tmp_path, NEW)
    assert files(tmp_path) == NEW


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folders.FileLock, "acquire", refuse)
    write(tmp_path, NEW)
    assert files(tmp_path) == NEW and not (tmp_path / UNFINISHED).exists()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_an_error_of_locks_is_not_taken_for_another_process(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(folders, "_LOCK_SECONDS", 0.1)
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "lock").write_text("left by a process that was killed")
    write(tmp_path, NEW)
    assert files(tmp_path) == NEW and not (tmp_path / UNFINISHED).exists()


def test_no_name_that_a_file_tells_leads_out_of_the_folder(tmp_path):
    (tmp_path / "outside").touch()
    names = ["../outside", str(tmp_path / "outside"), "a/../../outside", "."]
    folder = tmp_path / "folder"
    with whole_folder(folder, NAMES, "give another folder", lambda: names) as new:
        (new / "table.csv").touch()
    assert (tmp_path / "outside").exists() and (folder / "table.csv").exists()


@pytest.mark.parametrize("blocking", ["table.csv/file", "pictures"])
def test_what_is_in_the_way_is_named_and_stays(tmp_path, blocking):
    (tmp_path / blocking).parent.mkdir(exist_ok=True)
    (tmp_path / blocking).touch()
    with (
        pytest.raises(UserError, match="is in the way"),
        whole_folder(tmp_path, NAMES, "give another folder", lambda: ["table.csv"]) as new,
    ):
        (new / "table.csv").touch()
        (new / "pictures").mkdir()
        (new / "pictures" / "a.png").touch()
    assert (tmp_path / blocking).is_file() and not (tmp_path / UNFINISHED).exists()
