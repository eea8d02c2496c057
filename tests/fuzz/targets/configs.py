"""Flags that override fields of a configuration, from the command line to the check of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest import mock

from absl import flags

from configs import breakhis, smoke
from se_resnet.models import resnet
from se_resnet.runs.run_files import complete
from se_resnet.runtime import cli
from se_resnet.runtime.config_flag import ConfigFlag
from se_resnet.training.config import check_config, make_augmentation, make_recipe
from tests.fuzz.mutations import damage
from tests.fuzz.place import Place

FILE = Path(smoke.__file__)
VALUES = (
    "0", "1", "-1", "2", "7", "0.5", "-0.1", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 25,
    "True", "false", "", "None", "x", "all", "-", "é", "\udcff", "(1, 2)", "(1,)", "()", "1,2",
    "((((", "{}", "[1]", "(0, 0)", "(-1, 5)", "'a'", "a" * 5000, "0x10", "1_000", " 1", "1\n2",
    "none", "se", "simam", "../../x", "/etc/passwd", "~nobody/x", "os:system", "this:x", "a.b:C",
    "stem=0", "(=1", "a{99999}=1", "sensitivity>=0.9", "sensitivity>=9", "__import__('os')",
)  # fmt: skip


def case(rng: Random, place: Place) -> Callable[[], object]:
    arguments = ["train.py", f"--config={FILE}", f"--workdir={place.work / 'run'}"]
    fields = _fields(smoke.get_config())
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(fields)
        if rng.random() < 0.1:
            name = damage(rng, name.encode(), 1).decode("latin-1").replace("=", "")
        argument = f"--config.{name}={rng.choice(VALUES)}"
        arguments.append(argument if rng.random() < 0.95 else argument.replace("=", " "))
    if rng.random() < 0.1:
        odd = ("--config=", "--config=missing.py", f"--config={FILE.parent}", "x", "--nothing")
        arguments.insert(rng.randrange(1, len(arguments) + 1), rng.choice(odd))
    return lambda: check(arguments)


def check(arguments: list[str]) -> None:
    """What train.py does before any work, up to the parts that are made from the fields alone."""
    values = flags.FlagValues()
    flag = ConfigFlag(breakhis.get_config, complete, values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    with mock.patch.object(flags, "FLAGS", values):
        cli.parse(arguments, flag)
    config = flag.value
    check_config(config)
    make_recipe(config, make_augmentation(config))
    resnet.create_model(
        attention=config.model.attention,
        attention_position=config.model.attention_position,
        attention_options=config.model.attention_options.to_dict(),
        stage_sizes=config.model.stage_sizes,
        width=config.model.width,
        formulation=config.model.formulation,
        dtype=config.model.dtype,
        dropout=config.model.dropout,
    )


def _fields(config, prefix: str = "") -> list[str]:
    names = []
    for name, value in config.items():
        names += _fields(value, f"{prefix}{name}.") if hasattr(value, "items") else [prefix + name]
    return names
