"""Weights known by name, and files under the names that their authors use.

Random tensors under exactly these names, beside the configuration that lies in the repository,
compute what a ResNet50 in NumPy computes with them, in every stage.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

from se_resnet.errors import UserError
from se_resnet.models.preprocessing import IMAGENET
from se_resnet.models.resnet import create_model
from se_resnet.weights import configured, hub, pretrained
from tests.helpers import ROOT, numpy_resnet, parity

LUNIT = "LicenseRef-lunit-non-commercial"
# Name: authors' mean and std, the copy's mean and std, size, classes, licence to accept.
PATHOLOGY = {
    **{
        f"1aurent/resnet50.lunit_{method}": (
            [0.70322989, 0.53606487, 0.66096631],
            [0.21716536, 0.26081574, 0.20723464],
            list(IMAGENET.mean),
            list(IMAGENET.std),
            224,
            0,
            LUNIT,
        )
        for method in ("bt", "mocov2", "swav")
    },
    "1aurent/resnet50.tiatoolbox-kather100k": ([0] * 3, [1] * 3, [0] * 3, [1] * 3, 224, 9, ""),
    "1aurent/resnet50.tiatoolbox-pcam": ([0] * 3, [1] * 3, [0] * 3, [1] * 3, 96, 2, ""),
    "1aurent/resnet50.tcga_brca_simclr": (
        [0.5] * 3,
        [0.5] * 3,
        list(IMAGENET.mean),
        list(IMAGENET.std),
        256,
        0,
        "GPL-3.0",
    ),
}
BARLOW_TWINS, PCAM = "1aurent/resnet50.lunit_bt", "1aurent/resnet50.tiatoolbox-pcam"


def model_config(name, mean=(), std=(), accept_licence=""):
    return ConfigDict(
        {"pretrained": name, "mean": mean, "std": std, "accept_licence": accept_licence}
    )


def copy_config(name):
    """The ``config.json`` of the copy on the Hub."""
    _, _, mean, std, size, classes, _ = PATHOLOGY[name]
    return {
        "architecture": "resnet50",
        "num_classes": classes,
        "num_features": 2048,
        "pretrained_cfg": {
            "tag": name.partition(".")[2],
            "custom_load": False,
            "input_size": [3, size, size],
            "test_input_size": [3, size, size],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "test_crop_pct": 1.0,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": classes,
            "pool_size": [7, 7],
            "first_conv": "conv1",
            "classifier": "fc",
            "origin_url": "https://github.com/huggingface/pytorch-image-models",
            "paper_ids": "arXiv:2110.00476",
        },
    }


@pytest.fixture(scope="module")
def tensors():
    return numpy_resnet.random_tensors()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (2, 64, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def reference(tensors, images):
    """A function that gives the stages of the NumPy network for a mean and std of the pixels."""

    @functools.cache
    def stages(mean, std):
        pixels = (images / 255 - np.array(mean)) / np.array(std)
        return numpy_resnet.stages(tensors, pixels.astype(np.float32))

    return stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder, so that one file of 94 MB replaces the last one."""
    return tmp_path_factory.mktemp("published")


@functools.cache
def network():
    model = create_model(attention="none", variant="v1.5", bn_epsilon=1e-5)
    return model, jax.jit(lambda v, x: model.apply(v, x, train=False, return_stages=True)[1])


def assert_stages_equal(weights, images, expected):
    model, apply = network()
    variables = pretrained.initial_variables(model, weights, jax.random.key(0))
    found = apply(variables, weights.preprocessing(images))
    for name in parity.STAGES:
        theirs = expected[name]
        assert theirs.std() > 0.1 * np.abs(theirs).mean(), f"{name} tells nothing"
        np.testing.assert_allclose(
            np.asarray(found[name]), theirs, rtol=1e-4, atol=1e-4 * theirs.std(), err_msg=name
        )


