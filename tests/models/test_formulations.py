from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from se_resnet.models import ops_fast, ops_fused, ops_plain, winograd
from se_resnet.models.folding import fold
from se_resnet.models.layers import BatchNorm, chosen, is_fast, is_fused
from se_resnet.models.resnet import create_model
from tests.helpers.marks import fully_compiled
from tests.helpers.networks import randomised

# Wide enough for Winograd's algorithm in every block.
SMALL = {"stage_sizes": (1, 1), "width": 64, "num_outputs": 4}

pytestmark = pytest.mark.compiled


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_close(actual, expected, tolerance):
    """The root mean square of the difference is at most ``tolerance`` of the expected values'."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    scale = np.sqrt(np.mean(expected**2))
    assert np.sqrt(np.mean((actual - expected) ** 2)) <= tolerance * scale


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 9, 14), (3, 1, 5)])
def test_winograd_is_a_convolution_and_so_are_its_gradients(shape):
    x, kernel, dy = draw(0, *shape, 16), draw(1, 3, 3, 16, 8), draw(2, *shape, 8)
    expected, expected_vjp = jax.vjp(lambda x, w: ops_plain.convolve(x, w, 1), x, kernel)
    actual, actual_vjp = jax.vjp(jax.jit(winograd.convolve), x, kernel)
    assert_close(actual, expected, 5e-6)
    for got, wanted in zip(actual_vjp(dy), expected_vjp(dy), strict=True):
        assert_close(got, wanted, 5e-6)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_transformed_kernel_gives_the_same_convolution_of_any_images(transposed):
    kernel = draw(1, 3, 3, 16, 8)
    transformed = winograd.transform(kernel, transposed=transposed)
    for shape in ((2, 8, 8), (1, 9, 14)):
        x = draw(0, *shape, 16)
        actual = winograd.convolve_transformed(x, transformed)
        assert_close(actual, ops_plain.convolve(x, kernel, 1), 5e-6)


def test_large_kernels_of_small_images_are_transposed():
    for side, channels, expected in ((7, 512, True), (14, 256, False), (56, 64, False)):
        kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
        shape = (1, side, side, channels)
        found = jax.eval_shape(lambda k, shape=shape: winograd.transform_for(k, shape), kernel)
        assert found.transposed is expected


@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolutions_agree(size, stride):
    x, kernel = draw(0, 2, 13, 16, 64), draw(1, size, size, 64, 64)

    def run(module):
        value, vjp = jax.vjp(lambda x, w: module.convolve(x, w, stride), x, kernel)
        return value, *vjp(draw(2, *value.shape))

    for got, wanted in zip(run(ops_fast), run(ops_plain), strict=True):
        assert_close(got, wanted, 5e-6)


def test_winograd_is_left_where_it_does_not_pay():
    kernel = np.zeros((3, 3, 64, 64), np.float32)

    def applies(shape, stride=1, dtype=jnp.float32):
        return ops_fast.winograd_applies(jax.ShapeDtypeStruct(shape, dtype), kernel, stride)

    assert applies((1, 7, 7, 64))
    assert applies((1, 56, 56, 64))
    assert not applies((1, 2, 2, 64))
    assert not applies((1, 7, 7, 32))
    assert not applies((1, 56, 56, 64), stride=2)
    assert not applies((1, 56, 56, 64), dtype=jnp.bfloat16)
    # A transformed kernel of 512 channels is not worth its making for a single small image.
    assert winograd.pays_with_transform((8, 7, 7, 512), 512)
    assert not winograd.pays_with_transform((1, 7, 7, 512), 512)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 12, 2), (1, 1, 1, 1)])
def test_max_pools_agree_exactly_where_values_tie(shape, dtype):
    # Few levels, half of them zero: nearly every window has several maxima, many at the border.
    x = jnp.maximum(jnp.round(jnp.asarray(draw(0, *shape))), 0).astype(dtype)

    def run(module):
        value, vjp = jax.vjp(module.max_pool, x)
        # Whole numbers, whose sums do not depend on their order.
        return value, *vjp(1 + jnp.arange(value.size, dtype=dtype).reshape(value.shape))

    (value, gradient), (expected, expected_gradient) = run(ops_fast), run(ops_plain)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)


def test_max_pool_shows_what_is_not_a_number():
    for place in range(9):
        x = np.zeros((1, 3, 3, 1), np.float32)
        x.reshape(-1)[place] = np.nan
        np.testing.assert_array_equal(ops_fast.max_pool(x), ops_plain.max_pool(x))


def test_the_end_of_a_block_shows_what_is_not_a_number():
    a = np.array([1, -2, np.nan, 1, np.inf], np.float32).reshape(1, 1, 1, 5)
    b = np.array([-2, 3, 0, np.nan, 1], np.float32).reshape(1, 1, 1, 5)
    np.testing.assert_array_equal(ops_fused.add_relu(a, b), nn.relu(a + b))


@pytest.mark.full_optimisation
@pytest.mark.parametrize("attention", ["se", "cbam"])
def test_the_output_of_a_block_is_computed_once(attention, monkeypatch):
    def most_read(add_relu):
        """The largest number of features of the size of a block's output that a fusion reads."""
        monkeypatch.setattr(ops_fused, "add_relu", add_relu)
        model = create_model(formulation="fast", attention=attention, stage_sizes=(6,), width=8)
        variables, images = randomised(model), draw(0, 2, 32, 32, 3)

        @jax.jit
        def gradient(params):
            apply = {**variables, "params": params}
            return jax.grad(lambda v: model.apply(v, images, train=False).sum())(apply)["params"]

        text = gradient.lower(variables["params"]).compile().as_text()
        shapes = dict(re.findall(r"%([\w.-]+) = f32\[([\d,]+)\]", text))
        reads = re.findall(r"fusion\((.*?)\), kind=kLoop", text)
        size = 2 * 8 * 8 * 32  # images, height, width and channels
        return max(
            sum(
                np.prod([int(side) for side in shapes.get(name, "0").split(",")]) == size
                for name in re.findall(r"%([\w.-]+)", operands)
            )
            for operands in reads
        )

    stored = ops_fused.add_relu
    assert most_read(stored) < most_read(lambda a, b: nn.relu(a + b))
    assert most_read(stored) <= 6  # of one block, not of all six


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_is_flax_own(train):
    x, dy = 3 + 2 * draw(0, 4, 5, 6, 7), draw(1, 4, 5, 6, 7)
    ours = BatchNorm(1e-3)
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3)
    variables = theirs.init(jax.random.key(0), x)
    jax.tree.map(
        np.testing.assert_array_equal, ours.init(jax.random.key(0), x, train=train), variables
    )
    params = {"scale": 1 + draw(2, 7) / 4, "bias": draw(3, 7)}

    def run(apply):
        value, vjp, state = jax.vjp(
            lambda x, params: apply({**variables, "params": params}, x, mutable=["batch_stats"]),
            x,
            params,
            has_aux=True,
        )
        return value, state, vjp(dy)

    actual = run(lambda *a, **k: ours.apply(*a, train=train, **k))
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-5), actual, run(theirs.apply))


