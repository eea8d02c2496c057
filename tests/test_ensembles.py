"""config.ensemble.members and split.fold = 'none': several networks of a run as one model."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eval as evaluation
import se_resnet
import train
from data.load_images import load
from data.protocols.configured import configured_roles
from se_resnet import explain
from se_resnet.app.run_facts import describe
from se_resnet.errors import UserError
from se_resnet.metrics.decision import decide
from se_resnet.metrics.predictions import Predictions, concatenate, logit_of, probability_of
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.image_files import PREDICTION
from se_resnet.runs.ensembles import joined_data_facts, joined_split
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from tests.helpers.configs import tiny_config
from tests.helpers.image_trees import random_image
from tests.helpers.run_folders import metrics_of, predictions_of

MEMBERS = 2


def configured(place, fold="0", members=MEMBERS):
    config = tiny_config(*place)
    config.epochs = 1
    config.split.folds = config.split.val_folds = 2
    config.split.fold = fold
    config.ensemble.members = members
    return config


@pytest.fixture(scope="module")
def tested(place, tmp_path_factory):
    """An ensemble that was tested on a fold."""
    workdir = tmp_path_factory.mktemp("ensemble") / "run"
    train.train_and_evaluate(configured(place), workdir)
    return workdir


@pytest.fixture(scope="module")
def for_use(place, tmp_path_factory):
    """An ensemble that was trained on all patients."""
    workdir = tmp_path_factory.mktemp("ensemble") / "all"
    train.train_and_evaluate(configured(place, "none"), workdir)
    return workdir


@pytest.fixture(scope="module")
def validated(place, tmp_path_factory):
    """A cross-validation of single networks."""
    workdir = tmp_path_factory.mktemp("ensemble") / "folds"
    train.train_and_evaluate(configured(place, "all", members=1), workdir)
    return workdir


def mean_logit(*parts):
    return np.mean([logit_of(part.probability) for part in parts], axis=0)


def test_the_members_validate_on_parts_that_have_no_patient_in_common(tested):
    members = RunFolder(tested).members(MEMBERS)
    validation = [member.patients("val") for member in members]
    assert not set.intersection(*validation)
    seen = [member.patients("train", "val") for member in members]
    assert set.union(*validation) == seen[0] == seen[1]
    assert all(not member.patients("test") & seen[0] for member in members)
    seeds = [member.config()["seed"] for member in members]
    assert seeds == [0, 1]


def test_test_images_get_the_mean_logit_of_all_members(tested):
    members = [predictions_of(tested / f"member{number}") for number in range(MEMBERS)]
    together = predictions_of(tested)
    np.testing.assert_allclose(
        logit_of(together.probability), mean_logit(*members), rtol=1e-4, atol=1e-5
    )
    by_member = np.stack([member.probability for member in members])
    threshold = load_best(tested).decision.threshold
    votes = (by_member >= threshold).sum(axis=0)
    assert together.extra["malignant_votes"].astype(int).tolist() == votes.tolist()
    np.testing.assert_allclose(
        together.extra["disagreement"].astype(float), by_member.std(axis=0), atol=1e-6
    )
    auc = [metrics_of(tested / f"member{n}")["image"]["roc_auc"]["value"] for n in range(MEMBERS)]
    assert metrics_of(tested)["members"]["image_roc_auc"]["values"] == auc
    methods = (tested / "eval" / "test" / "reporting" / "methods.txt").read_text().split()
    assert "for each of 2 networks another of 2 parts of the rest for validation" in " ".join(
        methods
    )
    report = (tested / "eval" / "test" / "report.html").read_text()
    assert "mean logit of all members" in report and "the mean over 2 networks" in report
    for number in range(MEMBERS):
        assert f'href="../../member{number}/eval/test/report.html"' in report
        member = (tested / f"member{number}" / "eval" / "test" / "report.html").read_text()
        assert 'href="../../../eval/test/report.html">↑ All members' in member


def test_the_decision_comes_from_images_that_a_member_was_not_trained_on(tested):
    validation = [predictions_of(tested / f"member{n}", "val") for n in range(MEMBERS)]
    chosen = decide(concatenate(validation), "balanced_accuracy")
    assert json.loads((tested / "decision.json").read_text()) == dataclasses.asdict(chosen)
    assert load_best(tested).decision == chosen


def test_validation_images_are_predicted_by_the_member_that_validated_on_them(tested):
    evaluation.evaluate_run(tested, "val")
    together = predictions_of(tested, "val")
    parts = [predictions_of(tested / f"member{n}", "val") for n in range(MEMBERS)]
    assert together.file.tolist() == concatenate(parts).file.tolist()
    assert together.fold.tolist() == [n for n, part in enumerate(parts) for _ in part.file]
    with pytest.raises(UserError, match="--split=train give one part.*member0"):
        evaluation.evaluate_run(tested, "train")


def test_without_a_test_fold_every_patient_trains_and_validates(for_use):
    members = RunFolder(for_use).members(MEMBERS)
    everyone = members[0].patients("train", "val")
    assert set.union(*(member.patients("val") for member in members)) == everyone
    assert {row["role"] for row in members[0].split()} == {"train", "val"}
    assert len(predictions_of(for_use, "val")) == 144 == len(members[0].split())
    assert not (for_use / "eval" / "test").exists()
    assert "members" in metrics_of(for_use, "val")


def test_a_single_network_without_a_test_fold_is_evaluated_on_its_validation(place, tmp_path):
    results = train.train_and_evaluate(configured(place, "none", members=1), tmp_path / "run")
    assert results == metrics_of(tmp_path / "run", "val")
    assert se_resnet.load_run(tmp_path / "run").metrics is None


@pytest.mark.parametrize("name", ["tested", "for_use", "validated"])
def test_other_images_are_predicted_by_all_networks_as_one(name, place, tmp_path, request):
    workdir = request.getfixturevalue(name)
    model = se_resnet.load_run(workdir)
    assert len(model.run.members) == MEMBERS
    results = evaluation.evaluate_run(workdir, data_dir=str(place[0]), out=tmp_path / "other")
    predictions = Predictions.read_csv(tmp_path / "other" / "predictions.csv")
    networks = [load_best(network.path) for network in RunFolder(workdir).networks()]
    images = load(str(place[0]), size=(16, 16), cache_dir=str(place[1]))
    batch = {"image": images.images, "mask": np.ones(len(images.images), bool)}
    by_network = [network.predict(network.members, [batch])[0] for network in networks]
    by_file = dict(zip(images.records.file.tolist(), np.mean(by_network, axis=0), strict=True))
    np.testing.assert_allclose(
        logit_of(predictions.probability),
        [by_file[file] for file in predictions.file.tolist()],
        rtol=1e-4,
        atol=1e-5,
    )
    assert "malignant_votes" in predictions.extra and "members" not in results
    # Every image trained or validated some network, but for the test images of the ensemble.
    seen = joined_data_facts(RunFolder(workdir))["seen_digests"]
    assert results["audit"]["evaluated_images_seen"] == len(seen)
    assert len(seen) == (144 if name != "tested" else 144 - len(predictions_of(workdir)))


def test_a_loaded_ensemble_describes_explains_and_lists_its_errors(tested):
    model = se_resnet.load_run(tested)
    text = repr(model)
    assert "\n" not in text and len(text) < 200 and f", {MEMBERS} networks ResNet" in text
    image = random_image((40, 30))
    (probability,) = model.predict(image)
    assert 0 < probability < 1
    overlay = model.explain(image)
    assert overlay.shape == (*model.run.classifier.size, 3) and overlay.dtype == np.uint8
    together = predictions_of(tested)
    wrong = (together.probability >= model.run.decision.threshold) != together.label
    assert {error["file"] for error in model.errors()} == set(together.file[wrong].tolist())


def test_errors_of_a_cross_validation_are_those_at_the_thresholds_of_its_folds(validated, tmp_path):
    workdir = tmp_path / "folds"
    shutil.copytree(validated, workdir, symlinks=True)
    path = workdir / "eval" / "test" / "metrics.json"
    metrics = json.loads(path.read_text())
    assert len(metrics["decisions"]) == 2
    for decision, threshold in zip(metrics["decisions"], (0.0, 1.0), strict=True):
        decision["threshold"] = threshold
    path.write_text(json.dumps(metrics))
    together = predictions_of(workdir)
    # The first fold calls every image malignant, the second every image benign.
    wrong = np.where(together.fold == 0, together.label == 0, together.label == 1)
    found = se_resnet.load_run(workdir).errors()
    assert {error["file"] for error in found} == set(together.file[wrong].tolist())


def test_a_model_without_a_test_says_that_it_knows_no_errors(for_use):
    with pytest.raises(UserError, match=r"no finished evaluation of test images: run eval\.py"):
        se_resnet.load_run(for_use).errors()


def test_a_folder_is_predicted_with_the_votes_of_the_members(tested, place, tmp_path):
    predictions = predict_folder(tested, place[0], tmp_path / "out")
    table = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert "malignant_votes,disagreement,unlike_training_images" in table[0]
    together = predictions_of(tested)
    by_file = {prediction.file.rsplit("/", 1)[-1]: prediction for prediction in predictions}
    for file, probability in zip(
        together.file.tolist(), together.probability.tolist(), strict=True
    ):
        assert by_file[file].probability == pytest.approx(probability, abs=1e-5)
    for prediction in predictions:
        assert prediction.uncertain == (prediction.malignant_votes == 1)
        assert 0 <= (prediction.disagreement or 0) <= 0.5
    recorded = json.loads((tmp_path / "out" / PREDICTION).read_text())
    assert recorded["members"] == MEMBERS


def test_a_package_of_an_ensemble_predicts_the_same_bits(tested, place, tmp_path):
    model = se_resnet.load_run(tested)
    package = se_resnet.save_pretrained(model, tmp_path / "package")
    names = sorted(path.name for path in package.iterdir())
    networks = [f"{name}.safetensors" for name in ("input_reference", "member0", "member1")]
    assert names == ["README.md", "config.json", *networks]
    again = se_resnet.from_pretrained(package)
    images = load(str(place[0]), size=(16, 16), cache_dir=str(place[1])).images[:20]
    np.testing.assert_array_equal(again.predict(images), model.predict(images))
    assert again.run.decision == model.run.decision
    card = (package / "README.md").read_text()
    assert "2 networks, whose logits are averaged" in card
    with pytest.raises(UserError, match="timm has no ensembles"):
        se_resnet.save_pretrained(model, tmp_path / "timm", naming="timm")
    # A package of one network replaces it whole, and a swapped member is noticed.
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    shutil.copy(copy / "member0.safetensors", copy / "member1.safetensors")
    with pytest.raises(UserError, match="its weights are not those that config.json describes"):
        se_resnet.from_pretrained(copy)
    se_resnet.save_pretrained(tested / "member0", package)
    assert not (package / "member0.safetensors").exists()


def test_a_card_of_a_cross_validation_says_what_was_tested(validated, tmp_path):
    package = se_resnet.save_pretrained(validated, tmp_path / "package")
    assert "not by the average of all 2 networks" in (package / "README.md").read_text()


def test_an_image_that_any_network_trained_on_is_no_test_image(validated, tested):
    of_folds = [row["role"] for row in joined_split(RunFolder(validated), ("file", "role"))]
    assert set(of_folds) == {"train", "val"}
    roles = {row["role"] for row in joined_split(RunFolder(tested), ("file", "role"))}
    assert roles == {"train", "test"}
    run = load_best(validated)
    facts = describe(validated, run, RunFolder(validated).config())
    assert facts["members"] == MEMBERS and facts["is_cross_validation"]
    assert sum(count for _, count in facts["trained"]) == of_folds.count("train")


def test_grad_cam_of_an_ensemble_is_that_of_its_mean_logit(tested, place):
    run = load_best(tested)
    images = load(str(place[0]), size=(16, 16), cache_dir=str(place[1])).images[:4]
    classifier, stage = run.classifier, run.classifier.model.stage_names[-1]
    inputs = classifier.preprocessing(images)
    features, gradients = [], []
    for variables in run.members:

        def head(values, variables=variables):
            return values.mean(axis=(1, 2)) @ variables["params"]["head"]["kernel"][:, 0]

        _, stages = classifier.model.apply(variables, inputs, train=False, return_stages=True)
        features.append(stages[stage])
        gradients.append(jax.grad(lambda v, head=head: head(v).sum() / MEMBERS)(stages[stage]))
    joined = jnp.concatenate(features, axis=-1)
    weights = jnp.concatenate(gradients, axis=-1).mean(axis=(1, 2))
    maps = jax.nn.relu(jnp.einsum("bhwc,bc->bhw", joined, weights))
    maps = jax.image.resize(maps, images.shape[:3], "linear")
    expected = maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)
    found = explain.grad_cam(classifier, run.members, images, target=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    (alone,) = (explain.grad_cam(classifier, run.members[0], images, target=1),)
    assert np.abs(alone - found).max() > 1e-3
    occluded = explain.occlusion(classifier, run.members, images, patch=8, stride=8)
    assert occluded.shape == images.shape[:3] and occluded.any()


def test_an_ensemble_resumes_and_grows(tested, place, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(tested, copy)
    config = configured(place)
    with pytest.raises(UserError, match=r"config\.split\.val_folds"):
        config.ensemble.members = 3
        train.train_and_evaluate(config, copy)
    smaller = configured(place, members=1)
    with pytest.raises(UserError, match=r"config\.ensemble\.members"):
        train.train_and_evaluate(smaller, copy)
    train.train_and_evaluate(configured(place), copy)
    printed = capsys.readouterr().out
    assert printed.count("finished before") == MEMBERS
    (copy / "decision.json").unlink()
    with pytest.raises(UserError, match=r"an ensemble without decision\.json"):
        load_best(copy)


@pytest.mark.compiled
def test_each_fold_of_a_cross_validation_may_be_an_ensemble(place, tmp_path):
    config = configured(place, "all")
    train.train_and_evaluate(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    names = [network.path.relative_to(run.path).as_posix() for network in run.networks()]
    assert names == [f"fold{fold}/member{member}" for fold in range(2) for member in range(2)]
    together = predictions_of(run.path)
    parts = [predictions_of(fold.path) for fold in run.folds(2)]
    np.testing.assert_array_equal(together.probability, concatenate(parts).probability)
    assert len(load_best(run.path).members) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ensemble.members": 3}, "config.ensemble.members = 3 is out of range"),
        ({"ensemble.members": 0}, "config.ensemble.members = 0 is out of range"),
        ({"split.val_fold": 1}, "config.split.val_fold = 1 is the part of one network"),
        ({"split.val_fold": 7, "ensemble.members": 1}, "config.split.val_fold = 7 does not exist"),
        ({"split.fold": "none", "repeats": 2}, "config.repeats = 2 are compared on test images"),
        ({"split.fold": "none", "split.protocol": "official"}, "has its own test images"),
        ({"seed": 2**32 - 1}, "it counts up to"),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused_at_once(place, tmp_path, changes, words):
    config = configured(place)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        train.train_and_evaluate(config, tmp_path / "run")


def test_the_members_of_a_given_validation_set_are_refused(place):
    records = load(str(place[0]), size=(16, 16), cache_dir=str(place[1])).records
    roles = np.where(np.arange(len(records)) % 3 == 0, "val", "train")
    roles[:8] = "test"
    given = dataclasses.replace(records, extra={"role": roles})
    split = configured(place).split
    split.protocol, split.val_fold = "table", 1
    with pytest.raises(UserError, match="the split gives its validation images itself"):
        configured_roles(given, split, 0)


def test_the_mean_of_one_network_is_its_own_logit():
    logits = np.array([[0.1, -3.7, 1e-9]])
    np.testing.assert_array_equal(probability_of(logits.mean(axis=0)), probability_of(logits[0]))
