"""The version comes from pyproject.toml, or from the metadata of an installation."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

import pytest

import se_resnet
from se_resnet.runtime import software, version
from tests.helpers import ROOT

STATED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_version_is_that_of_pyproject():
    assert se_resnet.__version__ == STATED
    assert software.describe(0)["packages"]["se-resnet"] == STATED
    (cited,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == STATED


@pytest.mark.parametrize(
    "content", [None, "[project]\nname = 'other'\nversion = '7'\n", "[[", "a=1"]
)
def test_an_installed_package_knows_its_version(tmp_path, monkeypatch, content):
    file = tmp_path / "pyproject.toml"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(importlib.metadata, "version", {"se-resnet": "2.3.4"}.__getitem__)
    assert version.read_version(file) == "2.3.4"


def test_a_copied_folder_has_no_known_version(tmp_path, monkeypatch):
    def find_nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", find_nothing)
    assert version.read_version(tmp_path / "pyproject.toml") == "unknown"
