"""The promises that the project makes about itself."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CI = (ROOT / ".ci" / "run").read_text()


def test_ci_calls_exactly_the_test_command_of_the_readme():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert "configs/quickstart.py" in commands[0] and commands[1].endswith("-m pytest")
    assert commands[1] in CI.splitlines()


def test_every_dependency_is_bounded_and_constrained():
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0].lower())
        for name in ("constraints.txt", "constraints-beam.txt")
        for line in (ROOT / name).read_text().splitlines()
        if "==" in line
    }
    extras = dict(PROJECT["optional-dependencies"])
    assert extras.pop("cuda") == ["se-resnet[cuda12]"]
    for requirement in itertools.chain(PROJECT["dependencies"], *extras.values()):
        assert "<" in requirement.split(";")[0], requirement
        if "== 'darwin'" in requirement:
            continue
        name = re.match(r"[\w.-]+", requirement)
        assert name and re.sub(r"[-_.]+", "-", name[0].lower()) in pinned, requirement


def test_the_extras_for_a_gpu_have_the_jax_of_a_cpu():
    (cpu,) = (one for one in PROJECT["dependencies"] if one.startswith("jax>"))
    upper = cpu.partition(",")[2]
    for name in ("cuda12", "cuda13"):
        (gpu,) = PROJECT["optional-dependencies"][name]
        assert gpu.startswith(f"jax[{name}]>=0.7") and gpu.endswith(f",{upper}")


def test_ci_tests_each_python_that_the_project_supports():
    prefix = "Programming Language :: Python :: "
    stated = [one.removeprefix(prefix) for one in PROJECT["classifiers"] if one.startswith(prefix)]
    (tested,) = re.findall(r"^for version in (.+); do$", CI, re.MULTILINE)
    assert tested.split() == stated
    below = f"3.{int(stated[-1].partition('.')[2]) + 1}"
    assert PROJECT["requires-python"] == f">={stated[0]},<{below}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r"^ +(3\.\d+)$", workflow, re.MULTILINE) == stated[::-1]
    refusal = (ROOT / "setup.py").read_text()
    assert f"{', '.join(stated[:-1])} or {stated[-1]}" in refusal
    assert f"{', '.join(stated[:-1])} or {stated[-1]}" in (ROOT / "README.md").read_text()


def interpreter(version: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Runs the function of .ci/run that finds an interpreter."""
    (function,) = re.findall(r"^interpreter\(\) \{\n.*?^\}$", CI, re.MULTILINE | re.DOTALL)
    script = f"set -euo pipefail\n{function}\ninterpreter {version}"
    command = ["bash", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_ci_finds_interpreters_by_name_and_those_of_pyenv(tmp_path):
    version = "{}.{}".format(*sys.version_info)
    names = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    (tmp_path / "bin").mkdir()
    for name in ("python9.1", f"python{version}"):  # as pyenv leaves them
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / "bin" / name).chmod(0o755)
    assert interpreter("9.1", names).returncode == 1
    assert interpreter(version, names).returncode == 1
    folder = tmp_path / ".pyenv" / "versions" / f"{version}.99" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    found = interpreter(version, names)
    assert (found.returncode, found.stdout) == (0, f"{folder / 'python'}\n")
    (folder.parent.parent / "9.1.0" / "bin").mkdir(parents=True)
    (folder.parent.parent / "9.1.0" / "bin" / "python").symlink_to(sys.executable)
    assert interpreter("9.1", names).returncode == 1, "it has another version"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_of_ci_has_no_mistake_of_syntax():
    done = subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sample_is_small_enough_to_ship():
    files = [path for path in (ROOT / "data" / "sample").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15_000_000
