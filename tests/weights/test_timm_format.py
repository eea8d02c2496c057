"""Our networks under timm's names; that torch then computes the same is in test_parity_torch.py."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

import se_resnet
from se_resnet.errors import UserError
from se_resnet.models.preprocessing import CAFFE, IMAGENET
from se_resnet.models.resnet import create_model
from se_resnet.weights import layout as layouts
from se_resnet.weights import pretrained
from se_resnet.weights.timm_format import timm_config, to_timm
from tests.helpers.networks import randomised

FITTING = {"variant": "v1.5", "bn_epsilon": 1e-5, "stage_sizes": (1, 1, 1, 1)}
PLAIN_GATES = {"gate": "sigmoid"}


@pytest.mark.parametrize("attention", ["none", "se"])
def test_the_way_back_gives_the_same_variables(attention):
    options = PLAIN_GATES if attention == "se" else {}
    changed = {"stage_sizes": (2, 1, 1, 1), "attention": attention, "attention_options": options}
    model = create_model(**{**FITTING, **changed})
    variables = randomised(model)
    layout = layouts.recognise(to_timm(model, variables), "test")
    ours = flatten_dict(variables, sep="/")
    assert layout.attention == attention and layout.variables.keys() == ours.keys()
    for path, value in ours.items():
        np.testing.assert_array_equal(layout.variables[path], value, err_msg=path)


def test_gates_that_start_as_identity_become_plain_sigmoids():
    model = create_model(**FITTING)
    variables = randomised(model)
    layout = layouts.recognise(to_timm(model, variables), "test")
    plain = create_model(**FITTING, attention_options=layout.attention_options)
    assert plain.attention_options["gate"] == "sigmoid"
    images = np.random.default_rng(0).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    logits = [
        jax.jit(lambda v, m=m: m.apply(v, images, train=False))(values)
        for m, values in ((model, variables), (plain, unflatten_dict(layout.variables, sep="/")))
    ]
    assert np.ptp(logits[0]) > 0
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5 * np.abs(logits[0]).max())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "v1"}, "first 1x1 convolutions"),
        ({"attention": "eca"}, "'eca' is not that of timm's"),
        ({"attention_position": "stage"}, "gates sit at 'stage'"),
        ({"attention_options": {"reduction": 8}}, "reduce 8-fold"),
        ({"bn_epsilon": 1e-3}, "add 0.001, timm's 1e-05"),
        ({"width": 32}, "stem of 32 channels"),
        ({"stage_sizes": (1, 1)}, "2 stages"),
    ],
)
def test_what_timm_has_not_is_refused_with_the_reason(change, words):
    with pytest.raises(UserError, match=words):
        to_timm(create_model(**{**FITTING, **change}), {})


def fitting(run, preprocessing=IMAGENET, **change):
    """The run's predictor with a network that timm has."""
    predictor = se_resnet.load_run(run)
    model = create_model(**FITTING, **change)
    classifier = dataclasses.replace(
        predictor.run.classifier, model=model, preprocessing=preprocessing
    )
    changed = dataclasses.replace(
        predictor.run, classifier=classifier, members=(randomised(model),)
    )
    return dataclasses.replace(predictor, run=changed)


def test_a_package_of_timm_is_written_and_told_apart(run, tmp_path):
    folder = se_resnet.save_pretrained(fitting(run), tmp_path / "timm", naming="timm")
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "seresnet50" and config["num_classes"] == 1
    assert config["model_args"] == {"layers": [1, 1, 1, 1]}
    assert config["pretrained_cfg"]["input_size"] == [3, 16, 16]
    np.testing.assert_allclose(config["pretrained_cfg"]["mean"], IMAGENET.mean)
    np.testing.assert_allclose(config["pretrained_cfg"]["std"], IMAGENET.std)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    assert tensors["layer1.0.se.fc1.weight"].shape == (16, 256, 1, 1)
    assert "timm.create_model" in (folder / "README.md").read_text()
    with pytest.raises(UserError, match="is a package for timm"):
        se_resnet.from_pretrained(folder)
    assert pretrained.load(str(folder)).attention == "se"  # it may start another training


def test_what_is_refused_leaves_no_folder(run, tmp_path):
    with pytest.raises(UserError, match="timm's ResNet cannot hold this network"):
        se_resnet.save_pretrained(run, tmp_path / "timm", naming="timm")
    with pytest.raises(UserError, match="BGR"):
        se_resnet.save_pretrained(fitting(run, CAFFE), tmp_path / "timm", naming="timm")
    assert not (tmp_path / "timm").exists()


def test_depths_have_their_own_names(run):
    classifier = fitting(run).run.classifier
    deep = create_model(**{**FITTING, "stage_sizes": (3, 4, 23, 3)}, attention="none")
    config = timm_config(dataclasses.replace(classifier, model=deep))
    assert config["architecture"] == "resnet101" and "model_args" not in config
