from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from data.breakhis import builder as breakhis
from data.breakhis import decode
from data.breakhis.builder import Breakhis
from data.breakhis.filenames import SUBTYPE_FOLDERS, parse
from data.breakhis.official import official_names
from data.breakhis.preparation import prepare
from data.breakhis.summary import Summary, summarise
from data.dataset import load_dataset
from se_resnet.errors import UserError
from se_resnet.runtime.paths import SAMPLE_FOLDER
from tests.helpers.image_trees import encode, make_tree, random_image

NAMES = (
    "SOB_B_A-14-22549AB-40-001.png",
    "SOB_B_A-14-22549AB-100-001.png",
    "SOB_M_DC-14-13412-40-001.png",
    "SOB_M_LC-14-13412-40-001.png",
    "SOB_M_PC-15-190EF-400-003.png",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def tree(tmp_path):
    """Five images; the one filed as DC and LC is the same image."""
    base = make_tree(tmp_path / "tree", NAMES)
    shutil.copyfile(
        base / parse(NAMES[2]).folder / NAMES[2], base / parse(NAMES[3]).folder / NAMES[3]
    )
    return base


def test_examples_keep_bytes_and_metadata(tree, tmp_path, capfd):
    prepared = prepare(tree, tmp_path / "cache")
    examples = list(prepared.examples())
    assert [example["file"] for example in examples] == sorted(NAMES)
    assert prepared.num_images == 5
    for example in examples:
        name = parse(example["file"])
        assert example["image"] == (tree / name.folder / str(name)).read_bytes()
        assert example["digest"] == decode.inspect(example["image"]).digest
        assert (example["slide"], example["accession"]) == (name.slide, name.accession)
        assert (example["subtype"], example["label"]) == (name.subtype, name.label)
        assert example["magnification"] == name.magnification
        assert {type(example[key]) for key in ("label", "magnification")} == {int}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("packed", [False, True])
def test_a_few_images_are_read_again_by_name(tree, tmp_path, packed):
    source = tree
    if packed:
        source = tmp_path / "images.tar"
        with tarfile.open(source, "w") as archive:
            archive.add(tree, "BreaKHis_v1")
    prepared = prepare(source, tmp_path / "cache")
    wanted = {NAMES[0], NAMES[4], "SOB_M_DC-14-1-40-001.png"}
    expected = {
        name: (tree / parse(name).folder / name).read_bytes() for name in (NAMES[0], NAMES[4])
    }
    assert prepared.originals(wanted) == expected
    if not packed:
        (tree / parse(NAMES[4]).folder / NAMES[4]).unlink()
        assert {*prepared.originals(wanted)} == {NAMES[0]}


def test_summary_of_a_subset(tree, tmp_path):
    summary = prepare(tree, tmp_path / "cache").summary
    assert not summary.is_complete
    assert summary.num_missing == 7909 - 5
    assert (summary.num_slides, summary.num_accessions) == (4, 3)
    assert summary.counts["malignant"] == {40: 2, 100: 0, 200: 0, 400: 1}
    assert summary.duplicates == ((NAMES[2], NAMES[3]),)
    assert summary.describe().splitlines() == [
        "subset: 5 of 7,909 images, 4 slides, 3 accessions",
        "benign: 2 (40X 1, 100X 1)",
        "malignant: 3 (40X 2, 400X 1)",
        "accession 14-13412 is filed twice, as DC and LC: 1 identical image",
    ]


def test_summary_of_the_complete_data_set():
    digests = {name: name for name in official_names()}
    ductal, lobular = (
        [name for name in official_names() if name.startswith(f"SOB_M_{subtype}-14-13412-")]
        for subtype in ("DC", "LC")
    )
    digests.update(zip(lobular, ductal, strict=True))
    summary = summarise(digests)
    assert summary.is_complete
    assert summary.describe().splitlines() == [
        "complete: 7,909 images, 82 slides, 70 accessions",
        "benign: 2,480 (40X 625, 100X 644, 200X 623, 400X 588)",
        "malignant: 5,429 (40X 1,370, 100X 1,437, 200X 1,390, 400X 1,232)",
        "accession 14-13412 is filed twice, as DC and LC: 123 identical images",
    ]
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def test_summary_tells_other_copies_apart():
    text = summarise(
        {
            "SOB_B_A-14-22549AB-40-001.png": "a",
            "SOB_B_A-14-22549AB-40-002.png": "a",
            "SOB_B_F-14-9133-40-001.png": "b",
            "SOB_M_DC-14-2523-40-010.png": "b",
            "SOB_M_DC-14-2523-40-999.png": "c",
        }
    ).describe()
    assert "slide SOB_B_A-14-22549AB holds copies under other numbers: 1 identical image" in text
    assert "slides SOB_B_F-14-9133 and SOB_M_DC-14-2523 share 1 identical image" in text
    assert "not in the official list: 1, for example SOB_M_DC-14-2523-40-999.png" in text


def test_content_not_storage_decides_the_fingerprint(tree, tmp_path):
    from_tree = prepare(tree, tmp_path / "cache")
    nested = tmp_path / "other" / "BreaKHis_v1" / "BreaKHis_v1"
    shutil.copytree(tree, nested)
    for path in nested.rglob("*.png"):  # the same pixels, otherwise compressed
        image = cv2.imread(str(path))
        cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    archive = tmp_path / "BreaKHis_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(tree.rglob("*.png"), reverse=True):
            tar.add(path, arcname=path.relative_to(tree).as_posix())
    for other in (tmp_path / "other", archive):
        prepared = prepare(other, tmp_path / "cache")
        assert prepared.fingerprint == from_tree.fingerprint
        assert prepared.path != from_tree.path
        assert [e["file"] for e in prepared.examples()] == sorted(NAMES)
    path = nested / parse(NAMES[0]).folder / NAMES[0]
    path.write_bytes(encode(random_image(seed=99)))
    assert prepare(nested, tmp_path / "cache").fingerprint != from_tree.fingerprint


def test_the_second_call_reads_no_image(tree, tmp_path, monkeypatch):
    first = prepare(tree, tmp_path / "cache")
    monkeypatch.setattr(decode, "scan", None)
    assert prepare(tree, tmp_path / "cache") == first
    assert len(list(first.examples())) == 5


def break_two(tree) -> None:
    (tree / parse(NAMES[0]).folder / NAMES[0]).write_bytes(b"")
    (tree / parse(NAMES[4]).folder / NAMES[4]).write_bytes(encode(random_image()[:, :, 0]))


def test_bad_images_are_all_named_and_nothing_is_kept(tree, tmp_path):
    break_two(tree)
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            prepare(tree, tmp_path / "cache")
        first, *listed = str(caught.value).splitlines()
        assert first.startswith("2 of 5 image files are unusable in ")
        assert "skip" in first
        assert len(listed) == 2
        assert NAMES[0] in listed[0]
        assert "empty" in listed[0]
        assert NAMES[4] in listed[1]
        assert "grayscale" in listed[1]
    assert not list((tmp_path / "cache").rglob("*.tfrecord*"))


def test_skipped_images_are_listed_now_and_later(tree, tmp_path):
    break_two(tree)
    for _ in range(2):
        prepared = prepare(tree, tmp_path / "cache", on_bad_image="skip")
        assert prepared.num_images == 3
        assert [Path(path).name for path, _ in prepared.skipped] == [NAMES[0], NAMES[4]]
        assert "skipped: 2 files" in prepared.summary.describe()
        assert len(list(prepared.examples())) == 3
    with pytest.raises(UserError):
        prepare(tree, tmp_path / "cache", on_bad_image="error")


def test_nothing_usable(tmp_path):
    (tmp_path / "tree" / "benign").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no usable image\."):
        prepare(tmp_path / "tree", tmp_path / "cache")
    (tmp_path / "tree" / "benign" / NAMES[0]).write_bytes(b"")
    with pytest.raises(UserError, match="all 1 were skipped"):
        prepare(tmp_path / "tree", tmp_path / "cache", on_bad_image="skip")


def test_an_unknown_policy_is_refused(tree, tmp_path):
    with pytest.raises(UserError, match="on_bad_image = 'ignore'"):
        prepare(tree, tmp_path / "cache", on_bad_image="ignore")


def test_an_interrupted_preparation_is_not_taken_for_finished(tree, tmp_path, monkeypatch):
    scan = decode.scan

    def interrupted(source):
        yield next(iter(scan(source)))
        raise KeyboardInterrupt

    monkeypatch.setattr(decode, "scan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(tree, tmp_path / "cache")
    monkeypatch.undo()
    assert prepare(tree, tmp_path / "cache").num_images == 5


def test_what_a_killed_preparation_leaves_is_ignored_and_cleared(tree, tmp_path):
    command = (
        "import os, sys\n"
        "from data.breakhis import decode, preparation\n"
        "scan = decode.scan\n"
        "def killed(source):\n"
        "    yield next(iter(scan(source)))\n"
        "    os._exit(9)\n"
        "decode.scan = killed\n"
        "preparation.prepare(sys.argv[1], sys.argv[2])\n"
    )
    killed = subprocess.run([sys.executable, "-c", command, str(tree), str(tmp_path / "cache")])
    assert killed.returncode == 9
    folder = tmp_path / "cache" / "prepared"
    (leftover,) = folder.glob(".*.building")
    assert len(list(prepare(tree, tmp_path / "cache").examples())) == 5
    assert len(list(folder.iterdir())) == 1 and not leftover.exists()


def test_a_living_preparation_is_not_taken_for_a_killed_one(tree, tmp_path, monkeypatch):
    scan = decode.scan

    def slow(source):
        monkeypatch.undo()
        (building,) = (tmp_path / "cache" / "prepared").glob(".*.building")
        os.utime(building, (0, 0))  # another machine's clock is far ahead
        prepare(tree, tmp_path / "cache", on_bad_image="skip")
        yield from scan(source)

    monkeypatch.setattr(decode, "scan", slow)
    assert len(list(prepare(tree, tmp_path / "cache").examples())) == 5


def test_two_preparations_at_once_agree(tree, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        command = (
            "import sys; from data.breakhis.preparation import prepare; "
            "print(prepare(sys.argv[1], sys.argv[2]).fingerprint)"
        )
        other = pool.submit(
            subprocess.run,
            [sys.executable, "-c", command, str(tree), str(tmp_path / "cache")],
            capture_output=True,
            text=True,
        )
        scan = decode.scan

        def slow(source):  # renames only after the other process has finished
            yield from scan(source)
            other.result()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode, "scan", slow)
            prepared = prepare(tree, tmp_path / "cache")
        result = other.result()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == prepared.fingerprint
    assert len(list(prepared.examples())) == 5
    assert not list(prepared.path.rglob("incomplete.*"))


def test_order_survives_buckets_on_disk(tmp_path, monkeypatch):
    """Data sets beyond TFDS' memory buffer are sorted in buckets: few images in each."""
    names = [*official_names()[::400], "SOB_M_PC-99-1-40-001.png"]
    tree = make_tree(tmp_path / "tree", names, size=(16, 16))
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    prepared = prepare(tree, tmp_path / "cache")
    assert [example["file"] for example in prepared.examples()] == sorted(names)


def test_order_keys_sort_like_names_and_spread():
    keys = [breakhis._order_key(name) for name in official_names()]
    assert keys == sorted(set(keys))
    buckets = Counter(key * 1000 >> 128 for key in keys)
    assert len(buckets) == 64
    assert max(buckets.values()) <= 124


def test_order_keys_of_other_names_follow_the_official_ones():
    last = breakhis._order_key(official_names()[-1])
    others = [f"SOB_B_A-14-22549AB-40-{number}.png" for number in range(100, 1000)]
    keys = [breakhis._order_key(name) for name in others if name not in official_names()]
    assert len(set(keys)) == len(keys) == 900 and min(keys) > last
    buckets = Counter(key * 1000 >> 128 for key in keys)
    assert len(buckets) == 128
    assert max(buckets.values()) <= 20


def test_no_room_is_a_users_mistake(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(UserError, match="GB free"):
        prepare(tree, tmp_path / "cache")


def test_a_file_in_place_of_the_cache_folder(tree, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(tree, tmp_path / "cache")


def test_the_builder_alone_reads_the_manual_folder(tree, tmp_path):
    builder = Breakhis(data_dir=tmp_path / "tfds")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tree.parent)
    )
    assert builder.info.splits["images"].num_examples == 5
    assert builder.summary.num_images == 5
    example = next(iter(builder.as_dataset(split="images")))
    assert example["image"].shape == (46, 70, 3)
    assert builder.info.features["label"].names == ["benign", "malignant"]


def test_shipped_sample(tmp_path):
    prepared = prepare(SAMPLE_FOLDER, tmp_path / "cache")
    summary = prepared.summary
    with (SAMPLE_FOLDER / "manifest.csv").open(newline="") as file:
        manifest = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    examples = list(prepared.examples())
    assert {example["file"] for example in examples} == set(manifest)
    for example in examples:
        row = manifest[example["file"]]
        assert hashlib.sha256(example["image"]).hexdigest() == row["sha256"]
        assert row["path"].endswith(f"/{parse(example['file']).folder}/{example['file']}")
    accessions = {
        label: {e["accession"] for e in examples if e["label"] == label} for label in (0, 1)
    }
    assert len(accessions[0]) >= 10
    assert len(accessions[1]) >= 14
    assert {example["subtype"] for example in examples} == set(SUBTYPE_FOLDERS)
    assert len({example["magnification"] for example in examples}) >= 2
    assert sum(len(example["image"]) for example in examples) < 15e6
    assert not summary.unofficial
    assert "accession 14-13412 is filed twice, as DC and LC: 1 identical image" in (
        summary.describe()
    )


@pytest.mark.parametrize("damaged", ["dataset_info.json", "metadata.json", "*.tfrecord-*"])
def test_damaged_prepared_images_are_named(tmp_path, damaged):
    tree = make_tree(tmp_path / "tree", official_names()[:5])
    prepared = prepare(tree, tmp_path / "cache")
    assert len(list(prepared.examples())) == 5
    (path,) = prepared.path.rglob(damaged)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="are damaged: delete that folder and run again"):
        list(prepare(tree, tmp_path / "cache").examples())


def test_what_an_archive_passed_over_is_known_without_a_read(tree, tmp_path):
    (tree / "notes.txt").touch()
    archive = tmp_path / "BreaKHis_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree, arcname="BreaKHis_v1")
    for source in (archive, archive, tree, tree):
        assert prepare(source, tmp_path / "cache").walk == (
            "not looked at: other suffixes 1 (.txt 1)",
        )


def test_preparations_made_before_walks_were_described_open(tree, tmp_path):
    archive = tmp_path / "BreaKHis_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree, arcname="BreaKHis_v1")
    prepared = prepare(archive, tmp_path / "cache")
    (path,) = prepared.path.rglob("metadata.json")
    metadata = json.loads(path.read_text())
    del metadata["walk"]
    path.write_text(json.dumps(metadata))
    again = prepare(archive, tmp_path / "cache")
    assert again.walk == () and again.summary == prepared.summary


def test_images_of_other_magnifications_are_counted(tree, tmp_path):
    (tree / "notes.txt").touch()
    dataset = load_dataset(str(tree), cache_dir=str(tmp_path / "cache"), magnifications=(40,))
    assert dataset.notes == (
        "not looked at: other suffixes 1 (.txt 1)",
        "left out: 2 images of other magnifications than 40X (100X 1, 400X 1)",
    )
    assert dataset.description.endswith("\n".join(dataset.notes))
