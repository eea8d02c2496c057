from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from data import cache
from data.dataset import load_dataset
from se_resnet.errors import UserError
from se_resnet.images.resize import resize
from se_resnet.images.scale import Scale, bring_to_scale
from se_resnet.runtime.files import write_json
from tests.helpers.datasets import make_images, make_records
from tests.helpers.generated_images import GeneratedImages
from tests.helpers.image_trees import random_image


def test_pixels_are_the_resized_images(tmp_path):
    made = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash")
    assert made.images.shape == (40, 23, 35, 3) and made.images.dtype == np.uint8
    assert len(made.records) == 40 and isinstance(made.images, np.memmap)
    for index in (0, 17, 39):
        rgb = cv2.cvtColor(random_image(seed=index), cv2.COLOR_BGR2RGB)
        row = made.records.row[index]
        assert (made.images[row] == resize(rgb, (23, 35), "squash")).all()
    with pytest.raises(ValueError, match="read-only"):
        made.images[0] = 0


def test_the_second_run_reuses_and_another_size_does_not(tmp_path):
    images = GeneratedImages()
    first = cache.open_or_build(images, tmp_path, (23, 35), "squash")
    second = cache.open_or_build(images, tmp_path, (23, 35), "squash")
    assert images.reads == 1 and first.path == second.path
    assert (first.records.file == second.records.file).all()
    for size, rule in (((24, 35), "squash"), ((23, 35), "crop")):
        assert cache.open_or_build(images, tmp_path, size, rule).path != first.path
    images.fingerprint = "changed"
    assert cache.open_or_build(images, tmp_path, (23, 35), "squash").path != first.path
    assert images.reads == 4


