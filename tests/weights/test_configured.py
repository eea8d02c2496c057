"""Mean and std of the pixels in the configuration, and licences that it accepts."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import se_resnet
import train
from configs import smoke
from data import run_data
from se_resnet.errors import UserError
from se_resnet.export.exporting import describe_origin
from se_resnet.models.preprocessing import IMAGENET
from se_resnet.report.remarks import weights_notes
from se_resnet.report.reporting import model_text
from se_resnet.report.reporting.study import Study
from se_resnet.runs.run_folder import RunFolder
from se_resnet.training.config import check_config
from se_resnet.weights import configured, pretrained
from tests.helpers import ROOT, checkpoints
from tests.helpers.configs import tiny_config
from tests.helpers.run_folders import make_run_folder

MEAN, STD = (0.7, 0.54, 0.66), (0.22, 0.26, 0.21)
TIMM = {
    "architecture": "resnet50",
    "num_classes": checkpoints.CLASSES,
    "model_args": {"layers": list(checkpoints.STAGE_SIZES)},
}
RESTRICTED = {
    "name": "1aurent/resnet50.lunit_bt",
    "licence": "LicenseRef-lunit-non-commercial",
    "licence_url": "https://example.org/LICENSE",
    "non_commercial": True,
    "accepted_licence": "LicenseRef-lunit-non-commercial",
}


def model_config(name, mean=MEAN, std=STD, accept_licence=""):
    model = smoke.get_config().model
    model.update(pretrained=str(name), mean=mean, std=std, accept_licence=accept_licence)
    return model


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function that writes a small network of timm's names, and its ``config.json`` if given."""
    monkeypatch.setattr(checkpoints, "WIDTH", 64)

    def write(cfg=None, **options):
        tensors, _ = checkpoints.make("torch", **options)
        path = tmp_path / "weights" / "model.safetensors"
        path.parent.mkdir(exist_ok=True)
        safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
        if cfg is not None:
            (path.parent / "config.json").write_text(json.dumps({**TIMM, "pretrained_cfg": cfg}))
        return path

    return write


@pytest.mark.parametrize("cfg", [None, {"interpolation": "bicubic"}])
def test_mean_and_std_apply_where_no_file_states_them(file, cfg):
    weights = configured.load(model_config(file(cfg)))
    assert (weights.preprocessing.mean, weights.preprocessing.std) == (MEAN, STD)
    assert weights.preprocessing.scale == IMAGENET.scale
    assert weights.preprocessing.channel_order == "RGB"
    assert "mean and std of the pixels are those of config.model.mean" in " ".join(weights.notes)
    assert not any("pixels" in assumed for assumed in weights.assumed)


def test_without_them_imagenets_are_assumed_aloud_with_the_remedy(file):
    weights = configured.load(model_config(file(), (), ()))
    assert weights.preprocessing == IMAGENET
    remark = weights.remarks()[0]
    assert remark.startswith("ASSUMED") and "mean 0.485, 0.456, 0.406" in remark
    assert "set config.model.mean and config.model.std" in remark


def test_a_file_that_states_other_values_is_a_contradiction(file):
    path = file({"mean": [0.5] * 3, "std": [0.5] * 3})
    words = r"give RGB.*mean 0\.7, 0\.54.*contradicts config\.json, with RGB.*mean 0\.5, 0\.5"
    with pytest.raises(UserError, match=words):
        configured.load(model_config(path))
    assert configured.load(model_config(path, (), ())).preprocessing.mean == (0.5,) * 3
    same = configured.load(model_config(path, (0.5,) * 3, (0.5,) * 3))
    assert "followed config.json" in same.notes


def test_random_weights_take_them(tmp_path):
    weights = configured.load(model_config("none"))
    assert (weights.params, weights.preprocessing.mean) == (None, MEAN)
    assert configured.load(model_config("none", (), ())).preprocessing == IMAGENET