def run_model(formulation, dtype, images, train, **options):
    """Logits, new statistics and the gradients of a weighted sum of the logits, by path."""
    model = create_model(formulation=formulation, **options, **SMALL).clone(dtype=dtype)
    exact = jnp.promote_types(dtype, jnp.float32)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, exact), randomised(model))
    weights = draw(1, len(images), SMALL["num_outputs"])

    @jax.jit
    def loss(params):
        logits, state = model.apply(
            {**variables, "params": params}, images, train=train, mutable=["batch_stats"]
        )
        return (weights * logits).sum(), (logits, state["batch_stats"])

    gradients, (logits, stats) = jax.grad(loss, has_aux=True)(variables["params"])
    assert np.ptp(logits) > 0
    return logits, flatten_dict(stats, sep="/"), flatten_dict(gradients, sep="/")


@pytest.mark.parametrize(
    "variant, attention, size, train",
    [
        fully_compiled("v1", "se", (64, 64), True),
        ("v1.5", "none", (33, 47), True),
        fully_compiled("v1", "none", (33, 47), False),
        fully_compiled("v1.5", "se", (64, 64), False),
    ],
)
def test_formulations_are_the_same_function(variant, attention, size, train, monkeypatch):
    # In float64, where no ReLU's input is so near zero that rounding opens it on one side only:
    # such a pixel's whole part would be missing from a gradient.
    seen = []
    monkeypatch.setattr(winograd, "convolve", spy(winograd.convolve, seen))
    jax.config.update("jax_enable_x64", True)
    try:
        actual, expected = (
            run_model(
                formulation,
                "float64",
                draw(0, 4, *size, 3),
                train,
                variant=variant,
                attention=attention,
            )
            for formulation in ("fast", "plain")
        )
    finally:
        jax.config.update("jax_enable_x64", False)
    assert len(seen) >= (2 if variant == "v1" else 1)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-9), actual, expected)


