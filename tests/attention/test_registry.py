"""What every attention module in the registry promises, by itself and in a network."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from configs import breakhis
from se_resnet import attention, explain
from se_resnet.attention import registry
from se_resnet.errors import UserError
from se_resnet.models.classifier import Classifier
from se_resnet.models.folding import fold
from se_resnet.models.resnet import create_model
from se_resnet.training.config import check_config
from se_resnet.weights import pretrained
from tests.helpers.marks import fully_compiled
from tests.helpers.networks import options_of, randomised

FEATURES = jax.random.normal(jax.random.key(1), (2, 7, 5, 32))
IMAGES = jax.random.normal(jax.random.key(2), (2, 23, 17, 3))
NAMES = list(attention.REGISTRY)
FEW = [name if name in ("se", "coord") else fully_compiled(name) for name in NAMES]
WITHOUT_IDENTITY = {"simam"}
CHANNEL_GATES = {"se", "ese", "eca", "cbam"}


def network(name, **values):
    options = {} if name == "none" else options_of(name, reduction=4)
    return create_model(
        attention=name, attention_options=options, stage_sizes=(1,), width=4, **values
    )


# Not jitted: the operations that the networks share are compiled once for all of them.
def apply(model, variables, train=False):
    return model.apply(variables, IMAGES, train=train, mutable=["batch_stats"] if train else False)


def apply_folded(model, variables):
    return model.apply(fold(model, variables, IMAGES.shape[1:3]), IMAGES, train=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 7, 5, 32), (1, 1, 1, 4)])
@pytest.mark.parametrize("name", NAMES)
def test_a_module_keeps_shape_and_dtype_with_float32_parameters(name, shape, dtype):
    features = jax.random.normal(jax.random.key(0), shape, dtype)
    output, variables = attention.create(name).init_with_output(jax.random.key(0), features)
    assert (output.shape, output.dtype) == (shape, features.dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype("float32")}
    exact = attention.create(name).apply(variables, features.astype("float32"))
    np.testing.assert_allclose(output.astype("float32"), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_IDENTITY))
def test_a_new_module_is_exactly_the_identity(name):
    output, _ = attention.create(name).init_with_output(jax.random.key(0), FEATURES)
    np.testing.assert_array_equal(output, FEATURES)


@pytest.mark.parametrize("name", [name for name in NAMES if options_of(name, gate=0)])
def test_the_gates_of_the_papers_do_not_start_as_identity(name):
    module = attention.create(name, gate="sigmoid")
    output, _ = module.init_with_output(jax.random.key(0), FEATURES)
    assert np.abs(output).max() < np.abs(FEATURES).max()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_after_one_step(name):
    module = attention.create(name, **options_of(name, reduction=4))
    params = module.init(jax.random.key(0), FEATURES).get("params", {})
    weights = jax.random.normal(jax.random.key(3), FEATURES.shape)
    slope = jax.jit(
        jax.grad(lambda p, x: (weights * module.apply({"params": p}, x)).sum(), argnums=(0, 1))
    )

    def touched(params):
        gradient, by_input = slope(params, FEATURES)
        assert np.isfinite(by_input).all() and np.abs(by_input).max() > 0
        return gradient, {k for k, v in flatten_dict(gradient).items() if np.abs(v).max() > 0}

    gradient, first = touched(params)
    zeros = {k for k, v in flatten_dict(params).items() if not v.any() and k[0] != "norm"}
    blocked = {k for k in zeros if k[0] in ("reduce", "shared")}  # biases before the zero layer
    assert first >= zeros - blocked
    assert bool(first) == bool(params)
    moved = jax.tree.map(lambda p, g: p - 0.001 * g, params, gradient)
    assert touched(moved)[1] == set(flatten_dict(params))


@pytest.mark.compiled
@pytest.mark.parametrize("position", ["branch", fully_compiled("stage")])
@pytest.mark.parametrize("name", FEW)
def test_formulations_and_folding_compute_the_same_function(name, position):
    logits = []
    for formulation in ("plain", "fast"):
        model = network(name, attention_position=position, formulation=formulation)
        variables = randomised(model)
        if formulation == "plain":
            logits.append(apply(model, variables))
        logits.append(apply_folded(model, variables))
    assert np.ptp(logits[0]) > 0
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], rtol=1e-3, atol=1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("formulation", [fully_compiled("plain"), "fast"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_IDENTITY))
def test_new_modules_leave_the_logits_of_a_network_alone(name, formulation):
    base = randomised(network("none"))
    model = network(name, formulation=formulation)
    fresh = flatten_dict(model.init(jax.random.key(3), IMAGES, train=False))
    variables = unflatten_dict({**fresh, **flatten_dict(base)})
    expected = apply(network("none", formulation=formulation), base)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(apply(model, variables), expected, rtol=1e-6)


@functools.cache
def logits_at_the_start(name, dtype):
    """Of a network with a new module and otherwise the same parameters, compiled."""
    model = network(name, formulation="fast", dtype=dtype)
    fresh = flatten_dict(jax.jit(lambda key: model.init(key, IMAGES, False))(jax.random.key(3)))
    variables = unflatten_dict({**fresh, **flatten_dict(randomised(network("none")))})
    return np.asarray(jax.jit(lambda v: model.apply(v, IMAGES, train=False))(variables))


@pytest.mark.full_optimisation
@pytest.mark.compiled
@pytest.mark.parametrize("name, exact", [("se", True), ("coord", False)])
def test_in_bfloat16_new_channel_gates_keep_the_logits_exactly(name, exact):
    expected = logits_at_the_start("none", "bfloat16")
    rounding = 0 if exact else 2**-7 * np.abs(expected).max()
    np.testing.assert_allclose(logits_at_the_start(name, "bfloat16"), expected, 0, rounding)


@pytest.mark.compiled
@pytest.mark.parametrize("formulation", [fully_compiled("plain"), "fast"])
@pytest.mark.parametrize("name", FEW)
def test_a_network_trains_in_bfloat16(name, formulation):
    model = network(name, formulation=formulation, dtype="bfloat16")
    variables = randomised(model)
    logits, state = apply(model, variables, train=True)
    assert logits.dtype == jnp.float32 and np.isfinite(logits).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", NAMES)
def test_gates_are_told_where_they_are_of_whole_channels(name):
    preprocessing = pretrained.load("none").preprocessing
    classifier = Classifier(network(name), preprocessing, (23, 17), "squash")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 23, 17, 3), np.uint8)
    gates = explain.gates(classifier, randomised(classifier.model), pixels)
    shapes = {place: values.shape for place, values in gates.items()}
    expected = {"stage1/block1": (2, 16)}
    assert shapes == (expected if name in CHANNEL_GATES else {})
    assert all(np.ptp(values) > 0 for values in gates.values())


def test_none_is_no_module():
    assert attention.create("none") is None


OPTIONS = "config.model.attention_options"


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("sé", {}, ["config.model.attention", "'sé'", ", ".join(["none", *NAMES])]),
        ("se", {"ratio": 4}, [OPTIONS, "'se'", "ratio", "gate, reduction"]),
        ("none", {"reduction": 4}, [OPTIONS, "reduction"]),
        ("ese", {"reduction": 4}, [OPTIONS, "reduction", "gate"]),
        ("eca", {"gamma": 0}, [f"{OPTIONS}.gamma", "0", "positive"]),
        ("eca", {"b": "one"}, [f"{OPTIONS}.b", "'one'"]),
        ("simam", {"regularisation": float("inf")}, [f"{OPTIONS}.regularisation", "inf"]),
        *((n, {"gate": "hard"}, ["'hard'", "identity"]) for n in NAMES if options_of(n, gate=0)),
        *(
            (n, {"reduction": value}, [f"{OPTIONS}.reduction", str(value)])
            for n in NAMES
            for value in (0, 2.5)
            if options_of(n, reduction=0)
        ),
    ],
)
def test_mistakes_are_named(name, options, words):
    with pytest.raises(UserError) as error:
        attention.create(name, **options)
    assert all(word in str(error.value) for word in words)


def test_a_registered_module_can_be_made_by_name(monkeypatch):
    monkeypatch.setattr(registry, "REGISTRY", dict(attention.REGISTRY))

    @attention.register("double")
    class Double(nn.Module):
        factor: float

        def __call__(self, features):
            return self.factor * features

    assert isinstance(attention.create("double", factor=3.0), Double)
    with pytest.raises(UserError, match="attention_options.factor"):
        attention.create("double")
    for taken in ("double", "none"):
        with pytest.raises(ValueError, match=taken):
            attention.register(taken)


def test_a_configuration_is_refused_before_any_work():
    config = breakhis.get_config()
    config.model.attention_options = {"reduction": 8}
    check_config(config)
    assert isinstance(config.model.attention_options, ConfigDict)
    config.model.attention = "simam"
    with pytest.raises(UserError, match="attention_options: attention module 'simam'"):
        check_config(config)


@pytest.mark.parametrize("formulation", ["plain", "fast"])
@pytest.mark.parametrize("position", ["branch", "stage"])
def test_another_shape_is_refused_and_another_dtype_is_not(formulation, position, monkeypatch):
    class Pooled(nn.Module):
        def __call__(self, features):
            return features.mean((1, 2), keepdims=True)

    class Pair(nn.Module):
        def __call__(self, features):
            return features, features

    class OneGate(attention.ChannelGate):
        def gates(self, means):
            return means[:, :1]

    class Double(nn.Module):
        def __call__(self, features):
            return 2 * features.astype("float32")

    def logits(module):
        monkeypatch.setitem(attention.REGISTRY, "mine", module)
        model = network(
            "mine", formulation=formulation, attention_position=position, dtype="bfloat16"
        )
        return jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), IMAGES, False)[0])

    for module, words in ((Pooled, "1, 1, 16"), (Pair, "tuple"), (OneGate, "2, 1]")):
        with pytest.raises(UserError) as error:
            logits(module)
        assert f"test_registry:{module.__name__}" in str(error.value) and words in str(error.value)
    assert logits(Double).shape == (2, 1)


def test_statistics_of_a_modules_own_survive_folding(monkeypatch):
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, features):
            return nn.BatchNorm(use_running_average=True)(features)

    monkeypatch.setitem(attention.REGISTRY, "normalised", Normalised)
    model = network("normalised")
    variables = randomised(model)
    actual, expected = apply_folded(model, variables), apply(model, variables)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
