"""Errors in the options of commands without a configuration, in plain words."""

from __future__ import annotations

import functools

import pytest

import data.protocols.options
import data.table.options
import se_resnet.attention.__main__ as attention
import se_resnet.metrics.options
from se_resnet.errors import UserError
from se_resnet.report.__main__ import _parser as report
from se_resnet.runs.__main__ import _parser as runs

metrics, table, protocols = (
    functools.partial(module.parser, "the command")
    for module in (se_resnet.metrics.options, data.table.options, data.protocols.options)
)

JARGON = ("argument ", "arguments", "invalid", "required", "expected", "None")


@pytest.mark.parametrize(
    ("parser", "options", "sentence"),
    [
        (runs, "", "FOLDER is missing: give FOLDER, folder of runs, or of one run"),
        (runs, "x --sort=y", "--sort = 'y' is not possible: choose from path, headline"),
        (runs, "x --al", "--al is not an option of this command: did you mean --all?"),
        (runs, "x --all=1", "--all takes no value: leave out '1'"),
        (runs, "x y", "unexpected argument 'y': give it as the value of an option"),
        (report, "", "RUN is missing: give RUN, workdir of an evaluated run"),
        (report, "x --out", "--out has no value: write --out=VALUE"),
        (metrics, "", "COMMAND is missing: give COMMAND"),
        (metrics, "compare a", "RUN_B is missing: give RUN_B, workdir or predictions.csv"),
        (
            metrics,
            "patients --auc=0.9",
            "--width is missing: give --width=VALUE, of the 95 % interval",
        ),
        (metrics, "patients --width=1 --auc=x", "--auc = 'x' is not a number"),
        (metrics, "none", "COMMAND = 'none' is not possible: choose from compare, patients"),
        (table, "", "folder, --patient and --out are missing: give them"),
        (table, "x --patient=y --out=z --um_per_px=a", "--um_per_px = 'a' is not a number"),
        (protocols, "", "give one of --data_dir, --published"),
        (protocols, "--data_dir=x --fold=a", "--fold = 'a' is not a whole number"),
        (protocols, "--data_dir=x --seed=-1", "--seed: '-1' is not a number from 0 to 4294967295"),
        (protocols, "--data_dir=x --published", "--data_dir and --published exclude each other"),
    ],
)
def test_a_mistake_in_options_is_named_without_jargon(parser, options, sentence):
    with pytest.raises(UserError) as raised:
        parser().parse_args(options.split())
    message = str(raised.value)
    assert message.startswith(sentence) and message.endswith(" (--help lists the options).")
    assert not any(word in message.replace("unexpected argument ", "") for word in JARGON)


def test_the_size_of_a_table_of_modules_is_a_whole_number(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["attention", "--size=0"])
    with pytest.raises(SystemExit) as ended:
        attention._options()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: --size: '0' is not a whole number of at ")
