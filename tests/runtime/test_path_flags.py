"""Every option of every command that is a path expands ``~`` and environment variables."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

# Words in the names of options that are paths of this machine.
WORDS = {"workdir", "out", "dir", "file", "folder", "input", "images", "figure", "json", "subset"}
NOT_PATHS = {("benchmarks/pipeline.py", "images"), ("benchmarks/evaluation.py", "images")}
NOT_PATHS |= {(f"benchmarks/{name}.py", "images") for name in ("contest", "gpu", "smote")}
PARSERS = {"path_option", "path_argument", "PATH"}
COMMANDS = [
    *(ROOT / "se_resnet").rglob("*.py"),
    *(ROOT / "data").rglob("*.py"),
    *(ROOT / "benchmarks").rglob("*.py"),
    ROOT / "train.py",
    ROOT / "eval.py",
]


def options(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Yields the name of each option and the words in its definition."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        names = [text for text in texts if isinstance(text, str)]
        if called.endswith(("add_argument", "add")) and names and "help" in ast.unparse(node):
            yield names[0].lstrip("-"), words(node)
        elif called.startswith("flags.DEFINE") and names:
            yield names[0], words(node)


def words(node: ast.AST) -> set[str]:
    found = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return found | ({"path_option"} if "**path" in ast.unparse(node) else set())


def unexpanded() -> list[str]:
    found = []
    for path in COMMANDS:
        name_of_file = path.relative_to(ROOT).as_posix()
        for name, used in options(path):
            is_path = bool(WORDS & set(name.split("_"))) and (name_of_file, name) not in NOT_PATHS
            if is_path and not used & PARSERS:
                found.append(f"{name_of_file}: {name}")
    return found


def test_every_option_that_is_a_path_is_expanded():
    assert unexpanded() == []


def test_the_options_are_found():
    found = {name for path in COMMANDS for name, used in options(path) if used & PARSERS}
    assert {"workdir", "out", "data_dir", "cache_dir", "input", "images", "split"} <= found


@pytest.mark.parametrize("text", ["$NO_SUCH_VARIABLE/x", "~/x"])
def test_paths_of_the_configuration_are_expanded(text, monkeypatch, tmp_path):
    """Each field that is a path, and the paths of functions that take what a user wrote."""
    from data.breakhis import image_files
    from data.dataset import load_dataset
    from data.protocols.given_roles import given_roles
    from se_resnet.errors import UserError
    from se_resnet.package.save_load import from_pretrained
    from se_resnet.runtime.files import user_cache_dir
    from se_resnet.weights import pretrained
    from tests.helpers.datasets import make_records

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    monkeypatch.delenv("SE_RESNET_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", text)
    calls = {
        "data.dir": lambda: load_dataset(text),
        "split.file": lambda: given_roles(make_records(4, 4), text, 2, 0),
        "model.pretrained": lambda: pretrained.load(text),
        "data.cache_dir": lambda: user_cache_dir(text),
        "XDG_CACHE_HOME": user_cache_dir,
        "images": lambda: image_files.find(text),
        "package": lambda: from_pretrained(text),
    }
    expected = "NO_SUCH_VARIABLE, which is not set" if text[0] == "$" else str(tmp_path / "x")
    for name, call in calls.items():
        try:
            message = str(call())
        except UserError as error:
            message = str(error)
        if text[0] == "$" or name not in ("model.pretrained", "package"):
            assert expected in message, name
    assert not list(tmp_path.iterdir()), "no folder is made"
    (tmp_path / "x").write_text("no weights")
    with pytest.raises(UserError, match=r"no weights|cannot|is no|not"):
        pretrained.load("~/x")
