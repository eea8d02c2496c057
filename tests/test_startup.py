"""What a command does before its work: answer --help, find its compiled programs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import jax
import pytest

from configs import breakhis
from se_resnet.runs.workdir import flatten
from se_resnet.runtime.cli import describe_fields
from se_resnet.runtime.compilation_cache import keep_compiled_programs
from tests.helpers import ROOT

HEAVY = {
    *("jax", "flax", "orbax", "tensorflow", "tensorflow_datasets"),
    *("scipy", "sklearn", "matplotlib"),
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train.py"],
            [
                *("python train.py --config=", "--config:", "--workdir:", "--num_processes:"),
                *("these leak: 'official'", "--config.split.protocol=strict"),
                "--config.data.size='(224, 224)'  # height, width",
                "# loss: binary cross-entropy",
            ],
        ),
        (["eval.py"], ["python eval.py --workdir=", "--data_dir:", "--split:", "--tta:", "--out:"]),
        (["-m", "se_resnet.predict"], ["--input=image.png", "--patient_pattern:", "--tta:"]),
        (["-m", "se_resnet.export"], ["--format=onnx", "--images:", "metadata.json"]),
        (["-m", "se_resnet.metrics", "compare"], ["runs/se runs/plain", "--split", "--json"]),
        (["-m", "se_resnet.metrics"], ["compare", "patients"]),
        (["-m", "se_resnet.convert"], ["npm pack", "--out"]),
        (["-m", "data.protocols"], ["--published", "--protocol", "strict, official"]),
        (["-m", "data.table"], ["--patient", "--um_per_px"]),
        (["-m", "se_resnet.package"], ["--push=ORGANISATION", "--naming:", "--licence:", "--out:"]),
    ],
)
def test_help_shows_usage_and_flags_without_slow_imports(arguments, words):
    command = [sys.executable, "-X", "importtime", *arguments, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert told.returncode == 0
    assert all(word in told.stdout for word in words), told.stdout
    imported = set(re.findall(r"\| +([\w.]+)$", told.stderr, re.MULTILINE))
    assert "se_resnet.runtime.cli" in imported and not imported & HEAVY


def test_help_tells_every_field_and_its_default():
    flat = flatten(breakhis.get_config().to_dict())
    told = re.findall(
        r"^  --config\.(\S+?)=(.*?)(?:  # .*)?$", describe_fields(breakhis.get_config), re.M
    )
    assert {name: shlex.split(value) for name, value in told} == {
        name: [str(value)] for name, value in flat.items()
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["se_resnet.export", "--format=coreml"], "choose from stablehlo, savedmodel"),
        (
            ["se_resnet.export", "--format=onnx", "--workdir=."],
            "--out is missing: give",
        ),
        (["se_resnet.app"], "--workdir is missing: give --workdir=VALUE, folder of the run"),
        (["se_resnet.app", "--workdir=.", "--port=x"], "--port=x: give a whole number"),
        (["se_resnet.package", "--naming=keras", "--workdir=.", "--out=x"], "--naming=keras"),
    ],
)
def test_a_mistake_in_flags_is_one_sentence(arguments, words):
    command = [sys.executable, "-m", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.startswith("error: ") and told.stderr.count("\n") == 1
    assert words in told.stderr


@pytest.mark.parametrize(
    "field",
    ["epohcs", "data.size.x", "data.size[7]", "data.size[0]", "data[0]", "seed.x", "seed[0]"],
)
def test_what_is_no_field_is_told(field):
    given = f"--config.{field}=1"
    command = [sys.executable, "train.py", "--config=configs/smoke.py", "--workdir=w", given]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert told.returncode == 2, told.stderr
    assert told.stderr.startswith(f"error: --config.{field} is not a field of the configuration: ")


def test_a_mistake_in_the_config_file_keeps_its_traceback(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {}['epochs']\n")
    command = [sys.executable, "train.py", f"--config={tmp_path / 'mine.py'}", "--workdir=w"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert told.returncode == 1 and "mine.py" in told.stderr and "KeyError" in told.stderr


def test_the_python_api_is_imported_at_its_first_use():
    script = (
        "import sys, data, se_resnet\n"
        f"print(sorted({HEAVY!r} & {{*sys.modules}}))\n"
        "names = [name for name in se_resnet.__all__ if name != '__version__']\n"
        "print([name for name in names if not callable(getattr(se_resnet, name))])\n"
        "print(all(callable(getattr(data, name)) for name in data.__all__))\n"
        "print('tensorflow' in sys.modules, hasattr(se_resnet, 'x'), hasattr(data, 'x'))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert told.stdout == "[]\n[]\nTrue\nFalse False False\n", told.stderr


@pytest.mark.parametrize("flag", ["--helpshort", "--helpfull", "-?"])
def test_other_ways_to_ask_for_help_succeed_too(flag):
    command = [sys.executable, "train.py", flag]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert told.returncode == 0 and "--workdir:" in told.stdout and told.stderr == ""


@pytest.fixture
def jax_config():
    """Without a cache at first; restores JAX's settings."""
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_compilation_cache_max_size",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_compiled_programs_are_found_by_the_next_process(tmp_path):
    script = (
        "import jax\n"
        "from se_resnet.runtime.compilation_cache import keep_compiled_programs\n"
        "keep_compiled_programs()\n"
        "events = []\n"
        "jax.monitoring.register_event_listener(lambda name, **_: events.append(name))\n"
        "jax.jit(lambda x: x + 1)(1)\n"
        "print('/jax/compilation_cache/cache_hits' in events)\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "SE_RESNET_CACHE": str(tmp_path),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
        )
        for _ in range(2)
    ]
    assert [one.stdout for one in told] == ["False\n", "True\n"], told
    assert [one.stderr for one in told] == ["", ""]  # XLA tells doubts about the machine there
    assert list((tmp_path / "xla").glob("jit*-cache"))


def test_jax_own_settings_rule(tmp_path, monkeypatch, jax_config):
    monkeypatch.setenv("SE_RESNET_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert not list(tmp_path.iterdir())


def test_a_cache_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, jax_config):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SE_RESNET_CACHE", str(tmp_path / "file"))
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_the_cache_is_bounded(tmp_path, monkeypatch, jax_config):
    monkeypatch.setenv("SE_RESNET_CACHE", str(tmp_path))
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "xla")
    assert 0 < jax.config.jax_compilation_cache_max_size <= 2**30
