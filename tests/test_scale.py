"""A run at a scale, from class folders of large images to a report: the layout of BACH."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import eval as evaluation
import se_resnet
import train
from data.cache import open_cache
from data.dataset import load_dataset
from data.scales import chosen_at_scale, count_scales, scale_of
from data.table.__main__ import main as make_table
from se_resnet.errors import UserError
from se_resnet.images.decode import read_image
from se_resnet.images.resize import resize
from se_resnet.images.scale import Scale, bring_to_scale
from se_resnet.metrics.predictions import Predictions, probability_of
from se_resnet.predict.folder import predict_folder
from se_resnet.runs.workdir import load_best
from se_resnet.runtime.cli import exit_on_user_error
from tests.helpers import ROOT
from tests.helpers.configs import tiny_config
from tests.helpers.datasets import make_records
from tests.helpers.image_trees import encode, make_tree, random_image

CLASSES = ("Normal", "Benign", "InSitu", "Invasive")
SIZE = (128, 96)  # BACH has 2048x1536
SCALE = Scale(2.0, (16, 16))  # of the networks below; at 0.42 µm an image becomes 27x20


def tissue(size: tuple[int, int], seed: int, malignant: bool) -> np.ndarray:
    """Smooth random colours, darker for malignant."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 100, (size[1] // 16, size[0] // 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) + (20 if malignant else 120)


@pytest.fixture(scope="module")
def bach(tmp_path_factory) -> Path:
    """A table of 24 images in four class folders, as ``python -m data.table`` makes it."""
    root = tmp_path_factory.mktemp("bach")
    for number in range(24):
        name = CLASSES[number % 4]
        folder = root / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name[:2].lower()}{number:03d}.tif"
        cv2.imwrite(str(path), tissue(SIZE, number, number % 4 > 1))
    options = ["--positive=InSitu,Invasive", "--negative=Normal,Benign", "--patient=file"]
    make_table([str(root / "images"), *options, "--um_per_px=0.42", f"--out={root / 'bach.csv'}"])
    return root / "bach.csv"


@pytest.fixture(scope="module")
def config(bach, tmp_path_factory):
    config = tiny_config(bach, tmp_path_factory.getbasetemp() / "scale-cache")
    config.data.um_per_px = SCALE.um_per_px
    config.balance.within_magnification = False
    config.epochs = 1
    return config


@pytest.fixture(scope="module")
def scaled(config, tmp_path_factory) -> Path:
    """A finished run at a scale on the images of BACH's layout."""
    workdir = tmp_path_factory.mktemp("scaled") / "run"
    train.train_and_evaluate(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory) -> Path:
    """A finished run on whole images of BreaKHis at 200X."""
    base = tmp_path_factory.mktemp("unscaled")
    records = make_records(10, 14, images=1, magnifications=(200,))
    config = tiny_config(make_tree(base / "tree", records.file.tolist()), base / "cache")
    config.epochs = 1
    train.train_and_evaluate(config, base / "run")
    return base / "run"


def by_hand(run: Path, path: Path, um_per_px: float) -> tuple[float, int]:
    """The mean logit of an image's tiles, each computed alone, and their number."""
    network, image = load_best(run), read_image(path)
    factor = um_per_px / SCALE.um_per_px
    height, width = (round(side * factor) for side in image.shape[:2])
    small = resize(image, (height, width), "squash")
    starts = [[0] if n <= 16 else [0, n - 16] for n in (height, width)]
    tiles = [small[top : top + 16, left : left + 16] for top in starts[0] for left in starts[1]]
    logits = [
        network.predict(network.members, [{"image": tile[None], "mask": np.ones(1, bool)}])[0, 0]
        for tile in tiles
    ]
    return float(np.mean(logits)), len(tiles)


def test_the_table_of_bach_calls_in_situ_and_invasive_malignant(bach):
    rows = list(csv.DictReader(bach.open()))
    labels = {(row["subtype"], row["label"]) for row in rows}
    assert labels == {("Normal", "0"), ("Benign", "0"), ("InSitu", "1"), ("Invasive", "1")}
    assert {row["um_per_px"] for row in rows} == {"0.42"}


def test_training_sees_middle_tiles_and_the_test_all_tiles(scaled, config, bach):
    facts = json.loads((scaled / "data.json").read_text())
    caches = (Path(config.data.cache_dir) / "pixels").iterdir()
    (cache,) = (c for p in caches if (c := open_cache(p)).fingerprint == facts["fingerprint"])
    row = {file: row for file, row in zip(cache.records.file, cache.records.row, strict=True)}
    tested = Predictions.read_csv(scaled / "eval" / "test" / "predictions.csv")
    for file, probability in zip(tested.file.tolist(), tested.probability, strict=True):
        path = bach.parent / file
        middle = bring_to_scale(read_image(path), 0.42, SCALE).middle
        assert (cache.images[row[file]] == middle).all()
        logit, count = by_hand(scaled, path, 0.42)
        assert count == 4 and probability == pytest.approx(probability_of(logit), abs=1e-6)
    assert tested.extra["tiles"].tolist() == ["4"] * len(tested)
    assert np.ptp(tested.probability) > 0


