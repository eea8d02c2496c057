"""Attention modules that users name in the configuration, and runs with every module of ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import eval as evaluation
import train
from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.runs import workdir
from tests.helpers import ROOT
from tests.helpers.configs import tiny_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, empty; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def example():
    """The file of the section in docs/attention.md."""
    document = (ROOT / "docs" / "attention.md").read_text()
    section = document.split("## Add an attention module")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(code) == 1 and "--config.model.attention=my_attention:SpreadGate" in section
    return code[0]


@pytest.mark.compiled
def test_the_documented_example_trains_and_is_read_back(folder, place):
    assert len(example().splitlines()) <= 20
    (folder / "my_attention.py").write_text(example())
    config = tiny_config(*place)
    config.model.attention = "my_attention:SpreadGate"
    config.model.attention_options = {"reduction": 8}
    config.epochs = 1
    config.batch_size = 32  # two steps
    config.balance.method = "none"
    train.train_and_evaluate(config, folder / "run")
    steps = [json.loads(line)["step"] for line in (folder / "run/metrics.jsonl").open()]
    assert steps[-1] == 2
    report = (folder / "run/eval/test/report.html").read_text()
    assert "computes a gate for each channel" in report

    run = workdir.load_best(folder / "run")  # its module was named by the configuration
    assert type(run.classifier.model).__name__ == "ResNet"
    assert dict(run.classifier.model.attention_options) == {"reduction": 8}
    block = run.variables["params"]["stage1"]["block1"]["attention"]
    assert block["Dense_0"]["kernel"].shape == (16, 2)
    assert np.asarray(block["Dense_1"]["kernel"]).any()
    evaluation.evaluate_run(folder / "run", "val")
    # Where the file is not at hand, the sentence says so; a bug in it is no damaged checkpoint.
    del sys.modules["my_attention"]
    (folder / "my_attention.py").write_text("{}['bug']")
    # Only the user chooses what is imported, not the checkpoint.
    with pytest.raises(UserError, match="name it yourself, by --attention=my_attention:SpreadGate"):
        evaluation.evaluate_run(folder / "run", "val")
    with pytest.raises(KeyError, match="bug"):
        evaluation.evaluate_run(folder / "run", "val", attention="my_attention:SpreadGate")
    (folder / "my_attention.py").unlink()
    with pytest.raises(UserError, match="no module my_attention"):
        evaluation.evaluate_run(folder / "run", "val", attention="my_attention:SpreadGate")
    (folder / "my_attention.py").write_text(example())
    evaluation.evaluate_run(folder / "run", "val", attention="my_attention:SpreadGate")


MODULE = """
import flax.linen as nn
from flax.linen import Dense
class Mine(nn.Module):
    def __call__(self, features): return features
LIMIT = 3
"""


@pytest.mark.parametrize(
    "name, words",
    [
        ("own.part:Mine", []),
        ("own.part:Nine", ["Nine does not exist", "part.py", "(Mine)"]),
        ("own.part:LIMIT", ["LIMIT is not a Flax module", "(Mine)"]),
        ("own.past:Mine", ["no module own.past", "PYTHONPATH"]),
        ("other:Mine", ["no module other", "PYTHONPATH"]),
        ("own.part.deep:Mine", ["no module own.part.deep"]),
        ("own/part.py:Mine", ["my_package.my_file:MyAttention"]),
        ("own.part:", ["my_package.my_file:MyAttention"]),
        (".part:Mine", ["my_package.my_file:MyAttention"]),
    ],
)
def test_a_module_is_found_by_file_and_class_or_a_mistake_named(folder, name, words):
    (folder / "own").mkdir()
    (folder / "own" / "part.py").write_text(MODULE)
    if not words:
        assert type(attention.create(name)).__name__ == "Mine"
        return
    with pytest.raises(UserError) as error:
        attention.create(name)
    assert all(word in str(error.value) for word in ["config.model.attention", name, *words])


def test_what_goes_wrong_in_the_file_itself_keeps_its_traceback(folder):
    (folder / "lacking.py").write_text("import not_installed_anywhere")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        attention.create("lacking:Mine")
    (folder / "broken.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        attention.create("broken:Mine")


@pytest.mark.compiled
def test_the_command_finds_the_file_in_the_current_directory(folder):
    (folder / "flat.py").write_text(
        "import flax.linen as nn\n"
        "class Flat(nn.Module):\n"
        "    def __call__(self, features): return features.mean(axis=(1, 2))\n"
    )
    arguments = [f"--config={ROOT / 'configs' / 'smoke.py'}", "--workdir=run"]
    told = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments, "--config.model.attention=flat:Flat"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "SE_RESNET_CACHE": str(folder / "cache")},
    )
    assert told.returncode == 2, told.stderr
    last = told.stderr.strip().splitlines()[-1]
    assert last.startswith("error: attention module flat:Flat made the shape [1, 32]")
    assert "of the shape [1, 8, 8, 32]" in last


# With little effort, XLA rounds features for their maximum and for the gradient of the maximum
# differently; it then finds no feature that equals the maximum, and divides by zero.
CBAM = pytest.param("cbam", marks=pytest.mark.full_optimisation)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["coord", "ese", "eca", CBAM, "gc", "simam"])
def test_a_run_with_every_module_makes_its_report(name, place, tmp_path):
    config = tiny_config(*place)
    config.model.attention = name
    config.epochs = 1
    train.train_and_evaluate(config, tmp_path / "run")
    report = (tmp_path / "run/eval/test/report.html").read_text()
    without = "no attention gates for whole channels" in report
    assert without == (name in ("coord", "gc", "simam"))
