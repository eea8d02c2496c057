"""The promises that the project makes about itself."""

from __future__ import annotations

import importlib.metadata
import re

from tests.helpers import ROOT


def test_ci_calls_exactly_the_test_command_of_the_readme():
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert "configs/quickstart.py" in commands[0] and commands[1].endswith("-m pytest")
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_dependency_is_bounded_and_constrained():
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0].lower())
        for name in ("constraints.txt", "constraints-beam.txt")
        for line in (ROOT / name).read_text().splitlines()
        if "==" in line
    }
    for requirement in importlib.metadata.requires("se-resnet") or []:
        assert "<" in requirement.split(";")[0], requirement
        if "extra == 'cuda'" in requirement.replace(
            '"', "'"
        ) or "== 'darwin'" in requirement.replace('"', "'"):
            continue
        name = re.match(r"[\w.-]+", requirement)
        assert name and re.sub(r"[-_.]+", "-", name[0].lower()) in pinned, requirement


def test_the_sample_is_small_enough_to_ship():
    files = [path for path in (ROOT / "data" / "sample").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15_000_000