def test_weights_with_a_recorded_preprocessing_refuse_them(run, file, tmp_path):
    own = tmp_path / "own.safetensors"
    pretrained.save(pretrained.load(str(file())), own)
    for name in ("imagenet", run, own):
        with pytest.raises(UserError, match=r"leave out config\.model\.mean"):
            configured.load(model_config(name))
    with pytest.raises(UserError, match="leave out"):  # before any file is read
        configured.check(model_config("imagenet"))


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        (MEAN, (), "config.model.mean is set and config.model.std is empty"),
        ((), STD, "config.model.std is set and config.model.mean is empty"),
        ((0.7, 0.5), STD, "not three finite numbers"),
        ((178.5, 137.7, 168.3), (56.1, 66.3, 53.5), "cannot be those of pixels from 0 to 1"),
        (MEAN, (0.2, 0.0, 0.2), "cannot be those of pixels"),
        ((float("nan"),) * 3, STD, "not three finite numbers"),
        (("a", "b", "c"), STD, "not three finite numbers"),
    ],
)
def test_values_that_pixels_cannot_have_are_named(mean, std, words):
    config = smoke.get_config()
    config.model.update(mean=mean, std=std)
    with pytest.raises(UserError, match=words) as caught:
        check_config(config)
    assert "config.model." in str(caught.value)


def test_mistakes_in_weights_end_before_an_image_is_read(place, file, tmp_path, monkeypatch):
    """Nothing is written either, so the corrected command may use the same folder."""
    monkeypatch.setattr(run_data, "prepare", lambda *_, **__: pytest.fail("images were read"))
    config = tiny_config(*place)
    config.model.update(pretrained=str(file({"mean": [0.5] * 3})), mean=MEAN, std=STD)
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match="contradicts config.json"):
        train.train_and_evaluate(config, workdir)
    assert not list(workdir.glob("*.json"))


