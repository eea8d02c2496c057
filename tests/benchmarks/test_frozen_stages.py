"""The last stage on stored features is the whole network; fold runs resume and can be read."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks import frozen_stages, last_stage, stage_features
from benchmarks.stage_training import FACTS
from data.dataset import load_dataset
from data.feed.batch_order import blend
from se_resnet.errors import UserError
from se_resnet.metrics.predictions import PREDICTIONS, Predictions
from se_resnet.runs.run_files import TEST, VAL
from se_resnet.runtime.files import read_json
from se_resnet.weights import pretrained
from tests.helpers.last_stage import TINY, last_stage_config


def randomised(variables, parts):
    """Other values in the attention and the head of these parts, so that they change logits."""
    rng = np.random.default_rng(1)
    flat = flatten_dict(variables, sep="/")
    for path, leaf in flat.items():
        _, part, *rest = path.split("/")
        if part in parts and ("attention" in rest or part == "head"):
            flat[path] = leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32)
    return unflatten_dict(flat, sep="/")


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("attention", "weights", "architecture", "side"),
    [
        ("none", "none", TINY, 64),
        ("coord", "none", TINY, 64),
        ("se", "imagenet", {"stage_sizes": (3, 4, 6, 3), "width": 64}, 112),
    ],
)
def test_both_parts_are_the_whole_network(attention, weights, architecture, side):
    loaded, key, size = pretrained.load(weights), jax.random.key(0), (side, side)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    # New gates are one, so that the stages before compute what they compute without attention.
    whole = last_stage.make_model(loaded, attention, architecture)
    variables = pretrained.initial_variables(whole, loaded, key, size)
    variables = randomised(variables, (whole.stage_names[-1], "head"))
    forward = jax.jit(functools.partial(whole.apply, train=False))
    expected = forward(variables, loaded.preprocessing(images))[:, 0]

    plain = last_stage.make_model(loaded, "none", architecture)
    without = {
        collection: unflatten_dict(
            {path: leaf for path, leaf in flatten_dict(tree).items() if "attention" not in path}
        )
        for collection, tree in variables.items()
    }
    frozen = last_stage.make_frozen(plain, without, loaded, size, dtype=jnp.float32)
    last = {
        collection: {name: tree[name] for name in (whole.stage_names[-1], "head") if name in tree}
        for collection, tree in variables.items()
    }
    found = last_stage.make_predict(last_stage.LastStage(whole))(last, frozen(images))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())
    initial = last_stage.last_variables(whole, loaded, key, size)
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, last)


ROUNDS = [(3, (frozen_stages.Arm(), frozen_stages.Arm(attention="none", balancing="none")))]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder of finished fold runs."""
    folder = tmp_path_factory.mktemp("frozen") / "runs"
    frozen_stages.measure(last_stage_config(), folder, ROUNDS)
    return folder


@pytest.mark.compiled
def test_every_tested_image_is_predicted_once_by_every_choice(measured):
    records = load_dataset("sample", size=(32, 32)).records
    for arm in ROUNDS[0][1]:
        runs = [measured / arm.name / "seed3" / f"fold{fold}" for fold in range(2)]
        by_choice = {}
        for choice in frozen_stages.CHOICES:
            parts = [Predictions.read_csv(run / choice / TEST / PREDICTIONS) for run in runs]
            files = np.concatenate([part.file for part in parts])
            assert sorted(files) == sorted(records.file[records.first_copies()])
            by_choice[choice] = np.concatenate([part.probability for part in parts])
            for run, part in zip(runs, parts, strict=True):
                validation = Predictions.read_csv(run / choice / VAL / PREDICTIONS)
                assert not set(validation.accession) & set(part.accession)
        assert (by_choice["averaged"] != by_choice["last"]).any()


