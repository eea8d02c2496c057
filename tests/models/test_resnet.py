from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from se_resnet.errors import UserError
from se_resnet.models.layers import Conv
from se_resnet.models.resnet import VARIANTS, count_parameters, create_model, flops
from tests.helpers.marks import compiled
from tests.helpers.networks import randomised, shapes_of

TINY = {"stage_sizes": (2, 1), "width": 8}
IMAGES = jax.random.normal(jax.random.key(7), (3, 33, 47, 3))


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_is_a_padded_convolution_and_so_are_its_gradients(size, stride):
    conv = Conv(4, size, stride)
    variables = conv.init(jax.random.key(0), IMAGES)
    kernel, pad = variables["params"]["kernel"], (size - 1) // 2

    def reference(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=dimensions
        )

    def actual(x, kernel):
        return conv.apply({"params": {"kernel": kernel}}, x)

    assert kernel.shape == (size, size, 3, 4)
    np.testing.assert_allclose(actual(IMAGES, kernel), reference(IMAGES, kernel), atol=1e-5)
    gradients = [
        jax.grad(lambda *a, f=f: (f(*a) ** 2).sum(), argnums=(0, 1))(IMAGES, kernel)
        for f in (actual, reference)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), *gradients)


def test_parameter_counts_of_resnet50():
    shapes = shapes_of(create_model(attention="none"))
    assert count_parameters(shapes["params"]) == 23_508_032 + 2048 + 1
    assert count_parameters(shapes["batch_stats"]) == 53_120
    with_se = count_parameters(shapes_of(create_model(attention="se"))["params"])
    gates = sum(
        n * (2 * c * (c // 16) + c // 16 + c)
        for n, c in zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True)
    )
    assert with_se == 23_508_032 + 2049 + gates


def test_variables_are_named_as_documented():
    paths = set(flatten_dict(shapes_of(create_model(**TINY))["params"], sep="/"))
    block = {f"conv{i}/kernel" for i in (1, 2, 3)}
    block |= {f"norm{i}/{p}" for i in (1, 2, 3) for p in ("scale", "bias")}
    block |= {f"attention/{d}/{p}" for d in ("reduce", "expand") for p in ("kernel", "bias")}
    projection = {f"projection/{p}" for p in ("conv/kernel", "norm/scale", "norm/bias")}
    assert paths == (
        {"stem/conv/kernel", "stem/norm/scale", "stem/norm/bias", "head/kernel", "head/bias"}
        | {f"stage1/block1/{p}" for p in block | projection}
        | {f"stage1/block2/{p}" for p in block}
        | {f"stage2/block1/{p}" for p in block | projection}
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_stage_shapes_at_an_odd_size(variant):
    model = create_model(variant=variant, stage_sizes=(1, 1, 1, 1), width=8, num_outputs=5)
    logits, stages = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, return_stages=True),
        shapes_of(model),
        jnp.zeros((2, 129, 97, 3)),
    )
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.float32
    assert {name: stage.shape for name, stage in stages.items()} == {
        "stem": (2, 33, 25, 8),
        "stage1": (2, 33, 25, 32),
        "stage2": (2, 17, 13, 64),
        "stage3": (2, 9, 7, 128),
        "stage4": (2, 5, 4, 256),
    }


