from __future__ import annotations

import json
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from se_resnet import attention, explain
from se_resnet.errors import UserError
from se_resnet.explain import perturbation
from se_resnet.models.classifier import Classifier
from se_resnet.models.resnet import Stage, create_model
from se_resnet.weights import pretrained
from tests.helpers.marks import compiled
from tests.helpers.networks import randomised

CAMS = [explain.grad_cam, explain.grad_cam_plus_plus]
STAGES = ["stem", "stage1", "stage2"]
SIZE, SQUARE = 64, 16


def tiny(**options):
    model = create_model(**{"stage_sizes": (2, 1), "width": 8, **options})
    return Classifier(model, pretrained.load("none").preprocessing, (SIZE, SIZE), "squash")


def noise(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def run(classifier, variables, images):
    """Logits and stages of the network in evaluation mode."""
    apply = jax.jit(classifier.model.apply, static_argnames=("train", "return_stages"))
    inputs = classifier.preprocessing(images)
    logits, stages = apply(variables, inputs, train=False, return_stages=True)
    return np.asarray(logits[:, 0]), stages


def both_classes(classifier, variables, images):
    """The variables with a head bias that makes half of the images benign."""
    logits, _ = run(classifier, variables, images)
    head = variables["params"]["head"]
    shifted = {**head, "bias": head["bias"] - np.median(logits)}
    return {**variables, "params": {**variables["params"], "head": shifted}}


IMAGES = noise(4, 45, 70)
CLASSIFIER = tiny()
VARIABLES = both_classes(CLASSIFIER, randomised(CLASSIFIER.model), IMAGES)


def with_square(count, seed):
    """Faint noise, in every second image with a square of strong noise, which a blur hides.

    Returns the images, their labels and where the squares are.
    """
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0, 1, (count, SIZE, SIZE, 3))
    label = np.arange(count) % 2
    where = np.zeros((count, SIZE, SIZE), bool)
    for i in np.flatnonzero(label):
        top, left = rng.integers(0, SIZE - SQUARE, 2)
        where[i, top : top + SQUARE, left : left + SQUARE] = True
    images = 128 + pixels * np.where(where, 60, 15)[..., None]
    return images.clip(0, 255).astype(np.uint8), label, where


@pytest.fixture(scope="module")
def trained():
    """A tiny network that learned to call images with a square malignant."""
    classifier = tiny(stage_sizes=(1, 1))
    zeros = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.jit(lambda key: classifier.model.init(key, zeros, train=False))(
        jax.random.key(0)
    )
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(variables, state, images, label):
        def loss(params):
            logits, updated = classifier.model.apply(
                {**variables, "params": params},
                classifier.preprocessing(images),
                train=True,
                mutable=["batch_stats"],
            )
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], label).mean(), updated

        gradients, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimiser.update(gradients, state)
        return {"params": optax.apply_updates(variables["params"], updates), **updated}, state

    state = optimiser.init(variables["params"])
    for i in range(60):
        images, label, _ = with_square(16, seed=i)
        variables, state = step(variables, state, images, label)
    images, label, _ = with_square(64, seed=1000)
    logits, _ = run(classifier, variables, images)
    assert ((logits > 0) == label).mean() > 0.95
    return classifier, variables