@pytest.fixture
def on_the_hub(folder, tensors, monkeypatch):
    """A function that publishes random tensors under a name, as the copy on the Hub does."""

    def publish(name, configuration=True):
        classes = PATHOLOGY[name][5]
        head = {"fc.weight": np.ones((classes, 2048), np.float32), "fc.bias": np.ones(classes)}
        content = tensors | {k: v for k, v in head.items() if classes}
        safetensors.numpy.save_file(content, folder / "model.safetensors")
        (folder / "config.json").unlink(missing_ok=True)
        if configuration:
            (folder / "config.json").write_text(json.dumps(copy_config(name)))
        asked = []

        def download(repository, file, *, revision):
            asked.append((repository, file, revision))
            return str(folder / file)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        monkeypatch.setitem(hub.KNOWN, name, dataclasses.replace(hub.KNOWN[name], sha256=None))
        return asked

    return publish


@pytest.mark.parametrize("name", PATHOLOGY)
def test_named_pathology_weights_equal_numpy_in_every_stage(name, on_the_hub, images, reference):
    asked = on_the_hub(name)
    mean, std, *_, size, classes, accepted = PATHOLOGY[name]
    weights = configured.load(model_config(name, accept_licence=accepted))
    assert asked[0] == (name, "model.safetensors", hub.KNOWN[name].revision)
    assert_stages_equal(weights, images, reference(tuple(mean), tuple(std)))
    facts = weights.facts()
    assert facts["licence"] == hub.KNOWN[name].licence.name
    assert facts["accepted_licence"] == accepted
    assert facts["non_commercial"] == bool(accepted)
    assert facts["input_size"] == [size, size] and facts["assumed"] == []
    assert (weights.head is not None) == bool(classes)


def test_the_authors_mean_and_std_win_over_those_of_the_copy(on_the_hub):
    """The copy has those of ImageNet, which it took from the configuration of another network."""
    on_the_hub(BARLOW_TWINS)
    weights = configured.load(model_config(BARLOW_TWINS, accept_licence=LUNIT))
    (note,) = (note for note in weights.notes if "authors" in note)
    assert "config.json gives RGB pixels of 0 to 1 with mean 0.485, 0.456, 0.406" in note
    assert "instead, RGB pixels of 0 to 1 with mean 0.70323, 0.536065, 0.660966" in note
    assert note.endswith("/releases/tag/pretrained-weights")
    on_the_hub(BARLOW_TWINS, configuration=False)
    alone = configured.load(model_config(BARLOW_TWINS, accept_licence=LUNIT))
    assert alone.preprocessing == weights.preprocessing
    assert not any("mean" in assumed for assumed in alone.assumed)


def test_other_pixels_than_the_authors_are_refused(on_the_hub):
    on_the_hub(BARLOW_TWINS)
    stated = {"mean": IMAGENET.mean, "std": IMAGENET.std, "accept_licence": LUNIT}
    with pytest.raises(UserError, match=r"config\.model\.mean.*contradicts the weights' authors"):
        configured.load(model_config(BARLOW_TWINS, **stated))
    mean, std, *_ = PATHOLOGY[BARLOW_TWINS]
    stated |= {"mean": tuple(mean), "std": tuple(std)}
    assert configured.load(model_config(BARLOW_TWINS, **stated)).preprocessing.mean == tuple(mean)


def test_a_file_that_was_fetched_by_hand_is_known_by_its_checksum(on_the_hub, folder, monkeypatch):
    on_the_hub(BARLOW_TWINS)
    path = folder / "model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    pinned = dataclasses.replace(hub.KNOWN[BARLOW_TWINS], sha256=digest)
    monkeypatch.setitem(hub.KNOWN, BARLOW_TWINS, pinned)
    with pytest.raises(UserError, match=f"model.safetensors' has the licence {LUNIT}"):
        configured.load(model_config(str(path)))
    weights = configured.load(model_config(str(path), accept_licence=LUNIT))
    assert weights.preprocessing == pinned.pixels and weights.source.endswith(BARLOW_TWINS)
    with pytest.raises(UserError, match="contradicts the weights' authors"):
        configured.load(model_config(str(path), (0.5,) * 3, (0.5,) * 3, LUNIT))


