"""--config takes Python and JSON files; fields are set by the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from absl import flags

from configs import breakhis, smoke
from se_resnet.errors import UserError
from se_resnet.runs.run_files import FIELDS_ADDED, of_this_version
from se_resnet.runtime import cli
from se_resnet.runtime.config_flag import ConfigFlag
from se_resnet.training.config import plain
from tests.helpers import ROOT

SMOKE = str(ROOT / "configs" / "smoke.py")


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line of train.py and returns its flag of the configuration."""

    def parsed(*arguments: str) -> ConfigFlag:
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        flag = ConfigFlag(breakhis.get_config, of_this_version, values)
        flags.DEFINE_string("workdir", None, "Folder.", flag_values=values)
        flags.DEFINE_integer("num_processes", None, "Number.", 1, flag_values=values)
        cli.parse(["train.py", *arguments], flag)
        return flag

    return parsed


def test_fields_are_set_in_every_way_to_write_them(parse):
    config = parse(
        "--config.epochs=7",  # also before --config
        f"--config={SMOKE}",
        "--config.optim.learning_rate",
        "1",
        "--config.augment.flip=false",
        "--noconfig.augment.rotate",
        "--config.split.repaired",
        "--config.data.size=(24, 32)",
        "--config.data.magnifications=40",
        "--config.split.train_magnifications=40,100",
        "--config.profile_steps=",
        "--config.split.fold=2",
        "--config.model.attention_options={'sizes': [3]}",
        "--config.model.attention_options.reduction=8",
    ).value
    expected = smoke.get_config()
    expected.epochs, expected.optim.learning_rate = 7, 1.0
    expected.augment.flip, expected.augment.rotate, expected.split.repaired = False, False, True
    expected.data.size, expected.data.magnifications = (24, 32), (40,)
    expected.split.train_magnifications, expected.split.fold = (40, 100), "2"
    expected.model.attention_options = {"sizes": [3], "reduction": 8}
    assert plain(config) == plain(expected) and config.is_locked
    assert type(config.optim.learning_rate) is float


def test_a_get_config_with_an_argument_receives_it(parse, tmp_path):
    (tmp_path / "sized.py").write_text(
        "from configs import smoke\n\n"
        "def get_config(epochs):\n"
        "    config = smoke.get_config()\n"
        "    config.epochs = int(epochs)\n"
        "    return config\n"
    )
    assert parse(f"--config={tmp_path / 'sized.py'}:5").value.epochs == 5


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.epochs=three", "--config.epochs=three does not fit .* give a whole number."),
        ("--config.epochs=3.5", "give a whole number."),
        ("--config.epochs=", "give a whole number."),
        ("--config.epochs", "--config.epochs has no value: write --config.epochs=VALUE"),
        ("--config.optim.learning_rate=fast", "give a number."),
        ("--config.augment.flip=maybe", "give True or False."),
        ("--config.data.size=big", "give numbers in brackets"),
        ("--config.data.size=(1, 2.5)", "give numbers in brackets"),
        ("--config.optim=3", "it is a section: set its fields"),
        ("--config.model.attention_options=3", "give options in braces"),
        ("--config.lr=3", "--config.lr is not a field .* --config.optim.learning_rate?"),
        ("--config.size=3", "did you mean --config.data.size?"),
        ("--epochs=3", "--epochs is not a flag .* did you mean --config.epochs=3?"),
        ("--learning_rate=3", "did you mean --config.optim.learning_rate=3?"),
        ("--lr=3", "did you mean --config.optim.learning_rate=3?"),
        ("--wrokdir=x", "did you mean --workdir?"),
        ("--xyzzy=3", "--xyzzy is not a flag of this command: --help lists the flags."),
        ("--num_processes=x", "--num_processes=x: give a positive whole number"),
        ("--num_processes=0", "--num_processes=0: give a positive whole number"),
        ("--print_config=perhaps", "--print_config=perhaps: give true or false"),
        ("--workdir", "--workdir is missing: give --workdir=VALUE, folder"),
    ],
)
def test_a_mistake_is_explained_without_terms_of_python(parse, argument, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")) as error:
        parse(f"--config={SMOKE}", argument)
    assert "\n" not in str(error.value) and str(error.value)[-1] in ".?"


def write(folder, name: str, body: str) -> str:
    lines = "\n    ".join(body.splitlines())
    start = "from configs import smoke\n\ndef get_config():\n    config = smoke.get_config()\n"
    (folder / name).write_text(f"{start}    {lines}\n    return config\n")
    return str(folder / name)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("config.epoch = 3", r"mine.py: config.epoch is no field .* config.epochs\?"),
        ("config.optim.lr = 0.5", r"did you mean config.optim.learning_rate\?"),
        ("config.epochs = 'three'", r"line 5, .* needs a whole number\): correct .config.epochs"),
        ("config.augment.zoom = 'x'", r"needs a number\)"),
        ("config.optm.clip_norm = 3", r"line 5, .* did you mean optim\?"),
        ("config['optm']['x'] = 3", r"line 5, .*optm"),
        ("config = None", "returns nothing: end the function with 'return config'"),
        ("config = [3]", "give a ConfigDict"),
        ("del config.optim.rules", "config.optim.rules is missing"),
    ],
)
def test_a_mistake_in_a_config_file_is_a_sentence(parse, tmp_path, body, words):
    with pytest.raises(UserError, match=words):
        parse(f"--config={write(tmp_path, 'mine.py', body)}")