def reference_cam(stage, target, plus_plus):
    """The papers' formulas, with gradients through a separately written rest of the network."""
    _, stages = run(CLASSIFIER, VARIABLES, IMAGES)
    features = stages[stage]
    model, params = CLASSIFIER.model, VARIABLES["params"]

    def rest(x):
        for i in range(STAGES.index(stage) + 1, 3):
            module = Stage(
                blocks=model.stage_sizes[i - 1],
                width=model.width * 2 ** (i - 1),
                stride=min(i, 2),
                variant=model.variant,
                bn_epsilon=model.bn_epsilon,
                attention=model.attention,
                attention_position=model.attention_position,
                attention_options=model.attention_options,
                formulation=model.formulation,
            )
            name = f"stage{i}"
            x = module.apply(
                {"params": params[name], "batch_stats": VARIABLES["batch_stats"][name]}, x, False
            )
        return x.mean(axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]

    sign = 1 if target else -1
    gradients = np.asarray(jax.grad(lambda x: (sign * rest(x)).sum())(features), np.float64)
    features = np.asarray(features, np.float64)
    if plus_plus:
        divisor = 2 * gradients**2 + features.sum(axis=(1, 2), keepdims=True) * gradients**3
        weights = np.zeros_like(gradients)
        np.divide(gradients**2, divisor, out=weights, where=gradients > 0)
        weights = (weights * np.maximum(gradients, 0)).sum(axis=(1, 2))
    else:
        weights = gradients.mean(axis=(1, 2))
    maps = np.maximum((features * weights[:, None, None]).sum(axis=-1), 0)
    maps = np.stack([cv2.resize(m, (70, 45), interpolation=cv2.INTER_LINEAR) for m in maps])
    return maps / maps.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("stage", [compiled("stem"), compiled("stage1"), "stage2"])
@pytest.mark.parametrize("target", [compiled(0), 1])
@pytest.mark.parametrize("cam", CAMS)
def test_maps_are_those_of_the_papers_for_either_class(cam, target, stage):
    heat = cam(CLASSIFIER, VARIABLES, IMAGES, stage=stage, target=target)
    assert heat.dtype == np.float32
    expected = reference_cam(stage, target, plus_plus=cam is explain.grad_cam_plus_plus)
    np.testing.assert_allclose(heat, expected, atol=1e-4)
    assert 0 <= heat.min() < heat.max() == 1


@pytest.mark.parametrize("method", [*CAMS, explain.occlusion])
def test_no_target_is_the_predicted_class(method):
    logits, _ = run(CLASSIFIER, VARIABLES, IMAGES)
    assert set(logits > 0) == {True, False}
    stage = {"stage": "stage2"} if method in CAMS else {}
    benign, malignant, predicted = (
        method(CLASSIFIER, VARIABLES, IMAGES, target=target, **stage) for target in (0, 1, None)
    )
    assert (np.abs(benign - malignant).max(axis=(1, 2)) > 1e-3).all()
    np.testing.assert_array_equal(
        predicted, np.where((logits > 0)[:, None, None], malignant, benign)
    )


def test_evidence_for_one_class_is_evidence_against_the_other():
    """In the coarse map each cell speaks for one class at most."""
    images = noise(3, 64, 64)
    benign, malignant = (
        explain.grad_cam(CLASSIFIER, VARIABLES, images, stage="stage2", target=target)
        for target in (0, 1)
    )
    # With an upscaling by 8, a pixel at the border's corner belongs to one cell alone.
    assert not (benign * malignant)[:, :4, :4].any()
    assert (benign + malignant)[:, :4, :4].any()
    benign, malignant = (
        explain.occlusion(CLASSIFIER, VARIABLES, images, target=target) for target in (0, 1)
    )
    np.testing.assert_allclose(benign, -malignant, atol=1e-6)


@pytest.mark.compiled
@pytest.mark.parametrize("height, width", [compiled(7, 100), (1, 1)])
def test_any_size(height, width):
    images = noise(2, height, width)
    for cam in CAMS:
        heat = cam(CLASSIFIER, VARIABLES, images, stage="stage2")
        assert heat.shape == (2, height, width) and np.isfinite(heat).all()
    heat = explain.occlusion(CLASSIFIER, VARIABLES, images)
    assert heat.shape == (2, height, width) and np.isfinite(heat).all()
    scores = explain.insertion_deletion(CLASSIFIER, VARIABLES, images[0], heat[0], steps=3)
    assert 0 <= scores["insertion"] <= 1 and 0 <= scores["deletion"] <= 1


