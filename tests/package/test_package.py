from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from huggingface_hub import ModelCard

import se_resnet
from se_resnet.errors import UserError
from se_resnet.models.resnet import create_model
from se_resnet.package import save_load
from se_resnet.weights import formats, hub, pretrained
from tests.helpers import hub_server
from tests.helpers.image_trees import random_image
from tests.helpers.networks import randomised

IMAGES = [random_image((60 + seed, 40), seed) for seed in range(5)]


@pytest.fixture(scope="module")
def packaged(run, tmp_path_factory) -> Path:
    return se_resnet.save_pretrained(run, tmp_path_factory.mktemp("packages") / "whole")


@pytest.fixture
def copy(packaged, tmp_path) -> Path:
    return shutil.copytree(packaged, tmp_path / "copy")


def change_config(folder: Path, change) -> None:
    path = folder / "config.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def test_a_round_trip_keeps_every_bit(run, packaged):
    before, after = se_resnet.load_run(run), se_resnet.from_pretrained(packaged)
    assert after.run.classifier == before.run.classifier
    assert after.run.decision == before.run.decision
    assert (after.name, after.threshold) == (before.name, before.threshold)
    jax.tree.map(np.testing.assert_array_equal, after.run.variables, before.run.variables)
    probability = before.predict(IMAGES)
    assert len(set(probability.tolist())) == len(IMAGES)
    assert after.predict(IMAGES).tobytes() == probability.tobytes()
    assert after.metrics == before.metrics


def test_a_loaded_package_is_saved_as_it_was(packaged, tmp_path):
    again = se_resnet.save_pretrained(se_resnet.from_pretrained(packaged), tmp_path / "again")
    for name in ("config.json", "README.md", "model.safetensors"):
        assert (again / name).read_bytes() == (packaged / name).read_bytes(), name


def test_attention_and_its_options_survive(run, tmp_path):
    predictor = se_resnet.load_run(run)
    model = create_model(
        attention="cbam", attention_options={"reduction": 4}, attention_position="stage",
        variant="v1.5", bn_epsilon=1e-5, stage_sizes=(1, 1), width=4,
    )  # fmt: skip
    classifier = replace(predictor.run.classifier, model=model)
    changed = replace(
        predictor, run=replace(predictor.run, classifier=classifier, members=(randomised(model),))
    )
    after = se_resnet.from_pretrained(se_resnet.save_pretrained(changed, tmp_path / "package"))
    assert after.run.classifier == classifier
    jax.tree.map(np.testing.assert_array_equal, after.run.variables, changed.run.variables)


@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_a_package_starts_another_training(packaged, run, part):
    loaded, from_run = pretrained.load(str(packaged / part)), pretrained.load(str(run))
    jax.tree.map(
        np.testing.assert_array_equal,
        (loaded.params, loaded.batch_stats, loaded.head),
        (from_run.params, from_run.batch_stats, from_run.head),
    )
    differing = {"name", "sha256", "licence"}
    wanted = {k: v for k, v in from_run.facts().items() if k not in differing}
    assert {k: v for k, v in loaded.facts().items() if k not in differing} == wanted
    assert loaded.licence == "Apache-2.0"


