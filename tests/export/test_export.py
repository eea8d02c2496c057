"""Exported files give the run's probabilities in their own runtimes, or are not left behind."""

from __future__ import annotations

import hashlib
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib.util
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.export import formats, parity
from se_resnet.export.exporting import export_run
from se_resnet.export.network import OUTPUTS, in_float32, inference
from se_resnet.images.scale import Scale
from se_resnet.metrics.calibration import scale
from se_resnet.metrics.decision import Decision
from se_resnet.metrics.predictions import probability_of
from se_resnet.models import ops_plain
from se_resnet.models.classifier import Classifier
from se_resnet.models.preprocessing import CAFFE, IMAGENET
from se_resnet.models.resnet import create_model
from se_resnet.predict.folder import predict_folder
from se_resnet.runs.workdir import Run
from se_resnet.weights import pretrained
from tests.helpers import ROOT
from tests.helpers.marks import compiled
from tests.helpers.run_folders import make_ensemble_folder, make_run_folder

KINDS = list(formats.FORMATS)
SAMPLE = sorted((ROOT / "data" / "sample").rglob("*.png"))


def need(kind: str) -> None:
    for module, package in formats.FORMATS[kind].packages.items():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[onnx,tflite]'")


def whole(pixels: np.ndarray) -> dict:
    return {"image": pixels, "mask": np.ones(len(pixels), bool)}


def make_run(size=(33, 40), seed=0, **options) -> tuple[Run, np.ndarray]:
    """A random network whose logits spread over real images as a trained one's do; and images."""
    options = {"stage_sizes": (1, 1), "width": 8, "formulation": "fast", **options}
    pixels = parity.read_pixels(SAMPLE[::8][:10], size, "squash")
    rng = np.random.default_rng(seed)
    classifier = Classifier(create_model(**options), CAFFE, size, "squash")

    def drawn(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = 0.1 if len(leaf.shape) < 2 else np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, spread, leaf.shape).astype(np.float32)

    variables = jax.tree.map_with_path(drawn, classifier.abstract_variables())
    return with_spread(classifier, variables, pixels), pixels


def with_spread(classifier: Classifier, variables: dict, pixels: np.ndarray) -> Run:
    """A run with the head scaled so that the logits of these images have mean 0 and spread 1."""
    batch = {"image": pixels, "mask": np.ones(len(pixels), bool)}
    logits = classifier.make_predict()([variables], [batch])[0]
    head = variables["params"]["head"]
    head["kernel"] = head["kernel"] / logits.std()
    head["bias"] = (head["bias"] - logits.mean()) / logits.std()
    return Run(classifier, (variables,), Decision("accuracy", 0.5, 0.7, 0.1, ""))


def export(kind: str, run: Run, pixels: np.ndarray, path: Path) -> dict:
    model = path / formats.FORMATS[kind].file
    formats.FORMATS[kind].write(inference(run), run.classifier.size, model)
    return parity.compare(kind, model, run, pixels)


class Spread(nn.Module):
    """A module of one's own, as in the README, with an operation that few networks have."""

    @nn.compact
    def __call__(self, features):
        ranks = jnp.sort(features.var(axis=(1, 2)), axis=-1)
        gates = nn.sigmoid(nn.Dense(features.shape[-1])(ranks))
        return features * gates[:, None, None, :]


