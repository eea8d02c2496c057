from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from data.breakhis.filenames import parse
from data.breakhis.official import official_names
from data.dataset import Dataset
from data.protocols import audit, source_notebook
from data.protocols.roles import assign_roles
from data.records import Records
from se_resnet.errors import UserError
from se_resnet.runs.run_files import ROLES
from tests.helpers.datasets import make_images, make_records

FOLDERS = {
    "A": "benign/SOB/adenosis",
    "F": "benign/SOB/fibroadenoma",
    "PT": "benign/SOB/phyllodes_tumor",
    "TA": "benign/SOB/tubular_adenoma",
    "DC": "malignant/SOB/ductal_carcinoma",
    "LC": "malignant/SOB/lobular_carcinoma",
    "MC": "malignant/SOB/mucinous_carcinoma",
    "PC": "malignant/SOB/papillary_carcinoma",
}


def make_dataset(**changes) -> Dataset:
    """200 images, of which the procedure takes 76: 60 benign and 16 malignant."""
    options = {"benign": 6, "malignant": 14, "images": 5, "magnifications": (40, 400)} | changes
    records = make_records(**options)
    return Dataset(make_images(records), records, "generated", "what was found", [("a", "broken")])


def drawing(seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """An augmentation that differs from block to block and leaves the range."""
    rng = np.random.default_rng(seed)
    return lambda images: images[:, ::-1] + rng.normal(0, 40, (len(images), 1, 1, 1))


def never(images: np.ndarray) -> np.ndarray:
    raise AssertionError("nothing is drawn again")


def in_array_order(records: Records) -> Records:
    return records.take(np.argsort(records.row))


@pytest.fixture(scope="module")
def derived(tmp_path_factory) -> Dataset:
    return source_notebook.derive(
        make_dataset(), tmp_path_factory.mktemp("made") / "source", drawing(), seed=3
    )


def test_the_notebook_took_these_of_the_official_images():
    names = [parse(text) for text in official_names()]
    columns = ("slide", "accession", "magnification", "subtype", "label")
    full = Records.from_rows(
        {**{name: getattr(parsed, name) for name in columns}, "file": file, "digest": "", "row": 0}
        for file, parsed in zip(official_names(), names, strict=True)
    )
    first = source_notebook._first_images(full)
    assert len(first) == 3000
    assert np.bincount(first.label).tolist() == [2480, 520]
    assert len(set(first.slide[first.label == 1].tolist())) == 6
    assert (first.label[:2480] == 0).all()
    ordered = full.take(source_notebook.folder_order(full))
    paths = [
        f"{FOLDERS[subtype]}/{slide.replace('-', '_', 1)}/{magnification}X/{file}"
        for subtype, slide, magnification, file in zip(
            ordered.subtype.tolist(),
            ordered.slide.tolist(),
            ordered.magnification.tolist(),
            ordered.file.tolist(),
            strict=True,
        )
    ]
    assert paths == sorted(paths)


def test_counts_and_order(derived):
    records = in_array_order(derived.records)
    assert derived.images.shape == (120, 8, 8, 3) and derived.images.dtype == np.uint8
    assert np.bincount(records.label).tolist() == [60, 60]
    assert (records.row == np.arange(120)).all()
    assert records.is_synthetic.tolist() == [False] * 76 + [True] * 44
    assert records.file[76] == "synthetic-00001.png" and records.file[-1] == "synthetic-00044.png"
    assert records.magnification[:10].tolist() == [400] * 5 + [40] * 5, "400X sorts before 40X"
    original = make_dataset().records
    chosen = original.take(source_notebook.folder_order(original)[:76])
    for name, column in chosen.columns().items():
        if name != "row":
            assert (getattr(records, name)[:76] == column).all(), name
    assert derived.skipped == [("a", "broken")]
    assert derived.description.startswith("what was found\nprotocol source: the first 76 images")


def test_real_images_are_augmented_once_in_folder_order(derived):
    dataset, draw = make_dataset(), drawing()
    rows = dataset.records.row[source_notebook.folder_order(dataset.records)[:76]]
    for start in (0, 64):
        drawn = draw(dataset.images[rows[start : start + 64]])
        expected = np.clip(np.rint(drawn), 0, 255)
        assert (derived.images[start : min(start + 64, 76)] == expected).all()


def test_synthetic_images_blend_two_malignant_ones(derived):
    records = in_array_order(derived.records)
    malignant = np.flatnonzero((records.label == 1) & ~records.is_synthetic)
    parents = derived.images[malignant].reshape(len(malignant), -1).astype(float)
    left, right = np.triu_indices(len(parents), 1)
    span = parents[right] - parents[left]
    neighbours = []
    for row in range(76, 120):
        pixels = derived.images[row].reshape(-1)
        share = ((pixels - parents[left]) * span).sum(1) / (span**2).sum(1)
        # Rounding to grey values is half a step at most; the share is fitted, so a little more.
        worst = np.abs(parents[left] + share[:, None] * span - pixels).max(1)
        pair = int(worst.argmin())
        assert worst[pair] < 0.75 and 0 <= share[pair] <= 1
        base = malignant[left[pair]]
        for name in ("slide", "accession", "subtype", "magnification", "label"):
            assert getattr(records, name)[row] == getattr(records, name)[base]
        assert records.digest[row] == hashlib.sha256(pixels.tobytes()).hexdigest()
        neighbours.append(malignant[right[pair]])
    assert (records.magnification[76:] != records.magnification[neighbours]).any()
    assert len(set(records.digest[76:].tolist())) == 44


def test_the_split_is_a_fifth(derived):
    options = {"folds": 5, "fold": 0, "val_folds": 5, "seed": 0}
    roles = assign_roles(derived.records, "source", **options)
    audit.verify(derived.records, roles, "source")
    assert [int((roles == role).sum()) for role in ROLES] == [76, 20, 24]
    assert audit.count_leaks(derived.records, roles)["straddling_accessions"] > 0
    assert derived.records.is_synthetic[roles == "test"].any()


def test_the_same_inputs_give_the_same_bytes(derived, tmp_path):
    again = source_notebook.derive(make_dataset(), tmp_path / "again", drawing(), seed=3)
    assert (again.images == derived.images).all() and again.fingerprint == derived.fingerprint
    assert (again.records.digest == derived.records.digest).all()
    other = source_notebook.derive(make_dataset(), tmp_path / "other", drawing(), seed=4)
    assert (other.images[:76] == derived.images[:76]).all()
    assert (other.images[76:] != derived.images[76:]).any()


def test_a_whole_folder_is_opened_again(tmp_path):
    first = source_notebook.derive(make_dataset(), tmp_path / "source", drawing(), seed=3)
    second = source_notebook.derive(make_dataset(), tmp_path / "source", never, seed=3)
    third = source_notebook.reopen(tmp_path / "source")
    for opened in (second, third):
        assert (opened.images == first.images).all() and opened.fingerprint == first.fingerprint
        assert (opened.records.file == first.records.file).all()
        assert opened.description == first.description
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("change", ["fingerprint", "records", "seed"])
def test_a_folder_of_other_images_is_refused(tmp_path, change):
    dataset, seed = make_dataset(), 3
    source_notebook.derive(dataset, tmp_path / "source", drawing(), seed)
    if change == "fingerprint":
        dataset = dataclasses.replace(dataset, fingerprint="changed")
    elif change == "records":
        chosen = dataset.records.at_magnifications((400,))
        dataset = dataclasses.replace(dataset, records=chosen)
    else:
        seed = 4
    with pytest.raises(UserError, match="other images or with another seed: delete the folder"):
        source_notebook.derive(dataset, tmp_path / "source", never, seed)


def test_an_interrupted_build_leaves_nothing(tmp_path):
    draw, calls = drawing(), []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(images)

    with pytest.raises(KeyboardInterrupt):
        source_notebook.derive(make_dataset(), tmp_path / "source", interrupted, seed=3)
    assert calls == [64, 12] and list(tmp_path.iterdir()) == []
    assert (
        len(source_notebook.derive(make_dataset(), tmp_path / "source", drawing(), 3).records)
        == 120
    )


@pytest.mark.parametrize("damage", ["images.npy", "records.csv", "cache.json"])
def test_a_damaged_folder_is_named(tmp_path, damage):
    source_notebook.derive(make_dataset(), tmp_path / "source", drawing(), seed=3)
    content = (tmp_path / "source" / damage).read_bytes()
    (tmp_path / "source" / damage).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="delete the folder and run again"):
        source_notebook.derive(make_dataset(), tmp_path / "source", never, seed=3)


def test_few_malignant_images_are_said(tmp_path):
    dataset = make_dataset(benign=7, malignant=14, images=1, magnifications=(40, 100))
    made = source_notebook.derive(dataset, tmp_path / "few", drawing(), seed=3)
    assert "only 2 malignant images, so k_neighbors is 1" in made.description
    assert source_notebook.reopen(tmp_path / "few").description == made.description


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"benign": 10, "malignant": 10}, "malignant"), ({"benign": 0}, "benign")],
)
def test_a_missing_class_is_named(tmp_path, changes, missing):
    with pytest.raises(UserError, match=f"none of them is {missing}: bring more of BreaKHis"):
        source_notebook.derive(make_dataset(**changes), tmp_path / "source", never, seed=3)
    assert list(tmp_path.iterdir()) == []