def test_the_card_tells_the_hub_and_the_reader(packaged, run):
    card = ModelCard.load(packaged / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "se_resnet"
    assert "histology" in card.data.tags and "roc_auc" in card.data.metrics
    written = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    accuracy = written["image"]["accuracy"]
    (told,) = [r for r in card.data.eval_results if r.metric_name == "Image accuracy"]
    assert told.metric_value == round(accuracy["value"], 4)
    figure = "{value:.3f} ({low:.3f}–{high:.3f})".format(**accuracy)
    assert f"| Image accuracy | {figure} |" in card.text
    for words in (
        "## Data", "## Protocol", "## Limits", "## Licence", "CC BY 4.0", "no medical device",
        "contain no patient of the test set", "| test | malignant |",
        "A subset of BreaKHis: 144 of 7,909 images", "Weights: step ", " of 26 (epoch ",
        "the training finished", "Python 3.", "`batch_size` = `8`",
    ):  # fmt: skip
        assert words in card.text, words


def test_a_package_names_no_folder_of_the_machine(packaged, run, place):
    for path in packaged.iterdir():
        content = path.read_bytes()
        for folder in (run.parent, *place, Path.home()):
            assert str(folder).encode() not in content, path
        assert b"seen_digests" not in content and b"SOB_" not in content


def test_a_leaky_protocol_and_a_missing_evaluation_are_told(run, tmp_path):
    predictor = se_resnet.load_run(run)
    history = json.loads(json.dumps(predictor.history))
    history["config"]["split"]["protocol"] = "random"
    history["metrics"]["audit"]["evaluated_accessions_seen"] = 7
    history["data"]["sample"] = True
    leaky = se_resnet.Predictor(predictor.run, "a | b", history)
    text = (se_resnet.save_pretrained(leaky, tmp_path / "leaky") / "README.md").read_text()
    assert "Training or validation contains 7 of the test patients" in text
    assert (
        "training contains patients of the test set" in text and "not a result on BreaKHis" in text
    )
    assert "# a \\| b\n" in text
    history["metrics"] = None
    text = (se_resnet.save_pretrained(leaky, tmp_path / "leaky") / "README.md").read_text()
    assert "not evaluated on test images" in text and "model-index" not in text


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def rename(folder: Path) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["params/stem/conv/other"] = tensors.pop("params/stem/conv/kernel")
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def spoil(folder: Path) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["params/head/bias"] = np.full_like(tensors["params/head/bias"], np.inf)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def grow(folder: Path) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["params/head/bias"] = np.zeros(10**6, np.float32)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def configured(**values):
    def change(folder: Path) -> None:
        def put(facts):
            for name, value in values.items():
                *parents, last = name.split("__")
                target = facts
                for parent in parents:
                    target = target[parent]
                target[last] = value

        change_config(folder, put)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, "broken safetensors"),
        (rename, r"it states stages and width|for params/stem"),
        (spoil, "not finite"),
        (grow, "params/head/bias, the package"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04."), "is a pickle"),
        (lambda f: (f / "config.json").unlink(), "cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read .Expecting"),
        (lambda f: (f / "config.json").write_text("[1]"), r"it is \[1\]"),
        (lambda f: (f / "config.json").write_text("[" * 10**5), "nested too deeply"),
        (lambda f: (f / "config.json").write_text('{"size": NaN}'), "the number NaN"),
        (lambda f: (f / "config.json").write_text(" " * (2**24 + 1)), "larger than"),
        (lambda f: change_config(f, lambda facts: facts.pop("decision")), "it lacks decision"),
        (configured(format_version=2), "update se_resnet"),
        (configured(classes=["cat", "dog"]), "classes are not benign"),
        (configured(model__stage_sizes=[10**9]), "it states stages"),
        (configured(model__width=10**9), "it states stages"),
        (configured(model__stage_sizes="many"), "model.stage_sizes is 'many'"),
        (configured(model__attention=["se"]), "model.attention is"),
        (configured(model__attention="this:Module"), "runs the file of that name"),
        (configured(model__attention="nonsense"), "unknown attention module"),
        (configured(model__attention_options={"gate": [{}]}), "gate"),
        (configured(model__bn_epsilon="small"), "model.bn_epsilon is 'small'"),
        (configured(model__variant="v9"), "unknown variant"),
        (configured(preprocessing__mean=["a", "b", "c"]), "preprocessing.mean.0 is 'a'"),
        (configured(preprocessing__scale=[]), "preprocessing.scale is"),
        (configured(size=[10**9, 10**9]), "size.0 is 1000000000, not 1 to 4,096"),
        (configured(size=[16.5, 16]), "size.0 is 16.5"),
        (configured(size=[True, True]), "size.0 is True"),
        (configured(size=4096), "size is 4096"),
        (configured(resize="twist"), "resize rule 'twist'"),
        (configured(decision__temperature=0), "out of range"),
        (configured(decision__threshold="high"), "decision.threshold is 'high'"),
        (configured(decision__other=1), "unexpected keyword argument 'other'"),
        (configured(history={}), "it lacks history.data"),
        (configured(history__data=None), "history.data is None"),
        (configured(history__config="x"), "history.config is 'x'"),
        (configured(history__metrics={"image": {}}), "history.metrics"),
    ],
)
def test_a_broken_or_hostile_package_is_refused(copy, change, words):
    change(copy)
    with pytest.raises(UserError, match=words):
        se_resnet.from_pretrained(copy)


def test_a_packages_attention_module_is_not_imported_unasked(copy, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("open('ran', 'w')\nraise RuntimeError('ran')\n")
    monkeypatch.chdir(tmp_path)
    configured(model__attention="evil_module:Mine")(copy)
    with pytest.raises(UserError, match="allow_own_attention"):
        se_resnet.from_pretrained(copy)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RuntimeError, match="ran"):
        se_resnet.from_pretrained(copy, allow_own_attention=True)


@pytest.mark.parametrize("source", ["nothing here", "a/b/c", "config.json"])
def test_what_is_neither_folder_nor_repository_is_named(packaged, monkeypatch, source):
    monkeypatch.chdir(packaged)
    with pytest.raises(UserError, match="there is no model package"):
        se_resnet.from_pretrained(source)