def test_the_report_states_scale_and_tiles(scaled):
    report = (scaled / "eval" / "test" / "report.html").read_text()
    tested = Predictions.read_csv(scaled / "eval" / "test" / "predictions.csv")
    assert "sees tissue at 2 µm per pixel, tiles of 16x16 pixels (32 x 32 µm)" in report
    assert f"0.42 µm per pixel ({len(tested)} images)" in report
    assert f"Tiles: {4 * len(tested)}, at most 4 of an image." in report
    assert "a scale on which the network was not trained" not in report


def test_predict_gives_the_probabilities_of_the_evaluation(scaled, bach, tmp_path):
    predicted = predict_folder(
        scaled, bach.parent / "images", tmp_path / "out", um_per_px=0.42, overlays=False
    )
    ours = {f"images/{one.file}": one.probability for one in predicted}
    tested = Predictions.read_csv(scaled / "eval" / "test" / "predictions.csv")
    for file, probability in zip(tested.file.tolist(), tested.probability, strict=True):
        assert ours[file] == pytest.approx(probability, abs=1e-6)
    model = se_resnet.load_run(scaled)
    assert model.scale == SCALE


def test_dihedral_views_are_averaged_on_each_tile(scaled, tmp_path):
    plain = Predictions.read_csv(scaled / "eval" / "test" / "predictions.csv")
    evaluation.evaluate_run(scaled, tta="dihedral", out=tmp_path / "out")
    turned = Predictions.read_csv(tmp_path / "out" / "predictions.csv")
    assert (turned.file == plain.file).all()
    assert 0 < np.abs(turned.probability - plain.probability).max() < 0.2
    for tta in ("tiles", "both"):
        with pytest.raises(UserError, match=f"--tta={tta} cuts tiles without a scale"):
            evaluation.evaluate_run(scaled, tta=tta, out=tmp_path / "refused")


@pytest.fixture(scope="module")
def breakhis(tmp_path_factory) -> Path:
    """Images of BreaKHis' size at all magnifications."""
    records = make_records(2, 2, images=1, magnifications=(40, 400))
    return make_tree(tmp_path_factory.mktemp("other") / "tree", records.file.tolist(), (700, 460))


def test_other_images_are_brought_from_their_scale_to_that_of_the_run(scaled, breakhis, tmp_path):
    evaluation.evaluate_run(scaled, data_dir=str(breakhis), out=tmp_path / "out")
    tested = Predictions.read_csv(tmp_path / "out" / "predictions.csv")
    for i, file in enumerate(tested.file.tolist()):
        um_per_px = {40: 0.49, 400: 0.05}[int(tested.magnification[i])]
        tiled = bring_to_scale(read_image(next(breakhis.rglob(file))), um_per_px, SCALE)
        assert len(tiled) == {40: 8 * 11, 400: 1 * 2}[int(tested.magnification[i])]
        assert int(tested.extra["tiles"][i]) == len(tiled)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "0.05 µm per pixel (4 images), 0.49 µm per pixel (4 images)" in report
    assert "Scale of the training images: 0.42 µm per pixel (" in report
    assert "smaller than a tile and mirrored at the borders: 4 of 8 images" in report