@pytest.mark.parametrize(
    "body", ["{}['epochs']", "None.epochs", "1 + 'x'", "raise OSError(2, 'x')"]
)
def test_a_bug_in_a_config_file_keeps_its_traceback(parse, tmp_path, body):
    with pytest.raises((KeyError, AttributeError, TypeError, OSError)):
        parse(f"--config={write(tmp_path, 'mine.py', body)}")


def test_what_is_no_config_file_is_refused(parse, tmp_path):
    for name, text in {
        "none.py": "x = 1",
        "broken.py": "def get_config( return",
        "text.md": "hello",
        "broken.json": "{",
        "list.json": "[]",
    }.items():
        (tmp_path / name).write_text(text)
    for name, words in {
        "none.py": "has no function get_config",
        "broken.py": "not valid Python .line 1",
        "text.md": "neither a Python file .* nor JSON",
        "broken.json": "cannot be read",
        "list.json": "cannot be read",
        "missing.py": "does not exist: see the folder configs",
        "missing.json": "does not exist: see the folder configs",
        ".": "is a folder",
    }.items():
        with pytest.raises(UserError, match=words):
            parse(f"--config={tmp_path / name}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a folder: give --config=.*/config.json"):
        parse(f"--config={tmp_path}")
    for arguments in ([], ["--config", "--workdir=x"]):
        with pytest.raises(UserError, match="--config is missing"):
            parse(*arguments)


def test_the_path_is_expanded(parse, monkeypatch):
    monkeypatch.setenv("HOME", str(ROOT / "configs"))
    monkeypatch.setenv("CONFIGS", str(ROOT / "configs"))
    assert parse("--config=~/smoke.py").value.model.width == 8
    assert parse("--config", "$CONFIGS/smoke.py").value.model.width == 8
    with pytest.raises(UserError, match="NO_SUCH, which is not set"):
        parse("--config=$NO_SUCH/smoke.py")


def test_the_config_of_a_run_is_taken_and_changed(parse, tmp_path):
    config = smoke.get_config()
    config.data.magnifications, config.model.attention_options = (40,), {"reduction": 8}
    (tmp_path / "config.json").write_text(config.to_json())
    flag = parse(f"--config={tmp_path / 'config.json'}", "--config.epochs=9")
    config.epochs = 9
    assert plain(flag.value) == plain(config) and flag.value.data.magnifications == (40,)
    assert flag.notes == []


def test_a_config_of_an_earlier_version_is_completed_as_that_version_was(parse, tmp_path):
    old = json.loads(smoke.get_config().to_json()) | {"bootstrap_resamples": 1000}
    for name in FIELDS_ADDED:
        *parents, field = name.split(".")
        part = old
        for parent in parents:
            part = part[parent]
        del part[field]
    (tmp_path / "config.json").write_text(json.dumps(old))
    flag = parse(f"--config={tmp_path / 'config.json'}")
    flat = dict(plain(flag.value)["checkpoint"])
    assert flat["choose"] == FIELDS_ADDED["checkpoint.choose"]
    notes = "\n".join(flag.notes)
    assert all(f"config.{name} = " in notes for name in FIELDS_ADDED)
    assert "not used any more: config.bootstrap_resamples" in notes


def test_a_printed_configuration_is_taken_back(tmp_path):
    command = [sys.executable, "train.py", f"--config={SMOKE}", "--print_config"]
    command += ["--config.epochs=9", "--config.data.magnifications=40,100"]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert printed.returncode == 0 and printed.stderr == ""
    (tmp_path / "printed.json").write_text(printed.stdout)
    command = [sys.executable, "train.py", f"--config={tmp_path / 'printed.json'}"]
    again = subprocess.run(
        [*command, "--print_config"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert again.stdout == printed.stdout
    assert json.loads(again.stdout)["epochs"] == 9


def test_printing_needs_no_workdir_but_training_does():
    command = [sys.executable, "train.py", f"--config={SMOKE}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --workdir is missing: give --workdir=VALUE")