def test_a_folder_of_other_files_is_left_alone(run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds README.md.*empty folder"):
        se_resnet.save_pretrained(run, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(UserError, match="unknown naming"):
        se_resnet.save_pretrained(run, tmp_path / "new", naming="keras")


def test_what_systems_and_git_keep_in_a_package_stays(run, copy):
    for folder in (".git", ".cache"):
        (copy / folder).mkdir()
    for name in (".DS_Store", ".gitattributes", ".git/HEAD"):
        (copy / name).write_text("kept")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    se_resnet.save_pretrained(run, copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_what_an_earlier_version_left_when_killed_is_replaced(run, copy, packaged):
    (copy / "config.json").unlink()
    (copy / "README.md").rename(copy / ".README.md.ea9ae822")
    se_resnet.save_pretrained(run, copy)
    assert sorted(path.name for path in copy.iterdir()) == sorted(
        path.name for path in packaged.iterdir()
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_of_another_origin_is_not_replaced(run, copy, name):
    (copy / "config.json").unlink()
    if name == "config.json":
        (copy / name).write_text('{"architectures": ["ResNetForImageClassification"]}')
    safetensors.numpy.save_file({"conv1.weight": np.zeros(1)}, copy / "model.safetensors")
    with pytest.raises(UserError, match=rf"{name}.*not from a model package: give an empty folder"):
        se_resnet.save_pretrained(run, copy)


def test_an_unfinished_package_leaves_the_one_before(copy, packaged, monkeypatch):
    other = se_resnet.from_pretrained(copy)
    variables = jax.tree.map(lambda leaf: leaf + 1, other.run.variables)
    other = replace(other, run=replace(other.run, members=(variables,)))

    def fail(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(save_load, "write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        se_resnet.save_pretrained(other, copy)
    names = {path.name for path in packaged.iterdir()}
    assert {path.name for path in copy.iterdir()} == names
    for name in names:
        assert (copy / name).read_bytes() == (packaged / name).read_bytes(), name


def test_leftovers_of_a_killed_process_block_no_package(copy, run):
    (copy / ".README.md.ea9ae822").touch()
    (copy / ".unfinished" / "new").mkdir(parents=True)
    (copy / ".unfinished" / "new" / "model.safetensors").touch()
    se_resnet.from_pretrained(copy)  # what is not whole is not looked at
    se_resnet.save_pretrained(run, copy)
    names = {path.name for path in copy.iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}


def test_weights_of_another_package_are_refused(copy):
    tensors = safetensors.numpy.load_file(copy / "model.safetensors")
    tensors["params/head/bias"] += 1
    safetensors.numpy.save_file(tensors, copy / "model.safetensors")
    with pytest.raises(UserError, match="weights are not those that config.json describes"):
        se_resnet.from_pretrained(copy)
    change_config(copy, lambda facts: facts.pop("weights_sha256"))  # as older versions wrote it
    se_resnet.from_pretrained(copy)


def test_a_package_is_pushed_and_pulled(packaged, copy, tmp_path, monkeypatch):
    """By the real library, over HTTP."""
    (copy / ".DS_Store").touch()
    with hub_server.serve(monkeypatch, tmp_path / "cache") as files:
        assert hub.push(copy, "someone/breakhis").endswith(hub_server.COMMIT)
        for path in packaged.iterdir():
            assert files[path.name] == path.read_bytes()
        assert ".DS_Store" not in files
        pulled = se_resnet.from_pretrained("someone/breakhis")
        here = se_resnet.from_pretrained(packaged)
        np.testing.assert_array_equal(pulled.predict(IMAGES), here.predict(IMAGES))
        del files["model.safetensors"]
        with pytest.raises(UserError, match="other/name could not be downloaded"):
            se_resnet.from_pretrained("other/name")
    # The server is gone; what was downloaded is not.
    assert se_resnet.from_pretrained("someone/breakhis").name == here.name
    with pytest.raises(UserError, match=r"is complete, but could not be pushed to a/b \(\w+: "):
        hub.push(packaged, "a/b")


def test_the_command_writes_a_package_offline_and_says_how(run, tmp_path):
    command = [sys.executable, "-m", "se_resnet.package", f"--workdir={run}"]
    told = subprocess.run(
        [*command, f"--out={tmp_path / 'package'}", "--licence=MIT", "--push=a/b"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    assert told.returncode == 2 and "Traceback" not in told.stderr
    assert "is complete, but could not be pushed to a/b" in told.stderr.splitlines()[-1]
    assert "config.json, model.safetensors" in told.stdout
    assert ModelCard.load(tmp_path / "package" / "README.md").data.license == "mit"
    assert formats.read(tmp_path / "package").tensors.keys() == {
        *flatten_dict(se_resnet.load_run(run).run.variables, sep="/")
    }
    assert save_load.NAMINGS == ("se_resnet", "timm")