def test_the_scale_keeps_the_middle_tile_of_each_image(tmp_path):
    scale = Scale(0.1, (24, 24))  # of images at 40X (0.49 µm) and 200X (0.10 µm)
    images = GeneratedImages()
    made = cache.open_or_build(images, tmp_path, (16, 16), "squash", scale)
    sizes = set()
    for index in (0, 7, 39):
        rgb = cv2.cvtColor(random_image(seed=index), cv2.COLOR_BGR2RGB)
        um_per_px = {40: 0.49, 200: 0.10}[int(made.records.magnification[index])]
        sizes.add(um_per_px)
        tiled = bring_to_scale(rgb, um_per_px, scale)
        top, left = ((side - 24) // 2 for side in tiled.pixels.shape[:2])
        expected = resize(tiled.pixels[top : top + 24, left : left + 24], (16, 16), "squash")
        assert (made.images[made.records.row[index]] == expected).all()
    assert len(sizes) == 2
    assert made.facts["scale"] == {"um_per_px": 0.1, "field": [24, 24]}
    assert made.facts["most_tiles"] == 10 * 15 and made.facts["mirrored"] == 0
    again = cache.open_or_build(images, tmp_path, (16, 16), "squash", scale)
    assert again.path == made.path and images.reads == 1


def test_images_smaller_than_a_tile_are_counted(tmp_path):
    made = cache.open_or_build(
        GeneratedImages(), tmp_path, (16, 16), "squash", Scale(0.2, (24, 24))
    )
    assert made.facts["mirrored"] == 20, "those of 200X, which become 35x23"


def test_the_scale_joins_the_key_and_no_scale_leaves_it_as_it_was(tmp_path):
    paths = {
        cache.open_or_build(GeneratedImages(), tmp_path, (16, 16), "squash", scale).path.name
        for scale in (None, Scale(0.2, (16, 16)), Scale(0.25, (16, 16)), Scale(0.2, (32, 16)))
    }
    key = json.dumps([2, "generated", [16, 16], "squash"])  # of version 0.1
    assert len(paths) == 4 and hashlib.sha256(key.encode()).hexdigest()[:16] in paths


def test_an_image_of_unknown_scale_is_named(tmp_path):
    class Other(GeneratedImages):
        def examples(self):
            yield from ({**example, "file": "a.png"} for example in super().examples())

    with pytest.raises(UserError, match=r"the scale .* is not known, for example a\.png: give "):
        cache.open_or_build(Other(), tmp_path, (16, 16), "squash", Scale(0.2, (16, 16)))


def test_a_failed_build_leaves_nothing(tmp_path):
    class Failing(GeneratedImages):
        def examples(self):
            yield from list(super().examples())[:10]
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.open_or_build(Failing(), tmp_path, (23, 35), "squash")
    assert list((tmp_path / "pixels").iterdir()) == []
    assert len(cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").records) == 40


def test_a_killed_build_is_not_mistaken_for_a_finished_one(tmp_path):
    code = f"""
import pathlib, time
from data import cache
from tests.helpers.generated_images import GeneratedImages
class Slow(GeneratedImages):
    def examples(self):
        for number, example in enumerate(super().examples()):
            if number == 20:
                print("half", flush=True)
                time.sleep(60)
            yield example
cache.open_or_build(Slow(), pathlib.Path({str(tmp_path)!r}), (23, 35), "squash")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    images = GeneratedImages()
    made = cache.open_or_build(images, tmp_path, (23, 35), "squash")
    assert images.reads == 1 and len(made.records) == 40
    assert [path.name for path in (tmp_path / "pixels").iterdir()] == [made.path.name]


def test_a_living_build_is_not_taken_for_a_killed_one(tmp_path):
    class Slow(GeneratedImages):
        def examples(self):
            for number, example in enumerate(super().examples()):
                if number == 20:
                    (building,) = (tmp_path / "pixels").glob(".*.building")
                    os.utime(building, (0, 0))  # another machine's clock is far ahead
                    other = GeneratedImages(fingerprint="other")
                    cache.open_or_build(other, tmp_path, (23, 35), "squash")
                yield example

    made = cache.open_or_build(Slow(), tmp_path, (23, 35), "squash")
    assert len(made.records) == 40 and made.images.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("damage", ["images.npy", "records.csv", "cache.json"])
def test_a_damaged_cache_is_named(tmp_path, damage):
    path = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").path
    content = (path / damage).read_bytes()
    (path / damage).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="delete the folder and run again"):
        cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash")
    (path / damage).unlink()
    with pytest.raises(UserError, match="delete the folder and run again"):
        cache.open_cache(path)


@pytest.mark.parametrize("place", [200, 40 * 23 * 35 * 3 // 2, -50])
def test_zeroed_pixels_are_found(tmp_path, place, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 10_000)
    path = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").path
    content = bytearray((path / "images.npy").read_bytes())
    place %= len(content)
    content[place : place + 40] = bytes(40)
    (path / "images.npy").write_bytes(content)
    with pytest.raises(UserError, match="images.npy is damaged.*delete the folder and run again"):
        cache.open_cache(path)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"0"])
def test_another_size_is_found_also_without_checksums(tmp_path, change):
    path = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").path
    forget_checksums(path)
    assert len(cache.open_cache(path).images) == 40
    assert "checksums" not in json.loads((path / "cache.json").read_text()), "none can be vouched"
    (path / "images.npy").write_bytes(change((path / "images.npy").read_bytes()))
    with pytest.raises(UserError, match="delete the folder and run again"):
        cache.open_cache(path)


def forget_checksums(path):
    """Makes a cache as it was before there were checksums."""
    facts = json.loads((path / "cache.json").read_text())
    del facts["checksums"]
    write_json(path / "cache.json", facts)


def test_files_of_two_caches_are_not_taken_for_one(tmp_path):
    squash, crop, small = (
        cache.open_or_build(GeneratedImages(), tmp_path / str(number), size, rule).path
        for number, (size, rule) in enumerate(
            [((23, 23), "squash"), ((23, 23), "crop"), ((22, 23), "crop")]
        )
    )
    shutil.copy(crop / "images.npy", squash)
    with pytest.raises(UserError, match="images.npy is damaged"):
        cache.open_cache(squash)
    shutil.copy(crop / "cache.json", squash)
    assert len(cache.open_cache(squash).images) == 40
    with pytest.raises(UserError, match="another source, size or resize rule"):
        cache.open_or_build(GeneratedImages(), tmp_path / "0", (23, 23), "squash")
    forget_checksums(crop)
    shutil.copy(small / "images.npy", crop)
    with pytest.raises(UserError, match=r"no images of size \[23, 23\]"):
        cache.open_cache(crop)


def test_a_pipe_in_place_of_the_pixels_is_not_waited_for(tmp_path):
    path = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").path
    (path / "images.npy").unlink()
    os.mkfifo(path / "images.npy")
    with pytest.raises(UserError, match="images.npy is not a regular file"):
        cache.open_cache(path)


@pytest.mark.parametrize("value", [None, 7, {"images.npy": [1]}, {"images.npy": ["x"]}])
def test_checksums_of_another_form_are_named(tmp_path, value):
    path = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").path
    facts = json.loads((path / "cache.json").read_text())
    write_json(path / "cache.json", {**facts, "checksums": value})
    with pytest.raises(UserError, match="delete the folder and run again"):
        cache.open_cache(path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("cache.json", b"{", b"[" * 100_000),
        ("cache.json", b'"fingerprint"', b'"other"'),
        ("images.npy", b"descr", b"d\0scr"),
        ("images.npy", b"'shape': (", b"'shape': (("),
        ("records.csv", b",0,", b",7,"),
        ("records.csv", b",40,", b"," + b"9" * 30 + b","),
        ("records.csv", b"benign", b"x" * 200_000),
        ("records.csv", b",0\r\n", b",99\r\n"),
    ],
)
def test_any_damage_of_a_cache_is_named(tmp_path, name, old, new):
    path = cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash").path
    forget_checksums(path)
    content = (path / name).read_bytes()
    old = old if old in content else content[40:41]
    (path / name).write_bytes(content.replace(old, new, 1))
    with pytest.raises(UserError, match="delete the folder and run again"):
        cache.open_cache(path)


def test_too_little_disk_is_told_before_the_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match="set config.data.cache_dir"):
        cache.open_or_build(GeneratedImages(), tmp_path, (23, 35), "squash")


@pytest.mark.parametrize(
    ("size", "rule", "words"),
    [
        ((23, 35), "stretch", "choose from squash, .*crop, .*none"),
        ((0, 35), "squash", "is no image size"),
        ((23, 35, 3), "squash", "is no image size"),
        ((23.5, 35), "squash", "is no image size"),
        ((23, 35), "none", r"SOB_B_A-14-100.*png: the image is 70x46"),
    ],
)
def test_mistakes_are_named(tmp_path, size, rule, words):
    with pytest.raises(UserError, match=words):
        cache.open_or_build(GeneratedImages(), tmp_path, size, rule)


def test_a_cache_of_images_with_names_of_their_own_opens(tmp_path):
    records = make_records(1, 1, 1, (40,))
    images = make_images(records, (4, 4))
    write_json(tmp_path / "cache.json", {"fingerprint": "f", "size": [4, 4], "resize": "squash"})
    np.save(tmp_path / "images.npy", images)
    dataclasses.replace(records, file=np.array(["a.png", "b.png"])).write_csv(
        tmp_path / "records.csv"
    )
    dataset = load_dataset(str(tmp_path), size=(4, 4), cache_dir=str(tmp_path / "cache"))
    assert dataset.description == "cache of a table: 2 images of 2 patients"