@pytest.mark.parametrize(
    "variant, attention",
    [("v1", "se"), fully_compiled("v1.5", "none"), fully_compiled("v1", "cbam")],
)
def test_the_fused_formulation_is_the_same_function(variant, attention, monkeypatch):
    seen = []
    monkeypatch.setattr(ops_fused, "pixel_sums", spy(ops_fused.pixel_sums, seen))
    jax.config.update("jax_enable_x64", True)
    try:
        images = draw(0, 4, 33, 47, 3)
        actual, expected = (
            run_model(formulation, "float64", images, True, variant=variant, attention=attention)
            for formulation in ("fused", "plain")
        )
    finally:
        jax.config.update("jax_enable_x64", False)
    terms = {arguments[0].__name__ for arguments in seen}
    end = {"_scale_add_relu_terms"} if attention != "cbam" else set()
    assert terms == {"_powers", "_scale_terms", "_scale_relu_terms"} | end
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-9), actual, expected)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 0.005)])
def test_fused_operations_are_those_written_out(dtype, tolerance):
    x, shortcut, dy = (jnp.asarray(draw(seed, 2, 5, 4, 8), dtype) for seed in range(3))
    of_channel, of_image = draw(3, 2, 8), draw(4, 2, 2, 8)
    exact = x.astype(jnp.float32)

    def written_out(x, factor, offset, shortcut):
        return nn.relu(shortcut + x * factor[:, None, None] + offset[:, None, None]).astype(x.dtype)

    cases = [
        (ops_fused.scale, lambda x, f, o: (x * f + o).astype(x.dtype), (x, *of_channel)),
        (
            ops_fused.scale_relu,
            lambda x, f, o: nn.relu(x * f + o).astype(x.dtype),
            (x, *of_channel),
        ),
        (ops_fused.scale_add_relu, written_out, (x, *of_image, shortcut)),
    ]
    for fused, expected, arguments in cases:
        got, got_vjp = jax.vjp(jax.jit(fused), *arguments)
        wanted, wanted_vjp = jax.vjp(expected, *arguments)
        assert got.dtype == dtype
        assert_close(got, wanted, tolerance)
        for actual, reference in zip(got_vjp(dy), wanted_vjp(dy), strict=True):
            assert actual.dtype == reference.dtype
            assert_close(actual, reference, tolerance)
    for per_image in (False, True):
        mean, square, means = ops_fused.moments(x, per_image)
        assert_close(mean, exact.mean((0, 1, 2)), 1e-6)
        assert_close(square, jnp.square(exact).mean((0, 1, 2)), 1e-6)
        assert not per_image or means.shape == (2, 8)
    assert_close(means, exact.mean((1, 2)), 1e-6)


@pytest.mark.compiled
@pytest.mark.full_optimisation
@pytest.mark.parametrize("formulation", ["fast", "fused"])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("bfloat16", 0.05)])
def test_formulations_agree_up_to_rounding(dtype, tolerance, formulation):
    images = draw(0, 4, 33, 47, 3)
    actual, expected = (run_model(name, dtype, images, True) for name in (formulation, "plain"))
    assert actual[0].dtype == jnp.float32
    # Each convolution's error is about 1e-6 of its output; normalisation hands it on.
    jax.tree.map(lambda a, b: assert_close(a, b, tolerance), actual[:2], expected[:2])


@pytest.mark.parametrize("formulation", ["fast", fully_compiled("plain")])
@pytest.mark.parametrize("variant, attention", [("v1", "se"), fully_compiled("v1.5", "none")])
def test_folding_leaves_the_logits_alone(formulation, variant, attention):
    model = create_model(formulation=formulation, variant=variant, attention=attention, **SMALL)
    variables, images = randomised(model), draw(0, 3, 64, 64, 3)
    folded = jax.jit(lambda v: fold(model, v, (64, 64)))(variables)
    apply = jax.jit(lambda v: model.apply(v, images, train=False))
    assert_close(apply(folded), apply(variables), 1e-5)
    # No normalisation is left, and the kernels that were transformed are used.
    assert not [path for path in flatten_dict(folded["params"]) if path[-1] == "scale"]
    assert "batch_stats" not in folded
    transformed = folded.get("transformed", {})
    assert (
        len(flatten_dict(transformed))
        == {"plain": 0, "fast": 2 if variant == "v1" else 1}[formulation]
    )
    if formulation == "fast":
        zeros = jax.tree.map(jnp.zeros_like, transformed)
        assert np.ptp(apply({**folded, "transformed": zeros}) - apply(folded)) > 0


def test_auto_is_chosen_by_platform(monkeypatch):
    for platform, expected in (("cpu", "fast"), ("gpu", "plain"), ("tpu", "plain")):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        assert chosen("auto") == expected
        assert [is_fast("auto"), is_fused("auto")] == [expected == "fast", expected == "fused"]
    assert [chosen(name) for name in ("plain", "fast", "fused")] == ["plain", "fast", "fused"]


def spy(function, calls):
    def called(*args, **options):
        calls.append(args)
        return function(*args, **options)

    return called