@pytest.mark.compiled
@pytest.mark.parametrize(
    "method", [CAMS[0], compiled(CAMS[1]), compiled(explain.occlusion), explain.gates]
)
def test_evaluation_mode(method):
    """Other images of the batch change nothing, nor do the running statistics change."""
    stage = {"stage": "stage1"} if method in CAMS else {}
    before = jax.tree.map(np.array, VARIABLES)

    def explained(images):
        return jax.tree.leaves(method(CLASSIFIER, VARIABLES, images, **stage))

    beside = np.concatenate([IMAGES[:1], 255 - IMAGES[1:]])
    others_differ = False
    for alone, one, other in zip(*map(explained, (IMAGES[:1], IMAGES, beside)), strict=True):
        np.testing.assert_allclose(one[:1], alone, atol=2e-5)
        np.testing.assert_allclose(other[:1], alone, atol=2e-5)
        others_differ |= np.abs(one[1:] - other[1:]).max() > 1e-3
    assert others_differ
    jax.tree.map(np.testing.assert_array_equal, before, VARIABLES)


@pytest.mark.parametrize("cam", CAMS)
def test_nothing_to_see_is_zero_everywhere(cam):
    """A new head is zero: no gradient, no division by zero."""
    head = jax.tree.map(np.zeros_like, VARIABLES["params"]["head"])
    variables = {**VARIABLES, "params": {**VARIABLES["params"], "head": head}}
    heat = cam(CLASSIFIER, variables, IMAGES, stage="stage2")
    np.testing.assert_array_equal(heat, np.zeros((4, 45, 70)))


@pytest.mark.compiled
@pytest.mark.parametrize("method", [CAMS[0], compiled(CAMS[1]), compiled(explain.occlusion)])
def test_a_planted_pattern_is_found(trained, method):
    images, label, where = with_square(32, seed=2000)
    images, where = images[label == 1], where[label == 1]
    options = {"patch": 16, "stride": 8} if method is explain.occlusion else {"stage": "stage2"}
    heat = np.maximum(method(*trained, images, target=1, **options), 0)
    near = np.stack([cv2.dilate(w.astype(np.uint8), np.ones((17, 17))) for w in where]) == 1
    inside = (heat * near).sum(axis=(1, 2)) / heat.sum(axis=(1, 2))
    assert near.mean() < 0.25 and inside.mean() > 0.7
    hottest = heat.reshape(len(heat), -1).argmax(axis=1)
    found = near.reshape(len(near), -1)[np.arange(len(near)), hottest]
    assert found.mean() > 0.9


@pytest.mark.compiled
@pytest.mark.parametrize("cam", CAMS)
def test_insertion_and_deletion_prefer_the_map_to_a_random_one(trained, cam):
    images, label, _ = with_square(12, seed=3000)
    images = images[label == 1]
    heats = cam(*trained, images, stage="stage2", target=1)
    rng = np.random.default_rng(0)
    # As smooth as the map: pixels drawn one by one would lose for being unconnected.
    random = [cv2.resize(rng.random((8, 8)), (SIZE, SIZE)) for _ in range(18)]
    ours = [
        explain.insertion_deletion(*trained, *pair, target=1)
        for pair in zip(images, heats, strict=True)
    ]
    others = [
        explain.insertion_deletion(*trained, images[i % len(images)], heat, target=1)
        for i, heat in enumerate(random)
    ]

    def mean(scores, name):
        return np.mean([score[name] for score in scores])

    assert mean(ours, "insertion") > mean(others, "insertion") + 0.05
    assert mean(ours, "deletion") < mean(others, "deletion") - 0.05