def test_a_run_is_exported_with_what_its_user_has_to_know(run, place, tmp_path):
    metadata = export_run(run, "stablehlo", tmp_path / "out")
    model = tmp_path / "out" / "model.stablehlo"
    written = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert written == metadata
    assert written["sha256"] == {model.name: hashlib.sha256(model.read_bytes()).hexdigest()}
    assert written["input"]["shape"] == ["batch", 16, 16, 3]
    assert written["training"]["protocol"] == "strict"
    assert written["parity"]["measured_on"] == "test images of the run"
    assert 0 <= written["parity"]["max_difference"] <= 1e-4
    # As somebody would use it, the images being resized as the metadata says.
    path = next(place[0].rglob("*.png"))
    (told,) = predict_folder(run, path, tmp_path / "told", overlays=False)
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert written["input"]["resize"]["rule"] == "squash"
    image = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)
    outputs = jax.export.deserialize(bytearray(model.read_bytes())).call(image[None])
    assert float(outputs["probability"][0]) == pytest.approx(told.probability, abs=1e-5)
    calibrated = float(outputs["calibrated_probability"][0])
    assert calibrated == pytest.approx(told.calibrated_probability, abs=1e-5)
    assert (told.probability >= written["threshold"]) == (told.call == "malignant")

    with pytest.raises(UserError, match="holds an export of format 'stablehlo'"):
        export_run(run, "savedmodel", tmp_path / "out")


@pytest.mark.parametrize(
    "kind", ["stablehlo", *(pytest.param(k, marks=pytest.mark.export) for k in KINDS[1:])]
)
def test_an_ensemble_is_exported_as_its_mean_logit(kind, tmp_path):
    need(kind)
    first, pixels = make_run(seed=0)
    second, _ = make_run(seed=1)
    ensemble = replace(first, members=(*first.members, *second.members))
    function = jax.jit(inference(ensemble))
    logits = [run.predict(run.members, [whole(pixels)])[0] for run in (first, second)]
    expected = probability_of(np.mean(logits, axis=0))
    np.testing.assert_allclose(function(pixels)["probability"], expected, atol=1e-5)
    assert np.abs(expected - probability_of(logits[0])).max() > 0.05
    assert export(kind, ensemble, pixels, tmp_path)["max_difference"] < 1e-5


def test_a_folder_of_several_networks_is_exported_as_one(run, tmp_path):
    workdir = make_ensemble_folder(tmp_path / "ensemble", run)
    metadata = export_run(workdir, "stablehlo", tmp_path / "out")
    assert metadata["training"]["members"] == 2
    assert metadata["parity"]["measured_on"] == "test images of the run"
    assert metadata["parity"]["max_difference"] <= 1e-4


@pytest.mark.compiled
def test_a_padding_that_is_wrong_is_found_and_nothing_is_left(run, tmp_path, monkeypatch):
    """The trap that some converters fall into: a pool that pads at the end only."""
    made, pixels = make_run()

    def pad_at_the_end(x):
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((0, 2), (0, 2)))

    assert export("stablehlo", made, pixels, tmp_path)["max_difference"] < 1e-5
    monkeypatch.setattr(
        ops_plain, "max_pool", pad_at_the_end
    )  # the run itself uses se_resnet.models.ops_fast
    with pytest.raises(UserError, match="probabilities that differ by"):
        export("stablehlo", made, pixels, tmp_path)

    before = {
        "model.stablehlo": b"of an earlier export",
        "metadata.json": b'{"format": "stablehlo"}',
    }
    for name, content in before.items():
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(content)
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="is not kept"):
        export_run(run, "stablehlo", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_mistakes_are_named_before_work_is_done(run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--images=nowhere does not exist"):
        export_run(run, "stablehlo", tmp_path, Path("nowhere"))
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(UserError, match="broken.png is not an image"):
        export_run(run, "stablehlo", tmp_path / "out", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in sys.modules or None)
    for kind in ("onnx", "tflite"):
        (tmp_path / kind).mkdir()
        with pytest.raises(UserError, match=rf"pip install .*'\.\[{kind}\]'"):
            export_run(run, kind, tmp_path / kind)
        assert not [*(tmp_path / kind).iterdir()]


def test_images_that_are_gone_give_way_to_the_sample(run, tmp_path):
    paths, what = parity.choose_images(run, str(tmp_path), None)
    assert what == "sample images" and len(paths) == 16 and {*paths} <= {*SAMPLE}
    assert len({path.parents[4] for path in paths}) == 2  # of both classes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.stablehlo", "mine"),
        ("metadata.json", "mine"),
        ("metadata.json", '{"format": "stablehlo", "sha256": [5]}'),
    ],
)
def test_files_of_another_origin_are_not_replaced(run, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="so no export wrote it|holds an export of format"):
        export_run(run, "stablehlo", tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: content}