@pytest.mark.compiled
@pytest.mark.parametrize("variant, sizes", [("v1", (5, 5, 5)), ("v1.5", (9, 5, 5))])
def test_variants_take_the_stride_in_different_convolutions(variant, sizes):
    model = create_model(variant=variant, **TINY)
    _, state = model.apply(
        randomised(model),
        IMAGES,
        train=False,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    block = state["intermediates"]["stage2"]["block1"]
    assert tuple(block[f"conv{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)) == sizes


@pytest.mark.compiled
@pytest.mark.full_optimisation
@pytest.mark.parametrize("position", ["branch", compiled("stage")])
@pytest.mark.parametrize("train", [False, compiled(True)])
def test_new_gates_leave_the_logits_alone_bit_for_bit(position, train):
    plain, se = (
        create_model(attention=name, attention_position=position, num_outputs=4, **TINY)
        for name in ("none", "se")
    )
    expected_variables = randomised(plain)
    trained = flatten_dict(expected_variables)
    fresh = flatten_dict(jax.jit(lambda key: se.init(key, IMAGES, train=False))(jax.random.key(3)))
    assert trained.keys() < fresh.keys()
    actual_variables = unflatten_dict({path: trained.get(path, fresh[path]) for path in fresh})

    def apply(model, variables):
        return jax.jit(lambda v: model.apply(v, IMAGES, train=train, mutable=["batch_stats"]))(
            variables
        )

    expected, expected_state = apply(plain, expected_variables)
    actual, actual_state = apply(se, actual_variables)
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(actual, expected)
    jax.tree.map(np.testing.assert_array_equal, actual_state, expected_state)


def test_attention_position_decides_where_the_gates_are():
    def places(position):
        params = shapes_of(create_model(attention_position=position, **TINY))["params"]
        paths = flatten_dict(params, sep="/")
        return {path.split("/attention")[0] for path in paths if "/attention/" in path}

    assert places("branch") == {"stage1/block1", "stage1/block2", "stage2/block1"}
    assert places("stage") == {"stage1", "stage2"}


def test_attention_acts_before_the_addition_in_a_branch():
    model = create_model(stage_sizes=(1,), width=8)
    variables = randomised(model)
    # A gate of 2 * sigmoid(-1e4) = 0 removes the residual branch and leaves the projection.
    gate = variables["params"]["stage1"]["block1"]["attention"]["expand"]
    gate["kernel"] = np.zeros_like(gate["kernel"])
    gate["bias"] = np.full_like(gate["bias"], -1e4)
    (_, stages), state = model.apply(
        variables,
        IMAGES,
        train=False,
        return_stages=True,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    projection = state["intermediates"]["stage1"]["block1"]["projection"]["__call__"][0]
    np.testing.assert_array_equal(stages["stage1"], nn.relu(projection))


def test_attention_acts_on_the_output_of_a_stage():
    model = create_model(stage_sizes=(1,), width=8, attention_position="stage")
    variables = randomised(model)
    gate = variables["params"]["stage1"]["attention"]["expand"]
    gate["bias"] = np.full_like(gate["bias"], -1e4)
    _, stages = model.apply(variables, IMAGES, train=False, return_stages=True)
    np.testing.assert_array_equal(stages["stage1"], np.zeros_like(stages["stage1"]))


def test_options_reach_the_attention_module():
    model = create_model(attention_options={"reduction": 2}, **TINY)
    kernel = shapes_of(model)["params"]["stage1"]["block1"]["attention"]["reduce"]["kernel"]
    assert kernel.shape == (32, 16)


def test_training_moves_running_statistics_a_tenth_of_the_way():
    model = create_model(**TINY)
    variables = randomised(model)
    _, state = model.apply(
        variables,
        IMAGES,
        train=True,
        capture_intermediates=lambda module, _: module.name == "conv",
        mutable=["batch_stats", "intermediates"],
    )
    conv = np.asarray(state["intermediates"]["stem"]["conv"]["__call__"][0])
    old, new = variables["batch_stats"]["stem"]["norm"], state["batch_stats"]["stem"]["norm"]
    for key, value in (("mean", conv.mean((0, 1, 2))), ("var", conv.var((0, 1, 2)))):
        np.testing.assert_allclose(new[key], 0.9 * old[key] + 0.1 * value, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).all()), variables["batch_stats"], state["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))


def test_evaluation_mixes_no_images_and_changes_no_statistics():
    model = create_model(num_outputs=4, **TINY)
    variables = randomised(model)
    logits, state = model.apply(variables, IMAGES, train=False, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])
    alone = model.apply(variables, IMAGES[:1], train=False)
    np.testing.assert_allclose(logits[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize("position", ["branch", compiled("stage")])
def test_gradients_reach_every_parameter(position):
    # With fewer hidden units some blocks' would all be dead for these few images.
    model = create_model(attention_position=position, attention_options={"reduction": 4}, **TINY)
    variables = randomised(model)

    @jax.jit
    def loss(params):
        logits, _ = model.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            IMAGES,
            train=True,
            mutable=["batch_stats"],
        )
        return (jnp.asarray([1.0, -2.0, 3.0])[:, None] * logits).sum()

    gradients = flatten_dict(jax.grad(loss)(variables["params"]), sep="/")
    assert [path for path, g in gradients.items() if not np.abs(g).max() > 0] == []


def test_first_loss_is_ln_2():
    model = create_model(**TINY)
    variables = jax.jit(lambda key: model.init(key, IMAGES, train=False))(jax.random.key(0))
    np.testing.assert_array_equal(model.apply(variables, IMAGES, train=False), np.zeros((3, 1)))


def test_models_made_alike_are_equal_and_hashable():
    a, b = (create_model(attention_options={"reduction": 8}, stage_sizes=[1, 1]) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != create_model(attention_options={"reduction": 4}, stage_sizes=[1, 1])


@pytest.mark.parametrize("variant, giga", [("v1", 7.4), ("v1.5", 8.0)])
def test_flops_of_resnet50(variant, giga):
    # torchvision states 4.09 billion multiply-adds for v1.5 and Keras' v1 has 3.86; XLA leaves out
    # those that meet the padding.
    operations = flops(create_model(attention="none", variant=variant), (224, 224))
    assert operations == pytest.approx(giga * 1e9, rel=0.03)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"variant": "v2"}, ["variant", "'v2'", "v1.5"]),
        ({"attention_position": "block"}, ["attention_position", "'block'", "branch, stage"]),
        ({"formulation": "slow"}, ["formulation", "'slow'", "auto, plain, fast"]),
        ({"dtype": "float16"}, ["dtype", "'float16'", "float32, bfloat16"]),
        ({"attention": "nope"}, ["'nope'", "none, se"]),
        ({"attention_options": {"gate": "soft"}}, ["'soft'"]),
        ({"bn_epsilon": 0.0}, ["bn_epsilon"]),
        ({"bn_epsilon": float("nan")}, ["bn_epsilon"]),
        ({"stage_sizes": ()}, ["stage_sizes"]),
        ({"stage_sizes": (3, 0)}, ["stage_sizes"]),
        ({"width": 0}, ["width"]),
        ({"num_outputs": 1.5}, ["num_outputs"]),
    ],
)
def test_mistakes_are_named(values, words):
    with pytest.raises(UserError) as error:
        create_model(**values)
    assert all(word in str(error.value) for word in words)