def test_the_command_takes_three_numbers(tmp_path):
    arguments = ["--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}"]
    arguments += ["--config.model.mean=0.7,0.54,0.66", "--config.model.std=0.22,0.26,2"]
    command = [sys.executable, "train.py", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "config.model.mean = (0.7, 0.54, 0.66) and config.model.std" in result.stderr


def test_the_size_of_the_training_images_is_recorded_and_told_if_it_differs_much(file, tmp_path):
    weights = configured.load(model_config(file({"input_size": [3, 96, 96]})))
    assert weights.facts()["input_size"] == [96, 96]
    (remark,) = (r for r in weights.remarks((224, 224)) if "96x96" in r)
    assert "config.data.size is 224x224" in remark
    for size in ((112, 96), (), (144, 64)):
        assert not any("96x96" in remark for remark in weights.remarks(size)), size
    record, offline = tmp_path / "weights.json", dataclasses.replace(weights, input_size=None)
    pretrained.keep_facts(weights, record, begun=False)
    pretrained.keep_facts(offline, record, begun=True)  # resumes without the file beside them
    with pytest.raises(UserError, match=r"input_size is \[3, 96\]"):
        pretrained.load(str(file({"input_size": [3, 96]})))


@pytest.mark.parametrize("stated", [2, 0])
def test_a_classifier_of_other_classes_than_stated_is_refused(file, stated):
    path = file({"num_classes": stated})
    (path.parent / "config.json").write_text(json.dumps({**TIMM, "num_classes": stated}))
    with pytest.raises(UserError, match=rf"classes {stated} there and 3 in its tensors"):
        pretrained.load(str(path))


def test_a_missing_classifier_is_told(file):
    weights = pretrained.load(str(file({}, top=False)))
    assert weights.head is None
    assert any(f"states {checkpoints.CLASSES} classes" in note for note in weights.notes)


def test_saved_weights_keep_licence_and_size(file, tmp_path):
    weights = pretrained.load(str(file({"input_size": [3, 96, 64]})))
    restricted = dataclasses.replace(
        weights, licence="X", licence_url="https://example.org", non_commercial=True
    )
    path = tmp_path / "mine.safetensors"
    pretrained.save(restricted, path)
    again = pretrained.load(str(path))
    assert again.terms() == restricted.terms() and again.input_size == (96, 64)
    with pytest.raises(UserError, match="licence X, and its authors allow only non-commercial use"):
        configured.load(model_config(path, (), ()))
    assert configured.load(model_config(path, (), (), "X")).accepted_licence == "X"


@pytest.fixture
def from_restricted(tmp_path):
    """A run that started from weights for non-commercial use."""
    folder = make_run_folder(tmp_path / "run")
    (folder / "weights.json").write_text(json.dumps({**RESTRICTED, "source": "", "sha256": ""}))
    return folder


def test_the_licence_passes_to_what_is_trained(from_restricted):
    licence = RESTRICTED["licence"]
    with pytest.raises(UserError, match=f"accept_licence={licence}"):
        configured.load(model_config(from_restricted, (), ()))
    weights = configured.load(model_config(from_restricted, (), (), licence))
    facts = weights.facts()
    assert {field: facts[field] for field in RESTRICTED if field != "name"} == {
        field: value for field, value in RESTRICTED.items() if field != "name"
    }


def test_card_package_and_export_name_the_licence(from_restricted, tmp_path):
    package = se_resnet.save_pretrained(from_restricted, tmp_path / "package")
    card = (package / "README.md").read_text()
    assert "license: other\n" in card and "license_name: lunit-non-commercial\n" in card
    assert "license_link: https://example.org/LICENSE\n" in card
    assert "**The initial weights are for non-commercial use only**" in card
    assert "accepted that licence" in card
    with pytest.raises(UserError, match="accept_licence=LicenseRef"):
        configured.load(model_config(package, (), ()))
    config = RunFolder(from_restricted).config()
    weights = describe_origin(from_restricted, config, "se")["training"]["weights"]
    assert weights.items() >= {k: v for k, v in RESTRICTED.items()}.items()
    # Its author may have another agreement.
    se_resnet.save_pretrained(from_restricted, tmp_path / "other", licence="MIT")
    assert configured.load(model_config(tmp_path / "other", (), ())).licence == "MIT"


def test_the_report_names_assumptions_and_restrictions(from_restricted):
    path = from_restricted / "weights.json"
    facts = {**json.loads(path.read_text()), "assumed": ["ReLU", "RGB pixels"]}
    path.write_text(json.dumps(facts))
    assumed, licence = weights_notes(facts)
    assert "Assumed of the initial weights" in assumed and "ReLU; RGB pixels." in assumed
    assert "non-commercial use only: LicenseRef" in licence
    config = json.loads((from_restricted / "config.json").read_text())
    config["model"]["pretrained"] = RESTRICTED["name"]
    (from_restricted / "config.json").write_text(json.dumps(config))
    folder = RunFolder(from_restricted)
    evaluation = folder.evaluation()
    text = model_text.initial_weights(
        Study.read(folder, evaluation.metrics(), evaluation.predictions())
    )
    assert "for non-commercial use only: https://example.org/LICENSE" in text
    assert re.search("which was assumed: ReLU; RGB pixels", text)
    assert weights_notes(None) == weights_notes({"name": "none"}) == []


def test_a_run_from_own_weights_records_and_reports_what_was_assumed(place, tmp_path):
    """SE-ResNet weights of the user's making, trained from, evaluated and resumed."""
    tensors, _ = checkpoints.make("torch", reduction=16)
    path = tmp_path / "own.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    config = tiny_config(*place)
    config.model.update(
        pretrained=str(path),
        stage_sizes=checkpoints.STAGE_SIZES,
        width=checkpoints.WIDTH,
        mean=MEAN,
        std=STD,
    )
    workdir = tmp_path / "run"
    results = train.train_and_evaluate(config, workdir)
    facts = json.loads((workdir / "weights.json").read_text())
    assert facts["preprocessing"]["mean"] == list(MEAN) and facts["attention"] == "se"
    assert any("ReLU" in assumed for assumed in facts["assumed"])
    assert not any("pixels" in assumed for assumed in facts["assumed"])
    report = (workdir / "eval" / "test" / "report.html").read_text()
    assert "Assumed of the initial weights" in report and "ReLU" in report
    assert pretrained.load(str(workdir)).preprocessing.mean == MEAN
    assert train.train_and_evaluate(config, workdir)["image"] == results["image"]
    config.model.mean = (0.5,) * 3
    with pytest.raises(UserError, match=r"holds a run with config\.model\.mean = \[0\.7"):
        train.train_and_evaluate(config, workdir)