@contextmanager
def files_limited_to(size: int):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# All but StableHLO take packages that are not always there, or seconds.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.export] * (kind != KINDS[0])) for kind in KINDS]
)
@pytest.mark.parametrize("size", [100, 20_000])  # less than the file, and than what checks it
def test_a_disk_that_fills_is_told_and_nothing_is_left(kind, size, run, tmp_path):
    need(kind)
    (tmp_path / "notes.txt").touch()
    with files_limited_to(size), pytest.raises(UserError, match=r"cannot be written \(File too "):
        export_run(run, kind, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.compiled
def test_images_of_another_size_must_not_be_taken(run, tmp_path, monkeypatch):
    made, pixels = make_run()
    answer = parity._run_in_process

    def taking(*arguments):
        return {**answer(*arguments), "takes_other_sizes": np.array(True)}

    monkeypatch.setattr(parity, "_run_in_process", taking)
    with pytest.raises(UserError, match="accepts images of another size"):
        export("stablehlo", made, pixels, tmp_path)


@pytest.mark.parametrize("weights", [CAFFE, compiled(IMAGENET)])
def test_no_channels_are_reversed(weights):
    """OpenCV, for one, has no counterpart of that operation."""
    made, pixels = make_run()
    made = replace(made, classifier=replace(made.classifier, preprocessing=weights))
    function = inference(made)
    assert " rev[" not in str(jax.make_jaxpr(function)(pixels))
    batch = {"image": pixels, "mask": np.ones(len(pixels), bool)}
    expected = probability_of(made.predict(made.members, [batch])[0])
    np.testing.assert_allclose(function(pixels)["probability"], expected, atol=1e-5)


@pytest.mark.export
def test_onnx_outputs_come_in_the_order_of_the_metadata(tmp_path):
    need("onnx")
    import onnx

    made, pixels = make_run()
    export("onnx", made, pixels, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == [*OUTPUTS]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version <= 8  # what ONNX Runtime of the opset's time reads


@pytest.mark.export
@pytest.mark.parametrize("attention", [attention.NONE, *attention.REGISTRY])
def test_opencv_reads_onnx_files(attention, tmp_path):
    need("onnx")
    made, pixels = make_run(attention=attention, size=(32, 40))
    export("onnx", made, pixels, tmp_path)
    batch = {"image": pixels, "mask": np.ones(len(pixels), bool)}
    probability = probability_of(made.predict(made.members, [batch])[0])
    expected = (probability, scale(probability, made.decision.temperature))
    net = cv2.dnn.readNetFromONNX(str(tmp_path / "model.onnx"))
    for size in (1, 3):
        net.setInput(pixels[:size])
        for name, values in zip(OUTPUTS, expected, strict=True):
            np.testing.assert_allclose(net.forward(name).ravel(), values[:size], atol=1e-4)
    if int(cv2.__version__.split(".")[0]) >= 5:
        net.setInput(np.zeros((1, 64, 80, 3), np.uint8))
        with pytest.raises(cv2.error):
            net.forward()


@pytest.mark.export
def test_tflite_names_its_outputs_and_refuses_other_sizes(tmp_path):
    need("tflite")
    from ai_edge_litert.interpreter import Interpreter

    made, pixels = make_run(size=(32, 40))
    export("tflite", made, pixels, tmp_path)
    model = str(tmp_path / "model.tflite")
    interpreter = Interpreter(model)
    assert [one["name"] for one in interpreter.get_input_details()] == ["images"]
    assert [one["name"] for one in interpreter.get_output_details()] == [*OUTPUTS]
    assert interpreter.get_signature_list()["serving_default"]["inputs"] == ["images"]
    for shape in ((1, 64, 80, 3), (4, 16, 20, 3), (1, 40, 32, 3), (1, 1, 1, 3), (1, 32, 40, 1)):
        interpreter = Interpreter(model)
        with pytest.raises(RuntimeError, match="SPLIT_V"):
            interpreter.get_signature_runner()(images=np.zeros(shape, np.uint8))


@pytest.mark.export
@pytest.mark.parametrize("attention", ["none", "se", "eca", "cbam"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_probabilities_of_the_run(kind, attention, tmp_path):
    need(kind)
    made, pixels = make_run(attention=attention, size=(33, 40) if attention == "se" else (32, 32))
    measured = export(kind, made, pixels, tmp_path)
    assert measured["max_difference"] < 1e-5 and measured["batch_sizes"] == [1, 3, 16]


@pytest.mark.export
@pytest.mark.parametrize("kind", KINDS)
def test_variant_and_position_of_other_weights(kind, tmp_path):
    need(kind)
    options = {"variant": "v1.5", "attention_position": "stage", "attention": "coord"}
    made, pixels = make_run(**options)
    assert export(kind, made, pixels, tmp_path)["max_difference"] < 1e-5


@pytest.mark.export
@pytest.mark.parametrize("kind", ["onnx", "tflite"])  # which do not know bfloat16
def test_a_run_in_bfloat16_is_exported_in_float32(kind, tmp_path):
    need(kind)
    made, pixels = make_run(dtype="bfloat16")
    assert export(kind, in_float32(made), pixels, tmp_path)["max_difference"] < 1e-5


@pytest.mark.export
@pytest.mark.parametrize("kind", ["stablehlo", "savedmodel"])
def test_a_module_of_ones_own(kind, tmp_path):
    made, pixels = make_run(attention="tests.export.test_export:Spread")
    assert export(kind, made, pixels, tmp_path)["max_difference"] < 1e-5


@pytest.mark.export
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_pool_padded_wrongly_is_found_by_every_runtime(kind, tmp_path, monkeypatch):
    need(kind)
    made, pixels = make_run()
    monkeypatch.setattr(
        ops_plain, "max_pool", lambda x: nn.max_pool(x, (3, 3), (2, 2), ((0, 2), (0, 2)))
    )
    with pytest.raises(UserError, match="probabilities that differ by"):
        export(kind, made, pixels, tmp_path)


@pytest.mark.export
@pytest.mark.parametrize("kind", KINDS)
def test_the_command(kind, run, tmp_path):
    need(kind)
    command = [sys.executable, "-m", "se_resnet.export", f"--workdir={run}", f"--format={kind}"]
    for _ in range(2):  # the second time over the first
        ended = subprocess.run(
            [*command, f"--out={tmp_path / 'out'}"], capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
    assert "probabilities differ by" in ended.stdout and "no medical device" in ended.stdout
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "metadata.json",
        metadata["model"],
    }
    for name, digest in metadata["sha256"].items():
        content = (tmp_path / "out" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.export
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_se_resnet50(kind, tmp_path):
    need(kind)
    weights = pretrained.load("imagenet")
    model = create_model(variant=weights.variant, bn_epsilon=weights.bn_epsilon)
    classifier = Classifier(model, weights.preprocessing, (224, 224), "squash")
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))
    kernel = np.random.default_rng(0).normal(0, 0.02, (2048, 1)).astype(np.float32)
    variables["params"]["head"]["kernel"] = kernel
    pixels = parity.read_pixels(SAMPLE[::16], (224, 224), "squash")
    made = with_spread(classifier, variables, pixels)
    assert export(kind, made, pixels, tmp_path)["max_difference"] < 1e-5


def test_the_metadata_states_the_scale_of_the_network(tmp_path):
    need("stablehlo")
    run = make_run_folder(tmp_path / "run", Scale(0.5, (24, 24)))
    metadata = export_run(run, "stablehlo", tmp_path / "out", SAMPLE[0])
    stated = metadata["input"]["scale"]
    assert (stated["um_per_px"], stated["field"]) == (0.5, [24, 24])
    assert "mean logit of its tiles" in stated["how"]
