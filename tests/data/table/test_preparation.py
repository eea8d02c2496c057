"""Images of a table: validated once, hashed, and read for the cache."""

from __future__ import annotations

import shutil
import zipfile

import cv2
import numpy as np
import pytest

from data.dataset import load_dataset
from data.table import preparation
from data.table.columns import read_image_table
from data.table.preparation import prepare
from se_resnet.errors import UserError
from tests.helpers.own_images import own_table, write_images, write_table


@pytest.fixture()
def images(tmp_path):
    return own_table(tmp_path / "images", site=lambda number: "AB"[number % 2])


def load(table, tmp_path, **options):
    return load_dataset(str(table), size=(16, 16), cache_dir=str(tmp_path / "cache"), **options)


def test_a_table_becomes_pixels_and_records(images, tmp_path):
    dataset = load(images, tmp_path)
    records = dataset.records
    assert dataset.images.shape == (36, 16, 16, 3)
    assert records.file[0] == "case00_0.jpg" and records.accession[0] == "case00"
    assert set(records.magnification.tolist()) == {0} and set(records.subtype.tolist()) == {""}
    assert records.extra["site"].tolist()[:2] == ["A", "B"]
    means = dataset.images[records.row].mean((1, 2, 3))
    assert means[records.label == 1].min() > means[records.label == 0].max()
    assert dataset.description.startswith("table images.csv: 36 images of 12 patients")
    assert "further columns" not in dataset.description


def test_a_few_images_are_read_again_by_name(images, tmp_path):
    dataset = load(images, tmp_path)
    assert dataset.originals is not None
    path = images.parent / "case00_0.jpg"
    assert dataset.originals({"case00_0.jpg", "none.jpg"}) == {"case00_0.jpg": path.read_bytes()}
    path.unlink()
    assert dataset.originals({"case00_0.jpg"}) == {}


def test_the_second_call_decodes_nothing(images, tmp_path, monkeypatch):
    first = load(images, tmp_path)
    monkeypatch.setattr(preparation, "examine_all", None)
    second = load(images, tmp_path)
    assert second.fingerprint == first.fingerprint
    assert np.array_equal(first.images, second.images)


def test_another_label_is_another_data_set_without_validating_again(images, tmp_path, monkeypatch):
    first = load(images, tmp_path)
    monkeypatch.setattr(preparation, "examine_all", None)
    images.write_text(images.read_text().replace("case00_0.jpg,0", "case00_0.jpg,1"))
    second = load(images, tmp_path)
    assert second.fingerprint != first.fingerprint and second.records.label[0] == 1


def test_a_replaced_image_is_read_again(images, tmp_path):
    first = load(images, tmp_path)
    cv2.imwrite(str(images.parent / "case00_0.jpg"), np.full((30, 30, 3), 7, np.uint8))
    second = load(images, tmp_path)
    assert second.records.digest[0] != first.records.digest[0]


def test_unusable_images_are_all_listed_or_skipped(images, tmp_path):
    folder = images.parent
    (folder / "case00_0.jpg").write_bytes((folder / "case00_0.jpg").read_bytes()[:100])
    cv2.imwrite(str(folder / "case00_1.jpg"), np.full((8, 30, 3), 90, np.uint8))
    (folder / "case00_2.jpg").write_text("text")
    with pytest.raises(UserError) as error:
        load(images, tmp_path)
    text = str(error.value)
    assert text.startswith("3 of 36 image files are unusable")
    assert "case00_1.jpg: has 30x8 pixels" in text and "case00_2.jpg: is not an image" in text
    dataset = load(images, tmp_path, on_bad_image="skip")
    assert len(dataset.records) == 33 and len(dataset.skipped) == 3
    assert "skipped: 3 files" in dataset.description


def test_missing_files_are_found_before_an_image_is_read(images, tmp_path, monkeypatch):
    (images.parent / "case03_1.jpg").unlink()
    monkeypatch.setattr(preparation, "examine_all", None)
    with pytest.raises(UserError, match=r"1 of 36 image file is unusable.*\n.*does not exist"):
        load(images, tmp_path)


def test_equal_pixels_under_both_labels_are_refused(images, tmp_path):
    shutil.copy(images.parent / "case00_0.jpg", images.parent / "case11_0.jpg")
    with pytest.raises(UserError) as error:
        load(images, tmp_path)
    assert "case11_0.jpg: is labelled malignant, but its pixels are those of case00_0.jpg" in str(
        error.value
    )


def test_equal_pixels_of_several_patients_are_counted(images, tmp_path):
    shutil.copy(images.parent / "case00_0.jpg", images.parent / "case01_0.jpg")
    assert "1 of these groups are of several patients" in load(images, tmp_path).description


def test_images_of_an_archive_are_those_of_the_folder(images, tmp_path):
    files = sorted(images.parent.glob("*.jpg"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in files:
            archive.write(file, f"in/{file.name}")
    listed = tmp_path / "zipped.csv"
    listed.write_text(images.read_text().replace("\ncase", "\nall.zip/in/case"))
    zipped, plain = load(listed, tmp_path), load(images, tmp_path)
    assert np.array_equal(zipped.images[zipped.records.row], plain.images[plain.records.row])
    assert zipped.records.digest.tolist() == plain.records.digest.tolist()


def test_a_file_removed_after_validation_is_named(images, tmp_path):
    prepared = prepare(read_image_table(images), tmp_path)
    (images.parent / "case00_0.jpg").unlink()
    with pytest.raises(
        UserError, match="case00_0.jpg cannot be read: .*: it was changed meanwhile"
    ):
        list(prepared.examples())


def test_patients_in_two_spellings_are_warned_about(tmp_path):
    rows = write_images(tmp_path, patients=2)
    rows[1]["patient"] = rows[1]["patient"].upper()
    table = write_table(tmp_path / "images.csv", rows)
    assert "differ only in upper and lower case" in load(table, tmp_path).description


def test_settings_of_tables_are_refused_for_other_sources(tmp_path):
    with pytest.raises(UserError, match="say how a table is read"):
        load("sample", tmp_path, positive="tumor")


def test_a_finished_cache_of_a_table_opens_without_the_images(images, tmp_path):
    first = load(images, tmp_path)
    (folder,) = (tmp_path / "cache" / "pixels").iterdir()
    shutil.rmtree(images.parent)
    again = load(folder, tmp_path)
    assert again.records.extra["site"].tolist() == first.records.extra["site"].tolist()
    assert again.description.startswith("cache of a table: 36 images of 12 patients")
