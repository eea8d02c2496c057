"""A wrong value of any field of the configuration is refused before an image is read."""

from __future__ import annotations

import pytest

import train
from configs import breakhis, smoke
from data import run_data
from se_resnet.errors import UserError
from se_resnet.runs.workdir import flatten

# For each field a value of its type that no run can use, and other fields that the value needs.
WRONG: dict[str, tuple] = {
    "seed": (-1,),
    "repeats": (0,),
    "repeat_seeds": ("all",),
    "ensemble.members": (6,),
    "batch_size": (0,),
    "epochs": (0,),
    "log_every_steps": (0,),
    "checkpoint_minutes": (-1.0,),
    "eval_batch_size": (0,),
    "permutations": (0,),
    "trackers": ("tensorbord",),
    "profile_steps": ((20, 10),),
    "checkpoint.choose": ("first",),
    "data.dir": ("/no/such/folder",),
    "data.positive": ("tumor",),
    "data.negative": ("normal",),
    "data.patient": ("case",),
    "data.cache_dir": ("gs://bucket",),
    "data.magnifications": ((40, 300),),
    "data.size": ((224,),),
    "data.resize": ("stretch",),
    "data.um_per_px": (-1.0,),
    "data.field": ((460, 700),),
    "data.placement": ("gpu",),
    "data.on_bad_image": ("ignore",),
    "split.protocol": ("strickt",),
    "split.file": ("/no/such/table.csv",),
    "split.folds": (1,),
    "split.fold": ("5",),
    "split.val_folds": (1,),
    "split.val_fold": (5,),
    "split.seed": (-1,),
    "split.train_magnifications": ((100, 300),),
    "split.test_magnifications": ((0,),),
    "split.name": ("evva", {"split.protocol": "published"}),
    "split.repaired": (True,),
    "split.allow_near_duplicates": (None,),
    "decision.target": ("acuracy",),
    "balance.method": ("smoot",),
    "balance.features": ("pixel",),
    "balance.within_magnification": (None,),  # both values are right
    "balance.k_neighbors": (0,),
    "augment.flip": (None,),
    "augment.rotate": (None,),
    "augment.translate": (1.5,),
    "augment.zoom": (1.0,),
    "augment.stain": (-0.1,),
    "augment.brightness": (-0.1,),
    "augment.contrast": (1.1,),
    "augment.mixup": (-1.0,),
    "augment.cutmix": (-1.0,),
    "loss.label_smoothing": (1.0,),
    "loss.focal_gamma": (-1.0,),
    "model.pretrained": ("imagnet",),
    "model.mean": ((0.5, 0.5),),
    "model.std": ((0.5, 0.5),),
    "model.accept_licence": (None,),
    "model.attention": ("sea",),
    "model.attention_options.reductoin": (8,),
    "model.attention_position": ("stem",),
    "model.stage_sizes": ((),),
    "model.width": (0,),
    "model.formulation": ("quick",),
    "model.dtype": ("float8",),
    "model.batch_norm": ("off",),
    "model.dropout": (1.0,),
    "optim.learning_rate": (0.0,),
    "optim.schedule": ("step",),
    "optim.warmup_epochs": (-1.0,),
    "optim.head_epochs": (-1,),
    "optim.weight_decay": (-1.0,),
    "optim.clip_norm": (-1.0,),
    "optim.accumulate": (3,),
    "optim.ema_decay": (1.0,),
    "optim.rules": ("stem=x",),
    "optim.layer_decay": (0.0,),
    "early_stopping.metric": ("val/auc",),
    "early_stopping.patience": (0,),
}


@pytest.fixture
def config(monkeypatch, tmp_path):
    def read(*_args, **_options):
        raise AssertionError("an image is read")

    monkeypatch.setattr(run_data, "load_configured", read)
    monkeypatch.setenv("SE_RESNET_CACHE", str(tmp_path / "cache"))
    return smoke.get_config()


def test_every_field_has_a_wrong_value():
    names = set(flatten(breakhis.get_config().to_dict()))
    assert {name for name in WRONG if "attention_options" not in name} == names


def test_right_values_are_accepted(config, tmp_path):
    with pytest.raises(AssertionError, match="an image is read"):
        train.train_and_evaluate(config, tmp_path / "run")


@pytest.mark.parametrize("name", [name for name, (value, *_) in WRONG.items() if value is not None])
def test_a_wrong_value_is_refused_before_an_image_is_read(config, tmp_path, name):
    value, *needed = WRONG[name]
    for field, needed_value in {**(needed[0] if needed else {}), name: value}.items():
        *parents, last = field.split(".")
        part = config
        for parent in parents:
            part = part[parent]
        part[last] = value if field == name else needed_value
    with pytest.raises(UserError) as error:
        train.train_and_evaluate(config, tmp_path / "run")
    words = [
        name.rpartition(".")[2],
        str(value[-1] if isinstance(value, tuple) and value else value),
    ]
    assert any(word in str(error.value) for word in words)
    assert not (tmp_path / "run" / "config.json").exists()