@pytest.mark.compiled
def test_facts_hold_the_training_images_and_the_blends(measured):
    smote, none = (
        read_json(measured / arm.name / "seed3" / "fold0" / FACTS) for arm in ROUNDS[0][1]
    )
    benign, malignant = smote["training_images"]
    assert 0 < benign < malignant and none["training_images"] == [benign, malignant]
    assert none["plan_rows"] == [benign, malignant] and none["blends"] == 0
    assert smote["blends"] > 0 and len(smote["epochs"]) == 2
    assert smote["steps_per_epoch"] == sum(smote["plan_rows"]) // 8
    aucs = [epoch["val/roc_auc"] for epoch in smote["epochs"]]
    assert aucs[smote["best_epoch"] - 1] == max(aucs)
    assert smote["audit"]["straddling_accessions"] == 0


@pytest.mark.compiled
def test_only_missing_fold_runs_are_trained_and_give_the_same(measured, capsys):
    arm = ROUNDS[0][1][1]
    folder = measured / arm.name / "seed3" / "fold1"
    path = folder / "last" / TEST / PREDICTIONS
    before = path.read_bytes()
    # A killed process leaves a folder of another name.
    folder.rename(folder.with_name("fold1.unfinished"))
    frozen_stages.measure(last_stage_config(), measured, ROUNDS)
    printed = capsys.readouterr().out
    assert printed.count(" fold ") == 1 and f"{arm.name} seed 3 fold 1" in printed
    assert path.read_bytes() == before
    assert not folder.with_name("fold1.unfinished").exists()


@pytest.mark.compiled
def test_another_measurement_in_the_folder_is_refused(measured):
    config = last_stage_config()
    config.epochs = 1
    with pytest.raises(UserError, match="other settings .epochs.: give another folder"):
        frozen_stages.measure(config, measured, ROUNDS)


@pytest.mark.compiled
def test_a_batch_has_views_of_real_images_and_of_blends(tmp_path):
    config = last_stage_config()
    dataset = load_dataset("sample", size=(32, 32))
    features = stage_features.open_features(config, dataset, tmp_path / "features.npy")
    work = frozen_stages.Work(config, dataset, features, tmp_path)
    images, rng = dataset.images, np.random.default_rng(0)

    def is_view(found, pixels):
        views = features.frozen(stage_features.views(pixels[None])[0])
        return np.isclose(views, found, rtol=2e-3, atol=2e-3).all(axis=(1, 2, 3)).any()

    _, rows = work._make_fold(frozen_stages.BASE, 0, 0)
    blended = np.flatnonzero(rows.plan.weight)
    assert 0 < len(blended) == len(rows.blends) < len(rows.plan)
    chosen = np.array([0, blended[0], 1, blended[-1]])
    batch = rows.batch(chosen, rng)
    for row, found in zip(chosen, batch["image"], strict=True):
        assert is_view(found, blend(images, rows.plan, [row])[0])
        assert not is_view(found, images[rows.plan.base[2]])
    assert batch["label"].tolist() == rows.plan.label[chosen].tolist()
    seen = [rows.batch(chosen[:1], rng)["image"].tobytes() for _ in range(60)]
    assert len(set(seen)) == 8

    _, rows = work._make_fold(frozen_stages.Arm(balancing="class_weights"), 0, 0)
    batch = rows.batch(np.arange(len(rows.plan)), rng)
    totals = [batch["importance"][batch["label"] == label].sum() for label in (0, 1)]
    assert totals[0] == pytest.approx(totals[1])


def test_parts_divide_the_fold_runs():
    rounds = frozen_stages.arms_of_rounds(seeds=5, all_arms_seeds=3)
    whole = list(frozen_stages._jobs(rounds, 3, (0, 1)))
    parts = [list(frozen_stages._jobs(rounds, 3, (number, 2))) for number in (0, 1)]
    key = repr
    assert len(set(map(key, whole))) == len(whole) - 6  # seed 2 of the leak is in two rounds
    assert sorted(map(key, whole)) == sorted(map(key, [*parts[0], *parts[1]]))
    assert [seed for seed, _ in rounds] == [0, 1, 2, 3, 4, 2]


def test_views_are_the_eight_views_of_each_image():
    images = np.arange(2 * 9 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    found = stage_features.views(images)
    assert (found[:, 0] == images).all()
    assert len({view.tobytes() for view in found.reshape(16, -1)}) == 16
    assert all(sorted(view.ravel()) == sorted(images[0].ravel()) for view in found[0])
