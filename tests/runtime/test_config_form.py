"""Unknown names, missing fields and wrong types of a configuration are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

import train
from configs import breakhis, smoke
from se_resnet.errors import UserError
from se_resnet.runtime.config_form import conformed
from se_resnet.training.config import plain


def changed(changes) -> dict:
    config = smoke.get_config().to_dict()
    for name, value in changes.items():
        *parents, field = name.split(".")
        part = config
        for parent in parents:
            part = part[parent]
        part[field] = value
    return config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 3}, "config.epoch is no field .* did you mean config.epochs?"),
        ({"optim.lr": 0.5}, "config.optim.lr is no .* did you mean config.optim.learning_rate?"),
        ({"learning_rate": 0.5}, "did you mean config.optim.learning_rate?"),
        ({"optim.learning_rat": 0.5}, "did you mean config.optim.learning_rate?"),
        ({"optimiser": {}}, "config.optimiser is no field .* did you mean config.optim?"),
        ({"xyzzy": 1}, "config.xyzzy is no field .* --help lists the fields"),
        ({"epochs": "three"}, "config.epochs = 'three' has another type .* a whole number"),
        ({"epochs": True}, "config.epochs = True has another type"),
        ({"epochs": 3.5}, "config.epochs = 3.5 has another type"),
        ({"epochs": None}, "config.epochs = None has another type"),
        ({"augment.flip": 1}, "config.augment.flip = 1 has another type .* True or False"),
        ({"augment.zoom": False}, "config.augment.zoom = False has another type .* a number"),
        ({"split.fold": 0}, "config.split.fold = 0 has another type .* give text, '0'"),
        ({"data.size": 224}, "config.data.size = 224 has another type .* in brackets"),
        (
            {"data.magnifications": ("40X",)},
            "config.data.magnifications = .*40X.* numbers in",
        ),
        ({"optim": 0.5}, "config.optim = 0.5 replaces a section"),
        ({"model.attention_options": 8}, "config.model.attention_options = 8 replaces a section"),
    ],
)
def test_what_is_no_field_or_no_value_of_it_is_named(changes, words, tmp_path):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        conformed(changed(changes), breakhis.get_config())
    with pytest.raises(UserError, match=words.replace("?", r"\?")):  # before anything else
        train.train_and_evaluate(ConfigDict(changed(changes)), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_missing_fields_and_sections_are_named():
    config = smoke.get_config().to_dict()
    del config["optim"]["clip_norm"]
    with pytest.raises(UserError, match=r"config.optim.clip_norm is missing: begin with"):
        conformed(config, breakhis.get_config())
    del config["loss"]
    with pytest.raises(UserError, match=r"config.loss, config.optim.clip_norm are missing"):
        conformed(config, breakhis.get_config())
    with pytest.raises(UserError, match=r"and \d+ others are missing"):
        conformed({}, breakhis.get_config())


def test_several_mistakes_are_named_at_once():
    with pytest.raises(UserError) as error:
        conformed(changed({"epoch": 3, "optim.lr": 0.5, "seed": "x"}), breakhis.get_config())
    lines = str(error.value).splitlines()
    assert lines[0] == "3 fields cannot be used:" and len(lines) == 4


@pytest.mark.parametrize("config", [None, 3, [], "configs/smoke.py"])
def test_what_is_no_configuration_is_refused(config):
    with pytest.raises(UserError, match="give a ConfigDict"):
        conformed(config, breakhis.get_config())


def test_values_are_converted_where_nothing_is_lost():
    given = changed(
        {
            "optim.learning_rate": 1,
            "optim.weight_decay": np.float32(0.5),
            "epochs": np.int64(3),
            "data.size": [32, np.int64(48)],
            "data.magnifications": np.array([40, 100]),
            "model.attention_options": {"reduction": 8, "sizes": [3, 5]},
        }
    )
    config = conformed(given, breakhis.get_config())
    assert config.optim.learning_rate == 1.0 and type(config.optim.learning_rate) is float
    assert type(config.optim.weight_decay) is float and type(config.epochs) is int
    assert config.data.size == (32, 48) and type(config.data.size[1]) is int
    assert config.data.magnifications == (40, 100)
    assert config.model.attention_options.to_dict() == {"reduction": 8, "sizes": [3, 5]}
    assert given["optim"]["learning_rate"] == 1, "the given configuration is not changed"


def test_a_configuration_stays_as_it_is():
    config = smoke.get_config()
    config.optim.clip_norm = config.optim.get_ref("weight_decay")
    for given in (config, FrozenConfigDict(config), config.to_dict(), plain(config)):
        assert plain(conformed(given, breakhis.get_config())) == plain(config)


def test_every_pattern_above_is_a_sentence():
    with pytest.raises(UserError) as error:
        conformed(changed({"epoch": 3}), breakhis.get_config())
    assert re.fullmatch(r"[^\n]*[.?]", str(error.value))
