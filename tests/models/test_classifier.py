"""What a checkpoint carries besides weights, and what the computing dtype changes."""

from __future__ import annotations

import json
import tempfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from configs import smoke
from se_resnet import explain
from se_resnet.errors import UserError
from se_resnet.models.classifier import Classifier
from se_resnet.models.preprocessing import IMAGENET
from se_resnet.models.resnet import create_model
from se_resnet.runs.run_folder import RunFolder
from se_resnet.training.config import check_config
from tests.helpers.networks import randomised, tiny_classifier

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 33, 47, 3), np.uint8)


def configured(dtype: str, formulation: str = "auto") -> Classifier:
    config = smoke.get_config()
    config.model.update(
        stage_sizes=(1, 1), width=16, dtype=dtype, formulation=formulation, pretrained="none"
    )
    config.data.size = IMAGES.shape[1:3]
    with tempfile.TemporaryDirectory() as workdir:
        return train.build_model(config, RunFolder(workdir))[0]


def logits_of(classifier: Classifier) -> np.ndarray:
    batch = {"image": IMAGES, "mask": np.ones(len(IMAGES), bool)}
    return classifier.make_predict()([randomised(classifier.model)], [batch])[0]


@pytest.mark.full_optimisation
@pytest.mark.compiled
@pytest.mark.parametrize("formulation", ["plain", "fast"])
def test_bfloat16_computes_the_same_function_in_less_memory(formulation):
    coarse, exact = (configured(dtype, formulation) for dtype in ("bfloat16", "float32"))
    variables, inputs = randomised(coarse.model), coarse.preprocessing(IMAGES)
    for train_mode in (True, False):
        (logits, stages), updates = jax.eval_shape(
            lambda x, mode=train_mode: coarse.model.apply(
                variables, x, train=mode, return_stages=True, mutable=["batch_stats"]
            ),
            inputs,
        )
        assert {leaf.dtype for leaf in stages.values()} == {jnp.dtype(jnp.bfloat16)}
        assert logits.dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.float32)}
    shapes = jax.tree.leaves(coarse.abstract_variables())
    assert {leaf.dtype for leaf in shapes} == {jnp.dtype(jnp.float32)}
    # Folded: predictions are what a training run's validation sees.
    found, wanted = logits_of(coarse), logits_of(exact)
    unfolded = jax.jit(lambda v: coarse.model.apply(v, inputs, train=False))(variables)
    assert np.abs(found - wanted).max() > 1e-5
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
    np.testing.assert_allclose(found, unfolded[:, 0], atol=0.05 * np.abs(wanted).max())


def test_the_dtype_stays_with_the_checkpoint():
    facts = json.loads(json.dumps(configured("bfloat16").as_dict()))
    assert Classifier.from_dict(facts).model.dtype == "bfloat16"
    del facts["model"]["dtype"]  # as checkpoints were written before there was a choice
    assert Classifier.from_dict(facts).model.dtype == "float32"


def test_heat_maps_are_float32_with_either():
    heats = [
        explain.grad_cam(classifier, randomised(classifier.model), IMAGES, stage="stage2", target=1)
        for classifier in (configured("bfloat16"), configured("float32"))
    ]
    assert heats[0].dtype == np.float32
    np.testing.assert_allclose(*heats, atol=0.2)


def test_an_unknown_dtype_is_refused_before_any_work():
    config = smoke.get_config()
    check_config(config)
    config.model.dtype = "float16"
    with pytest.raises(UserError, match="config.model.dtype = 'float16'.*float32, bfloat16"):
        check_config(config)


def test_one_pass_gives_logits_and_the_pooled_features_of_the_first_network():
    model = create_model(stage_sizes=(1, 1), width=4)
    classifier = Classifier(model, IMAGENET, (16, 24), "squash")
    images = np.random.default_rng(0).integers(256, size=(3, 16, 24, 3)).astype(np.uint8)
    members = [randomised(model, seed) for seed in (0, 1)]
    forward = classifier.make_predict()
    batches = [{"image": images, "mask": np.array([True, True, False])}] * 2
    logits, features = forward.with_features(members, batches)
    np.testing.assert_array_equal(logits, forward(members, batches))
    inputs = classifier.preprocessing(images)
    _, stages = model.apply(members[0], inputs, train=False, return_stages=True)
    expected = np.asarray(stages[model.stage_names[-1]]).mean(axis=(1, 2))[:2]
    np.testing.assert_allclose(features, np.concatenate([expected] * 2), rtol=1e-4, atol=1e-5)
    assert logits.shape == (2, 4) and features.dtype == np.float32


def test_a_pass_that_keeps_folded_variables_folds_each_network_once(monkeypatch):
    classifier = tiny_classifier()
    members = [randomised(classifier.model, seed) for seed in range(2)]
    batch = {"image": np.zeros((2, 16, 16, 3), np.uint8), "mask": np.ones(2, bool)}
    usual, keeping = classifier.make_predict(), classifier.make_predict(keeps_folded=True)
    expected = [usual(members, [batch]), usual(members[1:], [batch])]
    folded, fold = [], usual._fold

    def counted(variables):
        folded.append(variables)
        return fold(variables)

    monkeypatch.setattr(keeping, "_fold", counted)
    monkeypatch.setattr(usual, "_fold", counted)
    for _ in range(2):
        np.testing.assert_array_equal(keeping(members, [batch]), expected[0])
        np.testing.assert_array_equal(keeping(members[1:], [batch]), expected[1])
    assert len(folded) == 2
    for _ in range(2):
        usual(members, [batch])
    assert len(folded) == 6, "variables that may change are folded in every call"


PIXELS = IMAGES[:, :16, :16]


@pytest.mark.parametrize("count", [6, 5, 1])
def test_a_batch_computed_in_parts_has_the_results_of_one_pass(monkeypatch, count):
    classifier = tiny_classifier()
    members = [randomised(classifier.model, seed) for seed in range(2)]
    batch = {"image": PIXELS[:count], "mask": np.arange(count) != 3}

    def outputs(parts: int) -> list:
        monkeypatch.setattr("se_resnet.models.classifier._PARTS", parts)
        predict = classifier.make_predict()
        # The second call computes in threads.
        return [jax.tree.leaves(predict.with_maps(members, batch)) for _ in range(2)]

    (whole, _), divided = outputs(1), outputs(3)
    for parts in divided:
        for expected, found in zip(whole, parts, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_parts_of_a_batch_run_at_the_same_time(monkeypatch):
    monkeypatch.setattr("se_resnet.models.classifier._PARTS", 2)
    classifier = tiny_classifier()
    predict, variables = classifier.make_predict(), [randomised(classifier.model)]
    batch = {"image": PIXELS, "mask": np.ones(len(PIXELS), bool)}
    expected = predict(variables, [batch])
    together, forward = threading.Barrier(2), predict._forward

    def slow(*task):
        together.wait(timeout=60)
        return forward(*task)

    monkeypatch.setattr(predict, "_forward", slow)
    np.testing.assert_array_equal(predict(variables, [batch]), expected)