def test_insertion_and_deletion_curves_by_hand():
    image = IMAGES[0]
    heat = np.zeros(image.shape[:2])
    heat[:20] = 1
    scores = explain.insertion_deletion(CLASSIFIER, VARIABLES, image, heat, steps=9, target=0)
    curves = scores["curves"]
    assert all(curve.shape == (10,) and curve.dtype == np.float64 for curve in curves.values())
    mean = np.rint(image.mean(axis=(0, 1)))
    flat = np.broadcast_to(mean, image.shape).astype(np.uint8)
    # After 4 of 9 steps the 20 of 45 rows that are hot have been taken.
    logits, _ = run(
        CLASSIFIER,
        VARIABLES,
        np.stack([image, np.concatenate([flat[:20], image[20:]]), flat]),
    )
    expected = 1 / (1 + np.exp(logits))
    np.testing.assert_allclose(curves["deletion"][[0, 4, 9]], expected, rtol=1e-4)
    np.testing.assert_allclose(curves["insertion"][9], expected[0], rtol=1e-4)
    for name in ("insertion", "deletion"):
        y = curves[name]
        assert scores[name] == pytest.approx(((y[1:] + y[:-1]) / 2).mean())
    np.testing.assert_allclose(curves["fraction"], np.arange(10) / 9)


def test_occlusion_by_hand():
    """Three squares side by side: the last, moved back to the border, overlaps the second."""
    images = noise(2, 24, 60)
    heat = explain.occlusion(
        CLASSIFIER, VARIABLES, images, patch=24, stride=24, target=1, fill=(1, 2, 3)
    )

    def probability(images):
        return 1 / (1 + np.exp(-run(CLASSIFIER, VARIABLES, images)[0]))

    drops = []
    for left in (0, 24, 36):
        covered = images.copy()
        covered[:, :, left : left + 24] = (1, 2, 3)
        drops.append(probability(images) - probability(covered))
    first, second, third = drops
    columns = [first] * 24 + [second] * 12 + [(second + third) / 2] * 12 + [third] * 12
    expected = np.broadcast_to(np.stack(columns, axis=1)[:, None], heat.shape)
    np.testing.assert_allclose(heat, expected, atol=1e-6)
    assert expected.std() > 1e-3


def test_occlusion_fills_with_the_mean_colour():
    flat = np.full((1, 40, 40, 3), (200, 100, 50), np.uint8)
    assert not explain.occlusion(CLASSIFIER, VARIABLES, flat).any()


