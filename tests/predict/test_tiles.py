"""A run with a scale predicts all tiles of an image, and shows them over the whole image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import se_resnet
from se_resnet import explain
from se_resnet.errors import UserError
from se_resnet.images.resize import resize
from se_resnet.images.scale import Scale, bring_to_scale
from se_resnet.metrics.predictions import probability_of
from se_resnet.predict.folder import predict_folder
from se_resnet.predict.tiles import tile_logits
from se_resnet.runs.workdir import load_best
from tests.helpers.image_files import picture
from tests.helpers.image_trees import encode, random_image
from tests.helpers.run_folders import DECISION, make_run_folder

SCALE = Scale(0.5, (24, 24))  # of tiles that are resized to 16x16


@pytest.fixture(scope="module")
def scaled(tmp_path_factory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("scaled") / "run", SCALE)


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("unscaled") / "run")


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image[..., ::-1]))
    return path


def by_hand(run: Path, image: np.ndarray, tiles: list[tuple[int, int]], tta="none") -> np.ndarray:
    """The logits of the tiles at these corners, each computed alone."""
    loaded, logits = load_best(run), []
    for top, left in tiles:
        tile = resize(image[top : top + 24, left : left + 24], (16, 16), "squash")
        views = [tile]
        if tta == "dihedral":
            views = [np.rot90(m, k) for m in (tile, tile[:, ::-1]) for k in range(4)]
        batch = {"image": np.stack(views), "mask": np.ones(len(views), bool)}
        logits.append(loaded.predict(loaded.members, [batch]).mean())
    return np.array(logits)


CORNERS = [(top, left) for top in (0, 22) for left in (0, 23, 46)]


@pytest.mark.parametrize("tta", ["none", "dihedral"])
def test_the_probability_is_that_of_the_mean_logit_of_all_tiles(scaled, tmp_path, tta):
    image = picture(46, 70)
    write(tmp_path / "in.png", image)
    (one,) = predict_folder(
        scaled, tmp_path / "in.png", tmp_path / "out", um_per_px=0.5, tta=tta, overlays=False
    )
    logits = by_hand(scaled, image, CORNERS, tta)
    assert np.ptp(logits) > 0.01, "the tiles do not differ"
    assert one.probability == pytest.approx(probability_of(logits.mean()), abs=1e-6)
    assert (one.tiles, one.um_per_px) == (6, 0.5)
    calibrated = probability_of(logits.mean() / DECISION.temperature)
    assert one.calibrated_probability == pytest.approx(calibrated, abs=1e-6)
    model = se_resnet.load_run(scaled)
    assert model.predict([image], tta, um_per_px=0.5) == pytest.approx(calibrated, abs=1e-6)


def test_an_image_at_another_scale_is_resampled_first(scaled, tmp_path):
    image = picture(92, 140)
    half = image.reshape(46, 2, 70, 2, 3).mean((1, 3))
    write(tmp_path / "in.png", image)
    (one,) = predict_folder(
        scaled, tmp_path / "in.png", tmp_path / "out", um_per_px=0.25, overlays=False
    )
    logits = by_hand(scaled, np.rint(half).astype(np.uint8), CORNERS)
    assert one.tiles == 6 and one.probability == pytest.approx(
        probability_of(logits.mean()), abs=0.01
    )


def test_images_of_many_sizes_share_batches_and_keep_their_own_tiles(scaled, tmp_path):
    images = [random_image((24 + 17 * n, 20 + 9 * n), n) for n in range(7)]
    paths = [write(tmp_path / "in" / f"{n}.png", image) for n, image in enumerate(images)]
    together = predict_folder(
        scaled, tmp_path / "in", tmp_path / "out", um_per_px=0.5, overlays=False
    )
    assert [one.tiles for one in together] == [1, 4, 6, 8, 12, 15, 24]
    model = se_resnet.load_run(scaled)
    at_once = model.predict(images, um_per_px=[0.5] * 7)
    alone = [model.predict(path, um_per_px=0.5)[0] for path in paths]
    np.testing.assert_allclose(at_once, alone, atol=1e-6)
    np.testing.assert_allclose([p.calibrated_probability for p in together], alone, atol=1e-6)


def test_an_image_is_taken_when_its_first_tile_is_needed(scaled):
    taken, seen = [], []

    def images():
        for number in range(4):
            taken.append(number)
            yield bring_to_scale(picture(46, 70), 0.5, SCALE)

    def place(batch):
        seen.append(len(taken))
        return batch

    by_image = tile_logits(load_best(scaled), images(), batch_size=6, place=place)
    assert seen == [1, 2, 3, 4] and [logits.shape for logits in by_image] == [(1, 6)] * 4
    assert tile_logits(load_best(scaled), iter(()), batch_size=6) == []


def test_the_map_covers_the_whole_image_and_the_overlay_the_clearest_tile(scaled, tmp_path):
    image = picture(46, 70)
    write(tmp_path / "in" / "a.png", image)
    write(tmp_path / "in" / "small.png", image[:10, :10])
    one, small = predict_folder(scaled, tmp_path / "in", tmp_path / "out", um_per_px=0.5)
    assert (one.tiles, small.tiles) == (6, 1)
    folder = tmp_path / "out" / "overlays"
    assert {path.name for path in folder.iterdir()} == {
        "a.png.png",
        "a.png.map.png",
        "small.png.png",
    }
    shown = cv2.imread(str(folder / "a.png.map.png"))[..., ::-1]
    logits = by_hand(scaled, image, CORNERS)
    heat = np.zeros((46, 70))
    for row in range(46):
        for column in range(70):
            covering = [
                probability_of(logit)
                for logit, (top, left) in zip(logits, CORNERS, strict=True)
                if top <= row < top + 24 and left <= column < left + 24
            ]
            heat[row, column] = np.mean(covering)
    assert (shown[:, :70] == image).all()
    difference = shown[:, 70:].astype(int) - explain.overlay(image, heat)
    assert np.abs(difference).max() <= 1
    pick = np.argmax(logits) if one.call == "malignant" else np.argmin(logits)
    top, left = CORNERS[pick]
    tile = resize(image[top : top + 24, left : left + 24], (16, 16), "squash")
    assert (cv2.imread(str(folder / "a.png.png"))[:, :16, ::-1] == tile).all()


def test_a_large_image_gets_a_map_of_viewable_size(scaled, tmp_path):
    write(tmp_path / "in.png", random_image((1500, 60)))
    predict_folder(scaled, tmp_path / "in.png", tmp_path / "out", um_per_px=0.5)
    assert cv2.imread(str(tmp_path / "out/overlays/in.png.map.png")).shape == (41, 2 * 1024, 3)


def test_a_later_prediction_replaces_the_maps_too(scaled, tmp_path):
    write(tmp_path / "in" / "a.png", picture(46, 70))
    write(tmp_path / "in" / "b.png", picture(46, 70))
    for _ in range(2):
        predict_folder(scaled, tmp_path / "in", tmp_path / "out", um_per_px=0.5)
        (tmp_path / "in" / "b.png").unlink(missing_ok=True)
    names = {path.name for path in (tmp_path / "out" / "overlays").iterdir()}
    assert names == {"a.png.png", "a.png.map.png"}


def test_the_tables_have_scale_and_tiles_only_where_the_run_has_a_scale(
    scaled, unscaled, tmp_path, capsys
):
    write(tmp_path / "in.png", picture(46, 70))
    predict_folder(scaled, tmp_path / "in.png", tmp_path / "out", um_per_px=0.5)
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").open())
    assert (row["um_per_px"], row["tiles"]) == ("0.5", "6")
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert written["scale"] == {"um_per_px": 0.5, "field": [24, 24]}
    printed = capsys.readouterr().out
    assert "scale of the network: 0.5 µm per pixel, tiles of 24x24 pixels (12 x 12 µm)" in printed
    assert "by --um_per_px: 0.5 (1); 6 tiles, at most 6 of an image" in printed
    predict_folder(unscaled, tmp_path / "in.png", tmp_path / "plain")
    (row,) = csv.DictReader((tmp_path / "plain" / "predictions.csv").open())
    assert not {"um_per_px", "tiles"} & set(row)
    assert "scale of the" not in capsys.readouterr().out


def test_breakhis_images_bring_their_scale_in_their_names(scaled, tmp_path, capsys):
    for name in ("SOB_M_PC-14-9146-40-001.png", "SOB_M_PC-14-9146-200-002.png"):
        write(tmp_path / "in" / name, picture(92, 140))
    predictions = predict_folder(scaled, tmp_path / "in", tmp_path / "out", overlays=False)
    assert [(one.um_per_px, one.tiles) for one in predictions] == [(0.1, 2), (0.49, 24)]
    printed = capsys.readouterr().out
    assert "by BreaKHis names: 0.1 (1), 0.49 (1)" in printed and "WARNING" not in printed
    predict_folder(scaled, tmp_path / "in", tmp_path / "out", overlays=False, um_per_px=0.1)
    printed = capsys.readouterr().out
    assert "by --um_per_px: 0.1 (2); 4 tiles" in printed
    assert "WARNING: by their BreaKHis names, 1 of 2 images have another scale" in printed


def test_a_table_brings_the_scales_of_its_images(scaled, tmp_path, capsys):
    names = ("a.png", "b.png", "SOB_M_PC-14-9146-200-002.png")
    for name in names:
        write(tmp_path / name, picture(92, 140))
    table = tmp_path / "images.csv"
    stated = ("0.5", "0,25", "")
    rows = ["file;um_per_px", *(f"{name};{um}" for name, um in zip(names, stated, strict=True))]
    table.write_text("\n".join(rows))
    predictions = predict_folder(scaled, table, tmp_path / "out", overlays=False)
    found = {one.file: (one.um_per_px, one.tiles) for one in predictions}
    assert found == {"a.png": (0.5, 24), "b.png": (0.25, 6), names[2]: (0.1, 2)}
    assert "by the table and BreaKHis names: 0.1 (1), 0.25 (1), 0.5 (1)" in capsys.readouterr().out
    with pytest.raises(UserError, match="both state the scale"):
        predict_folder(scaled, table, tmp_path / "out", um_per_px=0.5)


def test_a_scale_that_is_not_known_is_asked_for_before_any_image_is_read(scaled, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(b"no image")
    (tmp_path / "in" / "SOB_M_PC-14-9146-40-001.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"scale of 1 of 2 images is not known, .* x\.png.*--um_per"
    ):
        predict_folder(scaled, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"um_per_px": 420.0}, "--um_per_px=420 is no plausible scale"),
        ({"um_per_px": float("nan")}, "--um_per_px=nan is no plausible scale"),
        ({"um_per_px": 15.0}, "--um_per_px=15 cannot be used: .* enlarged 30 times"),
        ({"um_per_px": 0.5, "tta": "tiles"}, "--tta=tiles cuts tiles without a scale"),
        ({"um_per_px": 0.5, "tta": "both"}, "--tta=both cuts tiles without a scale"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(scaled, tmp_path, options, words):
    write(tmp_path / "in.png", picture(46, 70))
    with pytest.raises(UserError, match=words):
        predict_folder(scaled, tmp_path / "in.png", tmp_path / "out", **options)


def test_a_run_without_a_scale_does_not_ignore_one_silently(unscaled, tmp_path):
    write(tmp_path / "in.png", picture(46, 70))
    with pytest.raises(UserError, match="--um_per_px=0.5 has no effect: the run was trained"):
        predict_folder(unscaled, tmp_path / "in.png", tmp_path / "out", um_per_px=0.5)
    with pytest.raises(UserError, match="um_per_px=0.5 has no effect"):
        se_resnet.load_run(unscaled).predict([picture()], um_per_px=0.5)


def test_an_image_of_too_many_tiles_is_listed_and_the_others_are_predicted(
    scaled, tmp_path, capsys
):
    write(tmp_path / "in" / "good.png", picture(46, 70))
    write(tmp_path / "in" / "large.png", np.zeros((1200, 1000, 3), np.uint8))
    (one,) = predict_folder(scaled, tmp_path / "in", tmp_path / "out", um_per_px=1.5)
    assert one.file == "good.png"
    assert "not used: large.png would have 3,000x3,600 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("um_per_px", "words"),
    [
        (None, "the network has a scale .* give the scale of the images by um_per_px"),
        ([0.5, 0.5], "um_per_px has 2 values for 1 images"),
        (-1, "um_per_px=-1 is no plausible scale"),
    ],
)
def test_the_predictor_asks_for_the_scale(scaled, um_per_px, words):
    model = se_resnet.load_run(scaled)
    assert model.scale == SCALE
    for call in (model.predict, model.prepare):
        with pytest.raises(UserError, match=words):
            call([picture()], um_per_px=um_per_px)


def test_the_predictor_prepares_the_middle_tile(scaled):
    image = picture(46, 70)
    (tile,) = se_resnet.load_run(scaled).prepare([image], um_per_px=np.float32(0.5))
    assert (tile == resize(image[11:35, 23:47], (16, 16), "squash")).all()


def test_a_package_keeps_the_scale(scaled, tmp_path):
    package = se_resnet.save_pretrained(scaled, tmp_path / "package")
    model = se_resnet.from_pretrained(package)
    assert model.scale == SCALE
    expected = se_resnet.load_run(scaled).predict([picture()], um_per_px=0.3)
    np.testing.assert_array_equal(model.predict([picture()], um_per_px=0.3), expected)
    card = (package / "README.md").read_text()
    assert "| scale | 0.5 µm per pixel, tiles of 24x24 pixels (12 x 12 µm)" in card
    assert 'model.predict(["image.png"], um_per_px=0.42)' in card


@pytest.mark.parametrize("scale", [{"um_per_px": 0.5}, {"um_per_px": 0, "field": [1, 1]}, 7])
def test_a_package_with_a_broken_scale_is_refused(scaled, tmp_path, scale):
    package = se_resnet.save_pretrained(scaled, tmp_path / "package")
    path = package / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scale": scale}))
    with pytest.raises(UserError, match="cannot be used: .*scale"):
        se_resnet.from_pretrained(package)
