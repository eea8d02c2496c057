"""The input gate: its features, its limits, its file, and the calls that it withholds."""

from __future__ import annotations

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest

import se_resnet
from se_resnet.errors import UserError
from se_resnet.input_gate.features import FEATURES, REASONS, simple_features
from se_resnet.input_gate.gate import InputGate, fit
from se_resnet.metrics.calibration import scale
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.patients import summarise_patients
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runs.workdir import load_best
from tests.helpers.image_trees import encode


def tissue(seed: int, size: int = 64) -> np.ndarray:
    """A pink picture with dark spots: the same look for every seed."""
    rng = np.random.default_rng(seed)
    spots = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 1.2)
    spots += 0.3 * cv2.GaussianBlur(rng.normal(0, 4, (size, size)).astype(np.float32), (0, 0), 4)
    dark = np.clip(0.5 + 0.8 * spots, 0, 1)[..., None]
    image = np.array([235, 190, 220]) * (1 - dark) + np.array([120, 60, 140]) * dark
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def embeddings(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.abs(rng.normal(1, 0.1, (count, 32)))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def gate() -> InputGate:
    images = np.stack([tissue(seed) for seed in range(120)])
    patients = np.array([f"p{number // 6}" for number in range(120)])
    return fit(simple_features(images), embeddings(120), np.arange(120) >= 80, patients)


DAMAGES = {
    "white": (lambda image: np.full_like(image, 255), "blank"),
    "black": (lambda image: np.zeros_like(image), "blank"),
    "blurred": (lambda image: cv2.GaussianBlur(image, (0, 0), 2), "out of focus"),
    "inverted": (lambda image: 255 - image, "colours"),
    "grey": (lambda image: np.repeat(image.mean(-1, keepdims=True), 3, -1).astype(np.uint8), None),
    "other channel order": (lambda image: image[..., [1, 0, 2]], "colours"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_is_outside_for_its_reason(gate, damage):
    spoil, reason = DAMAGES[damage]
    spoilt = np.stack([spoil(tissue(seed)) for seed in range(200, 210)])
    found = gate.reasons(simple_features(spoilt), embeddings(10, seed=5))
    assert all(found) and (reason is None or set(found) == {reason}), found


def test_an_enlarged_image_is_outside_for_its_scale(gate):
    large = [cv2.resize(tissue(seed)[:16, :16], (64, 64)) for seed in range(200, 210)]
    found = gate.reasons(simple_features(np.stack(large)), embeddings(10, seed=5))
    assert set(found) <= {"scale", "out of focus", "blank"} and all(found)
    small = [np.tile(tissue(seed)[::4, ::4], (4, 4, 1)) for seed in range(200, 210)]
    found = gate.reasons(simple_features(np.stack(small)), embeddings(10, seed=5))
    assert found.count("scale") >= 8


def test_real_images_are_inside(gate):
    images = np.stack([tissue(seed) for seed in range(200, 400)])
    found = gate.reasons(simple_features(images), embeddings(200, seed=7))
    assert sum(map(bool, found)) <= 12  # 1 % of the calibrating images chose the limits


def test_features_of_the_network_alone_can_be_outside(gate):
    images = np.stack([tissue(seed) for seed in (0, 1)])
    other = embeddings(2)
    other[1] = np.eye(32)[3]
    assert gate.reasons(simple_features(images), other) == ["", "other"]


@pytest.mark.parametrize("value", [0, 255])
def test_features_of_a_flat_image_are_finite(value):
    found = simple_features(np.full((1, 16, 16, 3), value, np.uint8))
    assert found.shape == (1, len(FEATURES)) and np.isfinite(found).all()


def test_without_validation_other_patients_choose_the_distance():
    images = np.stack([tissue(seed) for seed in range(20)])
    patients = np.array(["a", "b"] * 10)
    values = embeddings(20)
    made = fit(simple_features(images), values, np.zeros(20, bool), patients)
    assert made.limits[1] > 0 and made.facts["calibration_images"] == 0
    alone = fit(simple_features(images), values, np.zeros(20, bool), np.array(["a"] * 20))
    assert alone.limits[1] > 0
    with pytest.raises(UserError, match="no training image"):
        fit(simple_features(images), values, np.ones(20, bool), patients)


def test_the_file_is_read_back_and_a_damaged_one_is_refused(gate, tmp_path):
    path = tmp_path / "input_reference.safetensors"
    assert InputGate.read(path) is None
    gate.write(path)
    again = InputGate.read(path)
    assert again.facts == gate.facts
    np.testing.assert_array_equal(again.codes, gate.codes)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"input_reference.* cannot be read .*data\.reference"):
        InputGate.read(path)
    dataclasses.replace(gate, limits=np.array([np.nan, 1])).write(path)
    with pytest.raises(UserError, match="a value is not finite"):
        InputGate.read(path)
    dataclasses.replace(gate, codes=gate.codes[:, :-1]).write(path)
    with pytest.raises(UserError, match="do not fit"):
        InputGate.read(path)


def test_the_reference_of_a_run_compares_its_own_images(gated_run):
    gate = load_best(gated_run).gate
    split = RunFolder(gated_run).split()
    roles = [row["role"] for row in split]
    assert gate.facts["training_images"] == roles.count("train")
    assert gate.facts["calibration_images"] == roles.count("val")
    assert gate.fits(load_best(gated_run).classifier)


def test_predict_withholds_the_call_and_keeps_the_number(gated_run, place, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("white", "SOB_B_A-14-1-40-001", "SOB_B_A-14-1-40-002"):
        image = np.full((70, 46, 3), 255, np.uint8)
        (folder / f"{name}.png").write_bytes(encode(image))
    real = next(place[0].rglob("SOB_M*.png"))
    (folder / real.name).write_bytes(real.read_bytes())
    predict_folder(gated_run, folder, tmp_path / "out")
    rows = {row["file"]: row for row in csv.DictReader((tmp_path / "out/predictions.csv").open())}
    white = rows["white.png"]
    assert (white["call"], white["unlike_training_images"]) == ("withheld", "blank")
    assert 0 <= float(white["probability"]) <= 1
    assert rows[real.name]["call"] in ("benign", "malignant")
    printed = capsys.readouterr().out
    assert "WARNING: no call for 3 of 4 images" in printed and "images: blank 3" in printed
    assert "3 without a call" in printed
    page = (tmp_path / "out" / "predictions.html").read_text()
    assert page.count("No call: the image does not look like the training images") == 3
    patients = {r["patient"]: r for r in csv.DictReader((tmp_path / "out/patients.csv").open())}
    assert (patients["14-1"]["call"], patients["14-1"]["withheld"]) == ("withheld", "1")
    stated = json.loads((tmp_path / "out" / "predictions.json").read_text())["input_gate"]
    assert stated["share"] == 0.01 and set(stated["allowed_features"]) == set(FEATURES)


def test_a_run_without_a_reference_says_so(run, place, tmp_path, capsys):
    real = next(place[0].rglob("*.png"))
    (one,) = predict_folder(run, real, tmp_path / "out", overlays=False)
    assert one.unlike_training_images is None and one.call != "withheld"
    assert "no input gate: the run keeps no reference" in capsys.readouterr().out


def test_a_withheld_image_takes_no_part_in_the_call_of_its_patient():
    @dataclasses.dataclass
    class One:
        file: str
        probability: float
        call: str
        patient: str = "p"

    rows = [One("a", 0.9, "withheld"), One("b", 0.2, "benign"), One("c", 0.3, "benign")]
    (row,) = summarise_patients(rows, 0.4)
    assert (row["mean_probability"], row["call"], row["withheld"]) == (0.25, "benign", 1)


def test_the_predictor_withholds_calls_and_its_package_too(gated_run, place, tmp_path):
    model = se_resnet.load_run(gated_run)
    real = next(place[0].rglob("*.png"))
    images = [np.zeros((70, 46, 3), np.uint8), real]
    blank, other = model.calls(images)
    assert (blank.call, blank.unlike_training_images) == ("withheld", "blank")
    assert other.call in ("benign", "malignant") and other.file == str(real)
    np.testing.assert_allclose(
        [blank.calibrated_probability, other.calibrated_probability], model.predict(images)
    )
    threshold = model.run.decision.threshold
    assert scale(np.array(threshold), model.run.decision.temperature) == model.threshold
    package = se_resnet.save_pretrained(model, tmp_path / "package")
    assert (package / "input_reference.safetensors").is_file()
    again = se_resnet.from_pretrained(package)
    assert [one.call for one in again.calls(images)] == ["withheld", other.call]
    (package / "input_reference.safetensors").unlink()
    with pytest.raises(UserError, match="not the one that config.json describes"):
        se_resnet.from_pretrained(package)
    without = dataclasses.replace(model, run=dataclasses.replace(model.run, gate=None))
    se_resnet.save_pretrained(without, package)
    assert not (package / "input_reference.safetensors").exists()


def test_reasons_are_those_of_the_features():
    assert {reason for pair in FEATURES.values() for reason in pair} == set(REASONS)
