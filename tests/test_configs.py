"""Every file in configs/ gives a configuration that a run accepts, and mistakes are refused."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from configs import breakhis
from se_resnet.errors import UserError
from se_resnet.training.config import check_config

FOLDER = Path(breakhis.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def test_the_files_are_found():
    assert {"breakhis", "resnet50_baseline", "finetune_strong"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_accepted_and_tells_its_command(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    check_config(config)
    assert f"--config=configs/{name}.py" in module.__doc__
    # The fields are those of the headline, so that every flag works with every file.
    assert set(flat(config)) == set(flat(breakhis.get_config()))


def flat(config) -> dict:
    return dict(breakhis.ConfigDict(config).iteritems(preserve_field_references=False)) | {
        f"{part}.{name}": value
        for part, fields in config.items()
        if isinstance(fields, breakhis.ConfigDict)
        for name, value in fields.items()
    }


def test_the_missions_training_is_the_default():
    config = breakhis.get_config()
    optim = config.optim
    assert (optim.learning_rate, optim.schedule, optim.weight_decay) == (1e-4, "constant", 0)
    assert (optim.warmup_epochs, optim.head_epochs, optim.clip_norm) == (0, 0, 0)
    assert (config.checkpoint.choose, optim.ema_decay) == ("last", 0.99)
    assert (optim.rules, optim.layer_decay, optim.accumulate) == ("", 1, 1)
    assert (config.model.batch_norm, config.model.dropout) == ("train", 0)
    assert config.early_stopping.metric == "" and not any(config.loss.values())
    assert config.augment.mixup == config.augment.cutmix == 0


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim.learning_rate", 0.0),
        ("optim.learning_rate", -1.0),
        ("optim.learning_rate", NAN),
        ("optim.warmup_epochs", -0.5),
        ("optim.head_epochs", -1),
        ("optim.weight_decay", NAN),
        ("optim.clip_norm", INF),
        ("optim.accumulate", 0),
        ("optim.accumulate", 3),  # does not divide 32
        ("optim.ema_decay", 1.0),
        ("optim.layer_decay", 0.0),
        ("optim.layer_decay", 1.1),
        ("loss.label_smoothing", 1.0),
        ("loss.focal_gamma", -1.0),
        ("augment.mixup", -0.1),
        ("augment.cutmix", INF),
        ("model.dropout", 1.0),
        ("early_stopping.patience", 0),
    ],
)
def test_numbers_out_of_range_are_named(name, value):
    config = breakhis.get_config()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError, match=f"config.{name} = {value} is out of range"):
        check_config(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optim.schedule": "step"}, "config.optim.schedule = 'step' is unknown"),
        ({"model.batch_norm": "off"}, "config.model.batch_norm = 'off' is unknown"),
        ({"early_stopping.metric": "auc"}, "config.early_stopping.metric = 'auc' is unknown"),
        ({"model.pretrained": "imagnet"}, "'imagnet'.*choose one of none, imagenet"),
        ({"optim.rules": "stem=x"}, "config.optim.rules: 'stem=x' is not a rule"),
        ({"optim.rules": ".*=1", "optim.layer_decay": 0.5}, "both give multipliers"),
        ({"optim.warmup_epochs": 5.0, "optim.head_epochs": 5}, "leave nothing of config.epochs"),
    ],
)
def test_choices_that_do_not_go_together_are_named(changes, words):
    config = breakhis.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        check_config(config)