def test_occlusion_holds_few_images_at_once(monkeypatch):
    whole = explain.occlusion(CLASSIFIER, VARIABLES, IMAGES, patch=8, stride=8)
    sizes = []
    predict = perturbation._predict(CLASSIFIER)

    def watched(variables, batches):
        def watch():
            for batch in batches:
                sizes.append(batch["image"].shape)
                yield batch

        return predict(variables, watch())

    monkeypatch.setattr(perturbation, "_BATCH", 5)
    monkeypatch.setattr(perturbation, "_predict", lambda classifier: watched)
    parts = explain.occlusion(CLASSIFIER, VARIABLES, IMAGES, patch=8, stride=8)
    assert set(sizes) == {(5, 45, 70, 3)}
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: explain.grad_cam(CLASSIFIER, VARIABLES, IMAGES, stage="stage4"),
            ["'stage4'", *STAGES],
        ),
        (lambda: explain.grad_cam(CLASSIFIER, VARIABLES, IMAGES, stage="stage2", target=2), ["2"]),
        (lambda: explain.occlusion(CLASSIFIER, VARIABLES, IMAGES, target=-1), ["-1"]),
        (lambda: explain.occlusion(CLASSIFIER, VARIABLES, IMAGES, stride=33), ["33", "32"]),
        (lambda: explain.occlusion(CLASSIFIER, VARIABLES, IMAGES, stride=0), ["0"]),
        (
            lambda: explain.insertion_deletion(
                CLASSIFIER, VARIABLES, IMAGES[0], IMAGES[0, ..., 0], steps=0
            ),
            ["0"],
        ),
    ],
)
def test_mistakes_are_told(call, words):
    with pytest.raises(UserError) as error:
        call()
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("gate, factor", [("identity", 2), ("sigmoid", 1)])
def test_gates_are_those_computed_from_the_parameters(gate, factor):
    classifier = tiny(attention_options={"reduction": 4, "gate": gate}, stage_sizes=(1,))
    variables = randomised(classifier.model)
    found = explain.gates(classifier, variables, IMAGES)
    assert list(found) == ["stage1/block1"]

    _, stages = run(classifier, variables, IMAGES)
    block = variables["params"]["stage1"]["block1"]
    statistics = variables["batch_stats"]["stage1"]["block1"]
    x = np.asarray(stages["stem"])
    for i in (1, 2, 3):
        x = np.asarray(
            jax.lax.conv_general_dilated(
                x, block[f"conv{i}"]["kernel"], (1, 1), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        )  # fmt: skip
        norm, running = block[f"norm{i}"], statistics[f"norm{i}"]
        scale = norm["scale"] / np.sqrt(running["var"] + classifier.model.bn_epsilon)
        x = (x - running["mean"]) * scale + norm["bias"]
        if i < 3:
            x = np.maximum(x, 0)
    reduce, expand = block["attention"]["reduce"], block["attention"]["expand"]
    hidden = np.maximum(x.mean(axis=(1, 2)) @ reduce["kernel"] + reduce["bias"], 0)
    expected = factor / (1 + np.exp(-(hidden @ expand["kernel"] + expand["bias"])))
    np.testing.assert_allclose(found["stage1/block1"], expected, rtol=1e-4)
    assert found["stage1/block1"].dtype == np.float32
    assert expected.std() > 0.05


def test_gates_are_named_in_the_networks_order():
    def names(**options):
        classifier = tiny(**options)
        return list(explain.gates(classifier, randomised(classifier.model), IMAGES[:1]))

    blocks = [f"stage1/block{i}" for i in range(1, 12)]
    assert names(stage_sizes=(11, 1), width=1) == [*blocks, "stage2/block1"]
    assert names(attention_position="stage") == ["stage1", "stage2"]
    assert names(attention="none") == []


@pytest.mark.compiled
def test_new_gates_are_one():
    init = jax.jit(CLASSIFIER.model.init, static_argnames="train")
    variables = init(jax.random.key(0), jnp.zeros((1, 45, 70, 3)), train=False)
    assert set(variables) == {"params", "batch_stats"}
    found = explain.gates(CLASSIFIER, variables, IMAGES)
    assert [values.shape for values in found.values()] == [(4, 32), (4, 32), (4, 64)]
    assert all((values == 1).all() for values in found.values())


def test_gate_summary_by_hand():
    gates = {
        "stage1/block1": np.array([[0.0, 0.25], [1, 1], [0.5, 0.75]], np.float32),
        "stage1/block2": np.array([[1.0], [1], [0.5]], np.float32),
        "stage2/block1": np.array([[0.5], [0.25], [0.5]], np.float32),
    }
    rows = explain.gate_summary(gates, np.array([0, 1, 0]))
    assert [(row["stage"], row["class"], row["images"]) for row in rows] == [
        ("stage1", "benign", 2),
        ("stage1", "malignant", 1),
        ("stage2", "benign", 2),
        ("stage2", "malignant", 1),
    ]
    # Of 0, 0.25, 0.5, 0.5, 0.75, 1.
    assert rows[0]["mean"] == rows[0]["q50"] == 0.5
    assert (rows[0]["q05"], rows[0]["q95"]) == pytest.approx((0.0625, 0.9375))
    assert (rows[0]["q25"], rows[0]["q75"]) == pytest.approx((0.3125, 0.6875))
    assert {rows[3][key] for key in ("mean", "q05", "q25", "q50", "q75", "q95")} == {0.25}
    json.dumps(rows)
    blocks = explain.gate_summary(gates, np.array([0, 1, 0]), "block")
    assert [row["block"] for row in blocks] == [name for name in gates for _ in range(2)]
    assert [row["mean"] for row in blocks] == [0.375, 1, 0.75, 1, 0.5, 0.25]
    assert [row["class"] for row in explain.gate_summary(gates, np.zeros(3, int))] == ["benign"] * 2
    assert explain.gate_summary({}, np.zeros(3, int)) == []


def test_overlay():
    image = IMAGES[0]
    heat = np.zeros(image.shape[:2], np.float32)
    np.testing.assert_array_equal(explain.overlay(image, heat), image)
    heat[3, 4] = 1
    laid = explain.overlay(image, heat)
    assert laid.dtype == np.uint8 and laid.shape == image.shape
    changed = (laid != image).any(axis=-1)
    assert changed[3, 4] and changed.sum() == 1
    np.testing.assert_array_equal(explain.overlay(image, 9 * heat - 1), laid)
    inferno_end = np.array([252, 255, 164])
    np.testing.assert_allclose(laid[3, 4], 0.55 * image[3, 4] + 0.45 * inferno_end, atol=1)


def test_the_plotting_library_is_imported_for_an_overlay_only():
    code = "import se_resnet.explain, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_of_ones_own_with_a_list_as_option(monkeypatch):
    class Listed(nn.Module):
        sizes: tuple = (1,)

        @nn.compact
        def __call__(self, features):
            assert self.sizes == (3, 5)
            return features

    monkeypatch.setitem(attention.REGISTRY, "listed", Listed)
    classifier = tiny(attention="listed", attention_options={"sizes": [3, 5]})
    variables = randomised(classifier.model)
    again = Classifier.from_dict(json.loads(json.dumps(classifier.as_dict())))
    heat = explain.grad_cam(again, variables, IMAGES, stage="stage1", target=1)
    assert heat.max() == 1
    assert explain.gates(again, variables, IMAGES) == {}


@pytest.mark.full_optimisation
@pytest.mark.compiled
def test_the_full_network_with_the_shipped_weights():
    weights = pretrained.load("imagenet")
    model = create_model(variant=weights.variant, bn_epsilon=weights.bn_epsilon)
    classifier = Classifier(model, weights.preprocessing, (224, 224), "squash")
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))
    # A new head is zero and has nothing to explain.
    kernel = np.random.default_rng(0).normal(0, 0.02, (2048, 1)).astype(np.float32)
    head = {"kernel": kernel, "bias": np.zeros(1, np.float32)}
    variables = {**variables, "params": {**variables["params"], "head": head}}
    images = noise(1, 224, 224)
    heat = explain.grad_cam(classifier, variables, images)
    assert heat.shape == (1, 224, 224)
    assert 0 <= heat.min() < heat.max() == 1


@pytest.mark.parametrize("count", [1, 2])
def test_the_maps_of_a_prediction_give_grad_cam_without_another_pass(count):
    members = [VARIABLES, randomised(CLASSIFIER.model, seed=7)][:count]
    batch = {"image": noise(4, SIZE, SIZE), "mask": np.array([True, True, True, False])}
    forward = CLASSIFIER.make_predict()
    logits, features, maps = forward.with_maps(members, batch)
    expected_logits, expected_features = forward.with_features(members, [batch])
    np.testing.assert_array_equal(logits, expected_logits)
    np.testing.assert_array_equal(features, expected_features)
    assert logits.shape == (count, 3) and [len(of_member) for of_member in maps] == [4] * count
    for target in (0, 1, np.array([0, 1, 1, 0])):
        expected = explain.grad_cam(CLASSIFIER, members, batch["image"], target=target)
        heat = explain.grad_cam_of_maps(members, maps, (SIZE, SIZE), target)
        assert expected.max() == 1
        np.testing.assert_allclose(heat, expected, atol=1e-4)
    with pytest.raises(UserError, match="unknown target 2"):
        explain.grad_cam_of_maps(members, maps, (SIZE, SIZE), 2)
