from __future__ import annotations

import csv
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np
import pytest

import eval as evaluation
from se_resnet.errors import UserError
from se_resnet.images import decode
from se_resnet.images.decode import read_image
from se_resnet.metrics.predictions import Predictions
from se_resnet.predict import folder as predict_folder_module
from se_resnet.predict.folder import predict_folder
from se_resnet.report import publish
from se_resnet.runs import evaluations
from tests.helpers.image_trees import encode, random_image
from tests.helpers.marks import compiled
from tests.helpers.page import Page


def run_predict(run, source, out, **options):
    return predict_folder(run, source, out, **{"overlays": False} | options)


@pytest.mark.parametrize("tta", ["none", compiled("dihedral"), compiled("tiles"), "both"])
def test_test_images_get_the_probabilities_of_the_evaluation(run, place, tmp_path, tta):
    run_predict(run, place[0], tmp_path / "out", tta=tta)
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    ours = {row["file"].rsplit("/", 1)[-1]: float(row["probability"]) for row in rows}
    evaluation.evaluate_run(run, tta=tta, out=tmp_path / "eval")
    expected = Predictions.read_csv(tmp_path / "eval" / "predictions.csv")
    assert len(expected) > 0
    for file, probability in zip(expected.file.tolist(), expected.probability, strict=True):
        assert ours[file] == pytest.approx(probability, abs=1e-6)


def test_patients_are_the_mean_of_their_images(run, place, tmp_path):
    run_predict(run, place[0], tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    patients = list(csv.DictReader((tmp_path / "out" / "patients.csv").open()))
    assert len(patients) == 24
    first = patients[0]
    own = [float(row["probability"]) for row in rows if row["patient"] == first["patient"]]
    assert int(first["images"]) == len(own) == 6
    assert float(first["mean_probability"]) == pytest.approx(np.mean(own))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_any_format_and_size_is_read(run, tmp_path, suffix):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), random_image((123, 45)))
    (one,) = run_predict(run, path, tmp_path / "out")
    assert one.file == path.name and 0 <= one.probability <= 1 and one.patient == ""
    assert not (tmp_path / "out" / "patients.csv").exists()


def test_depths_and_channels_become_the_same_8_bit_rgb(tmp_path):
    image = random_image()
    variants = {
        "rgb.png": image,
        "deep.png": image.astype(np.uint16) * 257,
        "opaque.png": np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
        "deep.tif": image.astype(np.uint16) * 257,
    }
    for name, pixels in variants.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        assert (read_image(tmp_path / name) == image[..., ::-1]).all(), name
    cv2.imwrite(str(tmp_path / "grey.png"), image[..., 0])
    assert (read_image(tmp_path / "grey.png") == image[..., :1]).all()


def test_one_bad_file_does_not_stop_the_others_and_is_listed(run, tmp_path, capsys):
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    for number in range(18):  # more than a batch
        cv2.imwrite(str(folder / f"good{number}.png"), random_image(seed=number))
    (folder / "empty.png").touch()
    (folder / "broken.jpg").write_bytes(b"no image at all")
    cv2.imwrite(str(folder / "float.tif"), np.ones((20, 20, 3), np.float32))
    (folder / "film.png").write_bytes(b"GIF89a" + bytes(40))
    predictions = run_predict(run, tmp_path / "in", tmp_path / "out", overlays=True)
    assert len(predictions) == 18
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert sorted(failure["file"] for failure in written["failures"]) == [
        "deeper/broken.jpg",
        "deeper/empty.png",
        "deeper/film.png",
        "deeper/float.tif",
    ]
    assert "no medical device" in written["notice"]
    assert len(list((tmp_path / "out" / "overlays" / "deeper").glob("*.png"))) == 18
    out = capsys.readouterr().out
    assert "not used: deeper/float.tif has pixels of type float32" in out
    assert "not used: deeper/film.png is a GIF, which is not read: save it as PNG" in out
    assert "no medical device" in out


