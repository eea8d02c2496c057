from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

import se_resnet
from data.load_images import load
from se_resnet import explain
from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.metrics.calibration import scale
from se_resnet.metrics.predictions import Predictions
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.inference import BATCH
from tests.helpers.image_trees import random_image


@pytest.fixture(scope="module")
def model(run):
    return se_resnet.load_run(run)


def test_images_in_memory_get_the_probabilities_of_the_command(model, run, place, tmp_path):
    told = predict_folder(run, place[0], tmp_path, overlays=False)
    paths = [place[0] / one.file for one in told]
    wanted = [one.calibrated_probability for one in told]
    assert len(paths) > BATCH and np.ptp(wanted) > 0
    np.testing.assert_array_equal(model.predict(paths), wanted)
    arrays = [read_image(path) for path in paths]
    np.testing.assert_array_equal(model.predict(np.stack(arrays)), wanted)
    calls = ["malignant" if p >= model.threshold else "benign" for p in wanted]
    assert calls == [one.call for one in told]


@pytest.mark.parametrize("tta", ["dihedral", "tiles"])
def test_views_are_averaged_as_the_command_does(model, run, place, tmp_path, tta):
    told = predict_folder(run, place[0], tmp_path, overlays=False, tta=tta)
    found = model.predict([place[0] / one.file for one in told], tta=tta)
    np.testing.assert_array_equal(found, [one.calibrated_probability for one in told])


def test_sizes_and_kinds_may_be_mixed_and_order_is_kept(model, tmp_path):
    images = [random_image((40 + 7 * seed, 30), seed) for seed in range(3)]
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), images[1][..., ::-1])
    mixed = model.predict([images[0], str(path), images[2]])
    np.testing.assert_array_equal(mixed, model.predict(images))
    np.testing.assert_array_equal(model.predict(path), mixed[1:2])
    assert model.predict([]).shape == (0,)
    assert model.prepare(images).shape == (3, *model.run.classifier.size, 3)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 4), np.uint8), r"image 0 is uint8 \(4,\)"),
        (np.zeros((1, 4, 4, 3)), "image 0 is float64"),
        ([np.zeros((4, 4, 3), np.uint8), None], "image 1 is NoneType"),
        ([np.zeros((0, 4, 3), np.uint8)], "give RGB pixels"),
        ("missing.png", "missing.png cannot be read"),
    ],
)
def test_what_is_no_image_is_named(model, images, words):
    with pytest.raises(UserError, match=words):
        model.predict(images)
    with pytest.raises(UserError, match="unknown tta"):
        model.predict([], tta="both_ways")


def test_an_image_that_is_not_decoded_is_named_with_the_reason(model, tmp_path):
    ok, content = cv2.imencode(".jpg", random_image((200, 200)))
    (tmp_path / "half.jpg").write_bytes(content.tobytes()[: len(content) // 2])
    with pytest.raises(
        UserError, match=r"half\.jpg is a broken JPEG .*; give one that can be used"
    ):
        model.predict([tmp_path / "half.jpg"])


def test_metrics_are_those_of_the_evaluation(model, run):
    written = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    assert model.metrics["image"] == written["image"]
    assert model.metrics["calibration"]["after"] == written["calibration"]["after"]
    decision = written["decision"]
    wanted = scale(np.array(decision["threshold"]), decision["temperature"])
    assert model.threshold == pytest.approx(float(wanted))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="must be the folder of a run"):
        se_resnet.load_run(tmp_path)


def test_loaded_images_stand_in_the_order_of_their_records(place):
    import data

    tree, cache = map(str, place)
    images, records, roles = data.load(tree, size=(16, 16), magnifications=(200,), cache_dir=cache)
    assert len(images) == len(records) == len(roles) == 72 and set(records.magnification) == {200}
    whole = load(tree, size=(16, 16), cache_dir=cache)
    place_of = dict(zip(whole.records.file.tolist(), whole.records.row.tolist(), strict=True))
    for number, file in enumerate(records.file.tolist()):
        np.testing.assert_array_equal(images[number], whole.images[place_of[file]])
    np.testing.assert_array_equal(records.row, np.arange(72))
    tested = set(records.accession[roles == "test"].tolist())
    assert tested and not tested & set(records.accession[roles == "train"].tolist())
    with pytest.raises(UserError, match="fold = 9"):
        data.load(tree, size=(16, 16), cache_dir=cache, fold=9)


def test_one_image_needs_no_list(model):
    image = random_image((40, 30))
    np.testing.assert_array_equal(model.predict(image), model.predict([image]))
    assert model.prepare(image).shape == (1, *model.run.classifier.size, 3)


def test_a_model_is_described_in_one_line(model, run):
    text = repr(model)
    assert "\n" not in text and len(text) < 200
    assert text.startswith("Predictor('") and "malignant from 0." in text
    auc = json.loads((run / "eval" / "test" / "metrics.json").read_text())["image"]["roc_auc"]
    assert f"image ROC AUC of the test {auc['value']:.3f}" in text


def test_an_explanation_is_an_overlay_of_the_call(model):
    image = random_image((40, 30))
    (probability,) = model.predict(image)
    called = int(probability >= model.threshold)
    found = model.explain(image)
    assert found.dtype == np.uint8 and found.shape == (*model.run.classifier.size, 3)
    np.testing.assert_array_equal(found, model.explain(image, target=called))
    prepared = model.prepare(image)
    (heat,) = explain.grad_cam(model.run.classifier, model.run.variables, prepared, target=called)
    np.testing.assert_array_equal(found, explain.overlay(prepared[0], heat))
    with pytest.raises(UserError, match="explain takes one image, not 2"):
        model.explain([image, image])


def test_errors_are_the_test_images_called_wrongly(model, run, tmp_path):
    tested = Predictions.read_csv(run / "eval" / "test" / "predictions.csv")
    wrong = (tested.probability >= model.run.decision.threshold) != tested.label
    found = model.errors()
    assert {one["file"] for one in found} == set(tested.file[wrong].tolist()) and found
    distances = [abs(one["probability"] - model.run.decision.threshold) for one in found]
    assert distances[0] == max(distances)
    assert all(one["label"] != one["call"] for one in found)
    package = se_resnet.save_pretrained(model, tmp_path / "package")
    with pytest.raises(UserError, match="holds no predictions of test images"):
        se_resnet.from_pretrained(package).errors()
