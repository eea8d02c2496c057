from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from benchmarks.near_duplicates import COPIES, views
from data.breakhis.filenames import parse
from data.protocols.near_duplicates import (
    NEAR_DISTANCE,
    count_near_duplicates,
    distances,
    least_distances,
    near_duplicates,
    perceptual_hash,
    view_hashes,
)
from data.records import Records
from se_resnet.runtime.paths import SAMPLE_FOLDER
from tests.helpers.datasets import make_records
from tests.helpers.pictures import altered, pictures

VIEWS = ("mirrored", "upside down", *(f"turned by {angle} degrees" for angle in (90, 180, 270)))


@pytest.fixture
def divided() -> tuple[Records, np.ndarray, np.ndarray]:
    """128 images of 32 patients, 100 of them tested, whose pixels are in another order."""
    records = make_records(images=2)
    roles = np.where(np.arange(len(records)) < 100, "test", "train")
    order = np.random.default_rng(1).permutation(len(records))
    return dataclasses.replace(records, row=order), roles, pictures(len(records))


def test_near_duplicates_are_found_in_every_block_by_row(divided):
    records, roles, images = divided
    for test in (3, 63, 64, 99):
        images[records.row[test]] = altered(images[records.row[test % 28 + 100]])
    found = {(pair["test_file"], pair["file"]) for pair in near_duplicates(records, roles, images)}
    assert found == {
        (records.file[test], records.file[test % 28 + 100]) for test in (3, 63, 64, 99)
    }


@pytest.mark.parametrize("name", VIEWS)
def test_mirrored_and_turned_copies_are_found(divided, name):
    records, roles, images = divided
    images[records.row[5]] = altered(COPIES[name](images[records.row[110]]))
    (pair,) = near_duplicates(records, roles, images)
    assert (pair["test_file"], pair["file"]) == (records.file[5], records.file[110])
    assert pair["role"] == "train" and not pair["same_accession"]
    assert 0 < pair["distance"] <= NEAR_DISTANCE


@pytest.mark.parametrize("size", [(96, 96), (460, 700), (16, 24)])
def test_hashes_of_views_are_those_of_the_turned_pixels(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    expected = {perceptual_hash(np.ascontiguousarray(view)).tobytes() for view in views(image)}
    found = view_hashes(image)
    assert {view.tobytes() for view in found} == expected and len(expected) == 8
    assert (found[0] == perceptual_hash(image)).all()


def test_distance_counts_differing_bits():
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 2**64, (size, 4), np.uint64) for size in (3, 5))
    expected = [
        [
            sum((int(a) ^ int(b)).bit_count() for a, b in zip(one, other, strict=True))
            for other in right
        ]
        for one in left
    ]
    assert distances(left, right).tolist() == expected


def test_the_nearest_view_counts():
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 2**64, size, np.uint64) for size in ((3, 8, 4), (5, 4)))
    each = np.stack([distances(left[:, view], right) for view in range(8)])
    assert (least_distances(left, right) == each.min(axis=0)).all()
    assert len(set(each.argmin(axis=0).ravel().tolist())) > 3


def test_hash_separates_pictures_and_survives_small_changes():
    one, other = pictures(2)
    hashes = np.stack([perceptual_hash(image) for image in (one, altered(one), other)])
    found = distances(hashes, hashes)
    assert found[0, 0] == 0 and found[0, 1] <= NEAR_DISTANCE < found[0, 2]
    assert found[0, 2] == pytest.approx(128, abs=40)


def test_test_images_are_counted_once_however_many_pairs_they_have():
    rows = [("a", True), ("a", False), ("b", True), ("c", False), ("c", False)]
    pairs = [{"test_file": name, "same_accession": same} for name, same in rows]
    assert count_near_duplicates(pairs) == {
        "near_duplicate_test_images": 3,
        "near_duplicate_test_images_of_another_accession": 2,
    }
    assert set(count_near_duplicates([]).values()) == {0}


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """The images that ship with the project, ``uint8 [116, 224, 224, 3]``, and their accessions."""
    paths = sorted(SAMPLE_FOLDER.rglob("*.png"))
    read = (cv2.imread(str(path))[..., ::-1] for path in paths)
    images = [cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA) for image in read]
    return np.stack(images), np.array([parse(path.name).accession for path in paths])


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_micrographs_are_found_as_documented(sample, name):
    images, _ = sample
    copies = np.stack([view_hashes(np.ascontiguousarray(COPIES[name](image))) for image in images])
    hashes = np.stack([perceptual_hash(image) for image in images])
    found = np.diagonal(least_distances(copies, hashes)) <= NEAR_DISTANCE
    if name == "shifted by 5 %":
        assert not found.any()
    elif name in ("shifted by 3 %", "shifted by 2 % across and down"):
        assert 0.9 < found.mean() <= 1
    else:
        assert found.all()


def test_no_micrographs_of_different_accessions_are_near(sample):
    images, accession = sample
    hashed = np.stack([view_hashes(image) for image in images])
    found = least_distances(hashed, hashed[:, 0])[accession[:, None] != accession]
    assert found.size > 10_000 and found.min() > NEAR_DISTANCE + 10
