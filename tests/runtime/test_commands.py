"""python -m se_resnet lists the commands with their own descriptions."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

import se_resnet
from se_resnet.runtime.commands import describe_commands, modules
from tests.helpers import ROOT


def listing(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "se_resnet", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **{"cwd": ROOT, **options},
    )


def test_every_command_is_listed_with_its_first_line():
    result = listing()
    assert result.returncode == 0 and result.stderr == ""
    # The commands of packages, and the modules that are commands beside them.
    files = [*ROOT.glob("se_resnet/*/__main__.py"), *ROOT.glob("data/*/__main__.py")]
    files += [ROOT / "se_resnet/convert.py", ROOT / "data/spread.py"]
    for path in files:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        first = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
        (line,) = (
            line for line in result.stdout.splitlines() if line.startswith(f"python -m {name} ")
        )
        assert line.endswith(f"  {first}"), line
    assert set(modules()) == {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in files
    }
    assert "python train.py" in result.stdout and "python eval.py" in result.stdout
    assert result.stdout.startswith(f"se-resnet {se_resnet.__version__}. ")


def test_benchmarks_are_one_entry():
    text = describe_commands()
    assert text.count("python -m benchmarks") == 1
    names = " ".join(text.split("NAME is one of: ")[1].split()).split(", ")
    assert {"recipes", "quickstart", "startup"} <= set(names)
    for name in names:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_an_installation_lists_what_it_has(tmp_path):
    (tmp_path / "se_resnet").symlink_to(ROOT / "se_resnet")
    text = describe_commands(tmp_path)
    assert "python -m se_resnet.predict" in text
    assert "train.py" not in text.split("\n")[0] and "benchmarks" not in text


def test_the_version_is_printed():
    result = listing("--version")
    assert (result.returncode, result.stdout) == (0, f"se-resnet {se_resnet.__version__}\n")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("predict", "did you mean python -m se_resnet.predict?"), ("--all", "give no arguments.")],
)
def test_an_argument_is_refused(word, hint):
    result = listing(word)
    assert result.returncode == 2 and result.stderr.startswith(f"error: '{word}' is no option")
    assert result.stderr.endswith(f"{hint}\n") and result.stderr.count("\n") == 1


def test_a_package_data_of_the_folder_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert "hides" not in listing(cwd=tmp_path, env=own).stdout
    (tmp_path / "data" / "__init__.py").touch()
    result = listing(cwd=tmp_path, env=own)
    assert result.returncode == 0
    assert f"hides the package data by {tmp_path / 'data' / '__init__.py'}: start" in result.stdout
    remedy = [sys.executable, "-P", "-m", "data.table", "--help"]
    done = subprocess.run(remedy, capture_output=True, text=True, cwd=tmp_path, env=own)
    assert done.returncode == 0 and "python -m data.table" in done.stdout