def test_what_was_not_looked_at_and_not_trained_on_is_told(run, tmp_path, capsys, monkeypatch):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    for path in (folder / "SOB_M_PC-14-9146-40-001.png", elsewhere / "SOB_M_PC-14-9146-40-002.png"):
        path.write_bytes(encode(random_image()))
    (folder / "notes.txt").touch()
    monkeypatch.setattr(predict_folder_module, "_trained_magnifications", lambda _: [200])
    assert len(run_predict(run, folder, tmp_path / "out")) == 2
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert written["not_looked_at"] == {"other suffixes": {"count": 1, "examples": [".txt"]}}
    assert written["other_magnifications"] == {"40X": 2}
    (patient,) = csv.DictReader((tmp_path / "out" / "patients.csv").open())
    assert (patient["images"], patient["copies"]) == ("1", "1")
    told = capsys.readouterr().out
    assert "not looked at: other suffixes 1 (.txt 1)" in told
    assert "2 of 2 images have a magnification that the run was not trained on: 40X 2" in told
    assert "copies of another image of the same patient, not counted: 1" in told


def test_every_skipped_file_is_listed_with_its_path_and_reason(run, tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.webp").write_bytes(encode(random_image()))
    (folder / "deeper" / "notes.txt").touch()
    (folder / ".hidden.png").touch()
    (folder / "lost.png").symlink_to(tmp_path / "nothing.png")
    run_predict(run, folder, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "not_predicted.csv").open()))
    assert {row["path"]: row["reason"].split(":")[0] for row in rows} == {
        str(folder / "lost.png"): "cannot be read",
        str(folder / ".hidden.png"): "hidden",
        str(folder / "deeper" / "notes.txt"): "other suffixes",
    }
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").open())
    assert (row["file"], row["path"]) == ("a.webp", str(folder / "a.webp"))
    printed = capsys.readouterr().out
    assert "hidden 1 (.hidden.png)" in printed and "not used: lost.png cannot be read" in printed
    run_predict(run, folder / "a.webp", tmp_path / "out")
    assert not (tmp_path / "out" / "not_predicted.csv").exists()