def test_a_restricted_licence_is_accepted_by_name_before_any_download(monkeypatch):
    never = lambda *_, **__: pytest.fail("a download began")  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", never)
    for name, (*_, licence) in PATHOLOGY.items():
        if not licence:
            configured.check(model_config(name))
            continue
        words = rf"{name}.*{licence}.*non-commercial.*read https://.*accept_licence={licence}\."
        with pytest.raises(UserError, match=words) as caught:
            configured.load(model_config(name))
        assert caught.value.args[0].count(". ") == 0  # one sentence
        with pytest.raises(UserError, match=f"'MIT' is not the licence of.*{licence}"):
            configured.load(model_config(name, accept_licence="MIT"))


def test_a_licence_is_not_accepted_for_weights_that_have_another():
    for name, licence in (("none", "not known"), ("imagenet", "MIT")):
        with pytest.raises(UserError, match=f"'GPL-3.0' is not the licence.*{licence}"):
            configured.load(model_config(name, accept_licence="GPL-3.0"))
    assert configured.load(model_config("imagenet", accept_licence="MIT")).licence == "MIT"


def sequential(name):
    """TIAToolbox's names: torchvision's layers in ``nn.Sequential``."""
    numbers = {"conv1": 0, "bn1": 1, **{f"layer{i}": 3 + i for i in (1, 2, 3, 4)}}
    first, _, rest = name.partition(".")
    return f"feat_extract.{numbers[first]}.{rest}"


def dense(name, outputs, bias=True):
    layer = {f"{name}.weight": np.ones((outputs, 2048), np.float32)}
    return layer | ({f"{name}.bias": np.ones(outputs, np.float32)} if bias else {})


# The names in the authors' own files, and the heads beside them.
ORIGINALS = {
    "Lunit": (str, {}),
    "TIAToolbox": (sequential, dense("classifier", 9)),
    "nn.Sequential": (lambda name: sequential(name).partition(".")[2], {}),
    "MoCo v2": ("module.encoder_q.{}".format, dense("module.encoder_q.fc.0", 2048)),
    "SimCLR of Lightning Bolts": (
        "encoder.{}".format,
        dense("projection.model.0", 2048) | {"projection.model.1.weight": np.ones(2048, "f4")},
    ),
    "SwAV": ("module.{}".format, dense("module.prototypes", 3000, bias=False)),
    "VISSL": ("_feature_blocks.{}".format, {}),
    "DINO": ("teacher.backbone.{}".format, {}),
}


@pytest.mark.parametrize("kind", ORIGINALS)
def test_the_names_of_original_files_equal_numpy_in_every_stage(
    kind, folder, tensors, images, reference
):
    rename, head = ORIGINALS[kind]
    path = folder / "model.safetensors"
    (folder / "config.json").unlink(missing_ok=True)
    safetensors.numpy.save_file({rename(k): v for k, v in tensors.items()} | head, path)
    stated = (0.7, 0.54, 0.66), (0.2, 0.25, 0.2)
    weights = configured.load(model_config(str(path), *stated))
    assert_stages_equal(weights, images, reference(*stated))
    left_out = any("left out" in note for note in weights.notes)
    assert left_out == (bool(head) and weights.head is None)


def test_the_document_lists_all_weights_with_their_facts():
    text = Path(ROOT, "docs", "weights.md").read_text()
    for name, known in hub.KNOWN.items():
        rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` ")]
        assert len(rows) == 1, name
        licence = known.licence.name
        assert re.search(rf"\b{re.escape(licence)}\b", rows[0]), name
        assert (known.revision or "newest")[:7] in rows[0], name
        assert (known.sha256 or "not known")[:9] in rows[0], name
