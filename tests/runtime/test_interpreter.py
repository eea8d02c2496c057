from __future__ import annotations

import os
import subprocess
import sys

import pytest

from se_resnet.runtime import interpreter

KERNEL_ASKS = interpreter._gives_huge_pages_on_request()
SHOW = "import os, sys; print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:], os.getpid())"


@pytest.mark.parametrize(
    "before, after",
    [
        ({}, "glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.rtld.nns=3"}, "glibc.rtld.nns=3:glibc.malloc.hugetlb=1"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=2"}, "glibc.malloc.hugetlb=2"),
    ],
)
def test_the_setting_joins_what_is_there(before, after):
    assert interpreter.with_huge_pages({"A": "b", **before}) == {"A": "b", "GLIBC_TUNABLES": after}


@pytest.fixture
def run(tmp_path):
    """Runs a command that restarts, as a script or a module: what it prints, and its process."""
    (tmp_path / "command.py").write_text(
        f"from se_resnet.runtime.interpreter import restart\nrestart()\n{SHOW}"
    )

    def run(*arguments, **environment):
        clean = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
        path = os.pathsep.join([str(tmp_path), os.getcwd(), os.environ.get("PYTHONPATH", "")])
        started = subprocess.Popen(
            [sys.executable, *arguments],
            env={**clean, "PYTHONPATH": path, **environment},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        printed, _ = started.communicate(timeout=60)
        assert started.returncode == 0
        return printed.strip().rsplit(" ", 1)[0], int(printed.split()[-1]) == started.pid

    return run


@pytest.mark.skipif(not KERNEL_ASKS, reason="this kernel gives huge pages to all or to none")
@pytest.mark.parametrize("command", [("command.py",), ("-m", "command")])
def test_a_command_restarts_with_its_arguments(run, command):
    expected = "glibc.malloc.hugetlb=1 ['--a', 'b c']", True
    assert run(*command, "--a", "b c") == expected


def test_the_switch_keeps_a_command_as_it_is(run):
    assert run("command.py", SE_RESNET_HUGE_PAGES="0") == ("None []", True)


def test_code_inside_another_program_does_not_restart_that(run):
    code = "import runpy, sys; sys.argv = ['command.py', 'x']; runpy.run_path('command.py')"
    assert run("-c", code, "y") == ("None ['x']", True)


def test_a_failed_restart_changes_nothing(monkeypatch):
    calls = []

    def refuse(*arguments):
        calls.append(arguments)
        raise OSError

    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.setattr(sys, "argv", ["train.py", "--x"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "train.py", "--x"])
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setattr(interpreter, "_gives_huge_pages_on_request", lambda: True)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    interpreter.restart()
    assert [call[1] for call in calls] == [[sys.executable, "-u", "train.py", "--x"]]
    monkeypatch.setattr(sys, "gettrace", lambda: print)
    interpreter.restart()
    assert len(calls) == 1
