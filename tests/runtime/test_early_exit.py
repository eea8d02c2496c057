"""Ctrl-C at any time of a start ends every command with one line and exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from se_resnet.runtime import signals
from tests.helpers import ROOT

COMMANDS = {
    "train": ["train.py", "--config=configs/smoke.py", "--workdir={tmp}/run"],
    "eval": ["eval.py", "--workdir={tmp}/run"],
    "predict": ["-m", "se_resnet.predict", "--workdir={tmp}/run", "--input=x", "--out={tmp}/out"],
    "metrics": ["-m", "se_resnet.metrics", "compare", "{tmp}/a", "{tmp}/b"],
    "attention": ["-m", "se_resnet.attention"],
    "protocols": ["-m", "data.protocols", "--published", "--out={tmp}/out"],
    "table": ["-m", "data.table", "{tmp}", "--out={tmp}/t.csv", "--patient=file"],
    "benchmarks": ["-m", "benchmarks.near_duplicates"],
}
# Imports this module late, so that the signal surely arrives while modules are imported.
MODULE = "numpy"
STUB = """
import os, signal, sys, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(20)
print("not interrupted")
"""


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored():
    """A job in the background of a shell script, and its children, begin with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(tmp_path):
    """Starts a command whose import of NumPy is interrupted."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / f"{MODULE}.py").write_text(STUB)

    def started(name: str, **environment: str) -> subprocess.CompletedProcess:
        command = [argument.format(tmp=tmp_path) for argument in COMMANDS[name]]
        path = os.pathsep.join([str(tmp_path / "path"), str(ROOT)])
        return subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=100,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )

    return started


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_during_the_imports_ends_with_one_line(start, tmp_path, name):
    ended = start(name)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr == (
        "interrupted: the command had not begun its work; give the same command again.\n"
    )
    assert ended.stdout == "" and sorted(os.listdir(tmp_path)) == ["path"]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
def test_ctrl_c_by_a_user_ends_with_one_line(tmp_path, seconds):
    command = [argument.format(tmp=tmp_path) for argument in COMMANDS["train"]]
    started = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    started.send_signal(signal.SIGINT)
    _, message = started.communicate(timeout=100)
    assert started.returncode == 130, message
    assert message.startswith("interrupted: ") and message.count("\n") == 1


def test_a_program_that_imports_the_project_keeps_its_own_handling(tmp_path):
    script = "import se_resnet, data, signal, sys\nprint(signal.getsignal(signal.SIGINT))"
    (tmp_path / "train.py").write_text(script)  # of that name, but not the project's
    for command in (["-c", script], [str(tmp_path / "train.py")]):
        ended = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert "default_int_handler" in ended.stdout, ended.stderr


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path):
    """As in a job in the background of a shell script."""
    code = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)\n"
    )
    (tmp_path / f"{MODULE}.py").write_text(STUB.replace("20", "0"))
    ended = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS["attention"]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert "not interrupted" in ended.stdout and ended.returncode != 130


def test_a_signal_during_an_import_is_delivered_after_it():
    reached = []
    with pytest.raises(KeyboardInterrupt), signals.postponed():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the end of the block")
    assert reached
    with pytest.raises(signals.Interrupted), signals.raised(), signals.postponed():
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("again")
    assert len(reached) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_prediction_says_what_is_true(run, place, tmp_path):
    """Interrupted while it computes; what an earlier prediction wrote is kept."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    script = (
        "import os, signal, sys\n"
        "from se_resnet.predict import folder\n"
        "from se_resnet.runtime.cli import run_command\n"
        "folder.summarise_patients = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "from pathlib import Path\n"
        f"run_command(lambda: folder.predict_folder(Path({str(run)!r}), Path({str(place[0])!r}), "
        f"Path({str(out)!r}), overlays=False))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.splitlines()[-1] == (
        "interrupted: results that were not complete are not kept; the same command begins anew."
    )
    assert [path.name for path in Path(out).iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "command",
    [
        "train.py --help",
        "eval.py --help",
        "-m se_resnet.predict --help",
        "-m se_resnet.metrics compare --help",
        "-m data.protocols --published --out={tmp}/out",
    ],
)
def test_a_reader_that_ends_early_is_no_error(tmp_path, command):
    """As ``| head -1`` does."""
    started = subprocess.Popen(
        [sys.executable, "-u", *command.format(tmp=tmp_path).split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout.readline()
    started.stdout.close()
    message = started.stderr.read()
    assert (started.wait(100), message) == (0, "")


@pytest.mark.parametrize(
    ("version", "refused"),
    [((3, 10, 13), True), ((3, 11, 0), False), ((3, 13, 9), False), ((3, 14, 0), True)],
)
def test_a_python_that_does_not_fit_is_refused_before_packages_are_looked_for(version, refused):
    script = (
        f"import sys; sys.version_info = {version}; sys.modules['setuptools'] = "
        "type(sys)('setuptools'); sys.modules['setuptools'].setup = lambda: print('built')\n"
        "exec(open('setup.py').read())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    if refused:
        found = ".".join(map(str, version[:2]))
        message = f"needs Python 3.11, 3.12 or 3.13, and this is Python {found}: make"
        assert ended.returncode == 1 and message in ended.stderr
    assert (ended.stdout == "built\n") == (not refused)