def test_a_run_without_a_scale_warns_of_other_images_of_another_scale(unscaled, bach, tmp_path):
    evaluation.evaluate_run(unscaled, data_dir=str(bach), out=tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "24 of the evaluated images have a scale on which the network was not trained" in report
    assert "0.42 µm per pixel (24 images); the training images have 0.1." in report
    assert "Magnification of the training images: 200X" in report
    assert "tiles" not in Predictions.read_csv(tmp_path / "out" / "predictions.csv").extra
    own = (unscaled / "eval" / "test" / "report.html").read_text()
    assert "µm per pixel" not in own and "scale of the evaluated" not in own.lower()


def without_scale(bach: Path, target: Path, rows: slice) -> Path:
    """Writes the table without the scale of these rows."""
    table = list(csv.DictReader(bach.open()))
    for row in table:
        row["file"] = str(bach.parent / row["file"])
    for row in table[rows]:
        row["um_per_px"] = ""
    with target.open("w") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return target


def test_the_report_says_that_the_scale_is_not_known(unscaled, bach, tmp_path):
    table = without_scale(bach, tmp_path / "table.csv", slice(None))
    evaluation.evaluate_run(unscaled, data_dir=str(table), out=tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Scale of the evaluated images: not known (24 images)." in report


def test_unknown_scales_are_counted_and_named_before_an_image_is_read(
    config, scaled, bach, tmp_path, capsys, monkeypatch
):
    table = without_scale(bach, tmp_path / "table.csv", slice(0, 7))
    monkeypatch.setattr("data.table.preparation.decode_image", None)  # none may be decoded
    wrong = config.copy_and_resolve_references()
    wrong.data.dir, wrong.data.cache_dir = str(table), str(tmp_path / "cache")
    commands = (
        lambda: train.train_and_evaluate(wrong, tmp_path / "run"),
        lambda: evaluation.evaluate_run(scaled, data_dir=str(table), out=tmp_path / "out"),
    )
    for command in commands:
        with pytest.raises(SystemExit) as stopped, exit_on_user_error():
            command()
        message = capsys.readouterr().err
        assert stopped.value.code == 2 and message.count("\n") == 1
        assert "the scale of 7 of 24 images is not known, for example" in message
        assert "in a column 'um_per_px' of a table" in message


def test_a_scale_in_the_wrong_unit_is_refused_before_an_image_is_read(config, bach, tmp_path):
    table = tmp_path / "table.csv"
    text = bach.read_text().replace("images/", f"{bach.parent}/images/")
    wrong = config.copy_and_resolve_references()
    wrong.data.dir, wrong.data.cache_dir = str(table), str(tmp_path / "cache")
    table.write_text(text.replace(",0.42", ",420"))
    with pytest.raises(
        UserError, match=r"(?s)24 of 24 rows .*um_per_px = '420' is no plausible scale"
    ):
        train.train_and_evaluate(wrong, tmp_path / "run")
    table.write_text(text.replace(",0.42", ",42"))
    with pytest.raises(UserError, match=r"(?s)scale of 24 of 24 images cannot .*enlarged 21 times"):
        train.train_and_evaluate(wrong, tmp_path / "run")


def test_a_cache_folder_serves_images_of_one_tile_only(scaled, config, tmp_path):
    options = {"size": (16, 16), "cache_dir": str(tmp_path / "cache")}
    dataset = load_dataset(config.data.dir, **options, scale=SCALE)
    assert dataset.most_tiles == 4 and len(list(dataset.encoded())) == 24
    (folder,) = (tmp_path / "cache" / "pixels").iterdir()
    with pytest.raises(UserError, match="up to 4 tiles .* holds only the middle tile of each"):
        evaluation.evaluate_run(scaled, data_dir=str(folder), out=tmp_path / "out")
    opened = load_dataset(str(folder), **options, scale=SCALE)
    assert opened.encoded is None and opened.fingerprint == dataset.fingerprint
    for other in (None, dataclasses.replace(SCALE, um_per_px=1.0)):
        with pytest.raises(UserError, match="is an image cache at 2 µm per pixel.*, not "):
            load_dataset(str(folder), **options, scale=other)
    facts = json.loads((folder / "cache.json").read_text())
    without = {name: value for name, value in facts.items() if name != "mirrored"}
    for broken in (facts | {"most_tiles": "x"}, facts | {"scale": None}, without):
        (folder / "cache.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match="is not a complete image cache"):
            load_dataset(str(folder), **options, scale=SCALE)


def test_a_field_of_the_whole_image_gives_the_pixels_of_a_run_without_scale(tmp_path):
    records = make_records(2, 2, images=1, magnifications=(200,))
    tree = make_tree(tmp_path / "tree", records.file.tolist(), (700, 460))
    options = {"size": (16, 16), "cache_dir": str(tmp_path / "cache")}
    whole = load_dataset(str(tree), **options)
    field = load_dataset(str(tree), **options, scale=Scale(0.10, (460, 700)))
    assert field.most_tiles == 1
    assert (whole.images[whole.records.row] == field.images[field.records.row]).all()


def test_an_image_that_vanished_is_named():
    records = make_records(1, 1, images=1, magnifications=(40, 200))
    content = encode(random_image((160, 160)))
    examples = [{"file": file, "image": content} for file in records.file[:2].tolist()]
    order: list[int] = []
    with pytest.raises(UserError, match=f"2 images are no longer there, for .*{records.file[2]}"):
        list(chosen_at_scale(examples, records, SCALE, order))
    assert order == [0, 1]


def test_the_scale_of_the_table_goes_before_that_of_the_name():
    name = "folder/SOB_B_A-14-22549AB-40-001.png"
    assert (scale_of(name), scale_of(name, "0.3"), scale_of("x.png")) == (0.49, 0.3, None)
    records = make_records(1, 1, images=2, magnifications=(40, 200))
    assert count_scales(records) == {0.1: 4, 0.49: 4}


def test_the_table_of_the_documentation_is_what_becomes_of_the_images():
    text = (ROOT / "docs" / "pixel-size.md").read_text()
    rows = re.findall(r"\| (\d+)x(\d+) \| ([\d.]+) \| (\d+)x(\d+) \| (\d+) \|", text)
    assert len(rows) == 5
    for width, height, um_per_px, new_width, new_height, tiles in rows:
        image = np.zeros((int(height), int(width), 3), np.uint8)
        tiled = bring_to_scale(image, float(um_per_px), Scale(0.5, (224, 224)))
        assert tiled.inner[2:] == (int(new_height), int(new_width))
        assert len(tiled) == int(tiles)