def test_several_inputs_and_patterns_are_predicted_together(run, tmp_path):
    for name in ("a/1.png", "a/2.png", "a/3.jpg", "b/c/1.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(random_image(seed=len(name))))
    sources = [tmp_path / "a" / "*.png", tmp_path / "b", tmp_path / "a" / "1.png"]
    predictions = run_predict(run, sources, tmp_path / "out")
    assert [one.file for one in predictions] == ["a/1.png", "a/2.png", "b/c/1.png"]
    with pytest.raises(UserError, match=r"--input=.*\*\.gif matches no file"):
        run_predict(run, [tmp_path / "a" / "*.gif"], tmp_path / "out")
    (tmp_path / "t.csv").write_text("file\na/1.png\n")
    with pytest.raises(UserError, match="other inputs are given too"):
        run_predict(run, [tmp_path / "t.csv", tmp_path / "b"], tmp_path / "out")


def test_a_given_threshold_decides_the_calls_and_is_named(run, place, tmp_path, capsys):
    source = next(place[0].rglob("*.png")).parent
    own = run_predict(run, source, tmp_path / "out")
    middle = float(np.median([one.probability for one in own]))
    given = run_predict(run, source, tmp_path / "out", threshold=middle)
    assert [one.call == "malignant" for one in given] == [one.probability >= middle for one in own]
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert {float(row["threshold_of_probability"]) for row in rows} == {middle}
    printed = capsys.readouterr().out
    assert "the threshold was given, in place of the run's" in printed
    with pytest.raises(UserError, match="threshold 1.5 is not a probability"):
        run_predict(run, source, tmp_path / "out", threshold=1.5)


def test_up_to_20_images_are_listed_on_the_screen(run, place, tmp_path, capsys):
    image = next(place[0].rglob("*.png"))
    (one,) = run_predict(run, image, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["image", "probability"]
    assert lines[2].split()[:2] == [image.name, f"{one.probability:.3f}"] and one.call in lines[2]
    assert run_predict(run, place[0], tmp_path / "out")
    assert "probability" not in capsys.readouterr().out.splitlines()[1]


def test_overlays_have_the_shape_of_the_image(run, tmp_path):
    image = random_image((70, 46))
    (tmp_path / "in.png").write_bytes(encode(image))
    for tta in ("none", "tiles"):
        run_predict(run, tmp_path / "in.png", tmp_path / "out", overlays=True, tta=tta)
        shown = cv2.imread(str(tmp_path / "out" / "overlays" / "in.png.png"))
        assert shown.shape == (46, 140, 3)
        np.testing.assert_array_equal(shown[:, :70], cv2.imread(str(tmp_path / "in.png")))
    assert (shown[:, 70:82] == shown[:, :12]).all()  # the middle tile did not see the left end


def test_a_page_of_another_origin_is_not_replaced(run, tmp_path):
    (tmp_path / "in.png").write_bytes(encode(random_image()))
    (tmp_path / "predictions.html").write_text("mine")
    with pytest.raises(UserError, match="is not a page of predictions"):
        run_predict(run, tmp_path / "in.png", tmp_path)
    assert (tmp_path / "predictions.html").read_text() == "mine"


def test_a_pattern_that_matches_nothing_is_told(run, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encode(random_image()))
    run_predict(run, tmp_path / "a.png", tmp_path / "out", patient_pattern=r"(P\d)/")
    assert "WARNING: --patient_pattern='(P\\\\d)/' matches no" in capsys.readouterr().out


HOSTILE_NAMES = (
    "a" * 251 + ".png",
    "a" * 250 + "b.png",
    "\udcff\udcfe.png",
    "line\nbreak\r.png",
    "\"'`;$(touch x),=1+1.png",
    "<img src=x onerror=alert(1)>.png",
)


def test_any_file_name_is_predicted_written_and_told(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(HOSTILE_NAMES):
        (folder / name).write_bytes(encode(random_image(seed=seed)))
    (folder / "broken\udcff.png").touch()
    run_predict(run, folder, tmp_path / "out", overlays=True)
    text = (tmp_path / "out" / "predictions.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["file"] for row in rows} == set(HOSTILE_NAMES)
    overlays = list((tmp_path / "out" / "overlays").iterdir())
    assert len(overlays) == len(HOSTILE_NAMES)
    written = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {".csv", ".json", ".png", ".html"}
    page = (tmp_path / "out" / "predictions.html").read_text("utf-8")
    assert "<img src=x" not in page and "<script" not in page
    shown = {unquote_to_bytes(link) for link in Page(page).links if link != "data:,"}
    assert shown == {b"overlays/" + os.fsencode(path.name) for path in overlays}


def test_a_name_that_no_terminal_shows_does_not_end_the_command(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken\udcff.png").touch()
    (tmp_path / "in" / "good.png").write_bytes(encode(random_image()))
    code = (
        "import sys\nfrom pathlib import Path\nfrom se_resnet.predict import folder\n"
        "from se_resnet.runtime.cli import run_command\n"
        "run_command(lambda: folder.predict_folder(*map(Path, sys.argv[1:]), overlays=False))"
    )
    paths = [str(path) for path in (run, tmp_path / "in", tmp_path / "out")]
    told = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "not used: broken\\udcff.png" in told.stdout


def test_a_chunk_that_claims_two_gigabytes_gets_none(tmp_path):
    content = bytearray(encode(random_image()))
    content[33:37] = b"\x7f\xff\xff\xff"  # the length of the first chunk after the header
    (tmp_path / "claim.png").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="is truncated"):
        read_image(tmp_path / "claim.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b""))
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    with pytest.raises(ValueError, match="OPENCV_IO_MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "bomb.png")
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="is larger than"):
        read_image(tmp_path / "bomb.png")


def test_calls_follow_the_stored_threshold_and_doubt(run, place, tmp_path):
    predictions = run_predict(run, place[0], tmp_path / "out")
    decision = json.loads((tmp_path / "out" / "predictions.json").read_text())["decision"]
    for one in predictions:
        assert (one.call == "malignant") == (one.probability >= decision["threshold"])
    assert 0 < sum(one.uncertain for one in predictions) < len(predictions)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("nothing", {}, "does not exist"),
        ("x" * 300, {}, "does not exist or cannot be read"),
        (".", {}, "holds no image"),
        (".", {"patient_pattern": "("}, "cannot be used"),
        (".", {"patient_pattern": "abc"}, "no group"),
    ],
)
def test_mistakes_are_named(run, tmp_path, source, options, words):
    with pytest.raises(UserError, match=words):
        run_predict(run, tmp_path / source, tmp_path / "out", **options)


def test_earlier_predictions_are_replaced_and_other_files_stay(run, tmp_path):
    out = tmp_path / "out"
    names = ("SOB_B_A-14-1-40-001.png", "deeper/second.png")
    for seed, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(random_image(seed=seed)))
    run_predict(run, tmp_path / "in", out, overlays=True)
    mine = {out / "notes.txt", out / "overlays" / "mine.png"}
    for path in mine:
        path.write_text("mine")
    (out / ".predictions.csv.ea9ae822").touch()
    third = tmp_path / "third.png"
    third.write_bytes(encode(random_image(seed=2)))
    run_predict(run, third, out, overlays=True)
    tables = {out / f"predictions.{ending}" for ending in ("csv", "json", "html")}
    written = {path for path in out.rglob("*") if path.is_file()}
    assert written == {*tables, out / "overlays" / "third.png.png", *mine}
    assert not (out / "overlays" / "deeper").exists()


def test_a_prediction_that_is_interrupted_leaves_the_one_before(run, tmp_path, monkeypatch):
    (tmp_path / "in.png").write_bytes(encode(random_image()))
    out = tmp_path / "out"
    run_predict(run, tmp_path / "in.png", out, overlays=True)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(*_arguments):
        raise KeyboardInterrupt

    (tmp_path / "in.png").write_bytes(encode(random_image(seed=1)))
    monkeypatch.setattr(predict_folder_module, "write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        run_predict(run, tmp_path / "in.png", out, overlays=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_table_of_another_origin_is_not_replaced(run, tmp_path):
    (tmp_path / "in.png").write_bytes(encode(random_image()))
    evaluated = tmp_path / "eval"
    shutil.copytree(run / "eval" / "test", evaluated)
    with pytest.raises(UserError, match="is not a table of predictions"):
        run_predict(run, tmp_path / "in.png", evaluated)
    for path in filter(Path.is_file, evaluated.iterdir()):
        assert path.read_bytes() == (run / "eval" / "test" / path.name).read_bytes()


def test_an_evaluation_does_not_replace_a_predictions_table(run, tmp_path):
    (tmp_path / "in.png").write_bytes(encode(random_image()))
    out = tmp_path / "out"
    run_predict(run, tmp_path / "in.png", out)
    before = (out / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match=r"holds a prediction of se_resnet.predict.*another folder"):
        evaluation.evaluate_run(run, out=out)
    assert (out / "predictions.csv").read_bytes() == before


def test_a_list_of_patients_of_another_origin_is_not_replaced(run, tmp_path):
    (tmp_path / "SOB_B_A-14-1-40-001.png").write_bytes(encode(random_image()))
    (tmp_path / "patients.csv").write_text("patient,age\n14-1,50\n")
    with pytest.raises(UserError, match=r"patients\.csv is not a table of predictions"):
        run_predict(run, tmp_path, tmp_path)
    assert (tmp_path / "patients.csv").read_text() == "patient,age\n14-1,50\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_prediction_saved_by_a_spreadsheet_is_replaced(run, tmp_path, encoding):
    (tmp_path / "SOB_B_A-14-1-40-001.png").write_bytes(encode(random_image()))
    out = tmp_path / "out"
    run_predict(run, tmp_path, out)
    written = {name: (out / name).read_bytes() for name in ("predictions.csv", "patients.csv")}
    for name, content in written.items():
        (out / name).write_text(content.decode().replace(",", ";"), encoding)
    run_predict(run, tmp_path, out)
    assert {name: (out / name).read_bytes() for name in written} == written


def test_a_folder_is_predicted_alike_with_the_results_in_it(run, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(random_image()))
    first = run_predict(run, tmp_path, tmp_path, overlays=True)
    assert run_predict(run, tmp_path, tmp_path, overlays=True) == first


def test_an_evaluation_that_is_interrupted_leaves_the_one_before(run, place, tmp_path, monkeypatch):
    out = tmp_path / "eval"
    shutil.copytree(run / "eval" / "test", out)

    def fail(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "write_report", fail)
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate_run(run, "val", out=out)
    assert {path.name for path in out.iterdir()} == {*evaluations.FILES, "reporting", "gallery"}
    for path in filter(Path.is_file, out.rglob("*")):
        before = run / "eval" / "test" / path.relative_to(out)
        assert path.read_bytes() == before.read_bytes()


def test_only_broken_files_is_a_mistake(run, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match="none of the 1 files"):
        run_predict(run, tmp_path / "empty.png", tmp_path / "out")


def test_the_command_tells_a_mistake_in_one_sentence(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "se_resnet.predict",
            f"--workdir={tmp_path}",
            "--input=x",
            "--out=y",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and "must be the folder of a run" in result.stderr
    assert "Traceback" not in result.stderr
