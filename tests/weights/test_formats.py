from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from se_resnet.errors import UserError
from se_resnet.weights import formats

ONES = np.ones((2, 3), np.float32)


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        formats.read(path)
    assert str(error.value).startswith("config.model.pretrained = ")
    return str(error.value)


def write(path, content: bytes):
    path.write_bytes(content)
    return path


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.h5", "weights.bin"])
def test_safetensors_are_known_by_their_content(tmp_path, dtype, name):
    value = np.array([[1.5, -2, 0.25]], dtype)
    content = safetensors.numpy.save({"a.weight": value}, {"format": "pt"})
    file = formats.read(write(tmp_path / name, content))
    np.testing.assert_array_equal(file.tensors["a.weight"], value.astype(np.float32))
    assert file.metadata == {"format": "pt"}
    assert len(file.sha256) == 64


GOOD = safetensors.numpy.save({"a": ONES})


@pytest.mark.parametrize(
    "content, words",
    [
        (GOOD[:-1], "broken safetensors"),
        (GOOD + b"x", "broken safetensors"),
        (GOOD[:20], "header claims"),
        (struct.pack("<Q", 2**40) + GOOD[8:], "header claims 1,099,511,627,776 bytes"),
        (struct.pack("<Q", 2**23) + b"{" + b" " * 2**23, "header claims"),
        (struct.pack("<Q", 12) + b"{not json...", "broken safetensors"),
        (safetensors.numpy.save({"a": np.ones(2, np.int8)}), "'a' is of type I8"),
    ],
)
def test_broken_safetensors_are_refused(tmp_path, content, words):
    assert words in refusal(write(tmp_path / "model.safetensors", content))


@pytest.mark.parametrize(
    "content, words",
    [
        (pickle.dumps({"a": ONES}), "is a pickle"),
        (pickle.dumps({"a": 1}, protocol=2), "is a pickle"),
        (zipped("archive/data.pkl", "archive/data/0"), "is a pickle"),
        (zipped("config.json", "model.weights.h5"), ".keras archive"),
        (zipped("something"), "starts with"),
        (b"PK broken", "starts with"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"", "starts with b''"),
        (b"hello", "expected safetensors, Keras"),
    ],
)
def test_what_is_no_weights_file_is_refused_by_its_content(tmp_path, content, words):
    assert words in refusal(write(tmp_path / "model.safetensors", content))


@pytest.mark.parametrize("suffix", formats.PICKLE_SUFFIXES)
def test_a_pickle_is_never_opened(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR.")
    message = refusal(path)
    assert "is a pickle" in message and ".safetensors" in message
    assert not (tmp_path / "run").exists()


def test_a_missing_file_and_a_folder_of_nothing_are_named(tmp_path):
    assert "missing.h5" in refusal(tmp_path / "missing.h5")
    assert "model.json" in refusal(tmp_path)


def test_a_folder_with_one_weight_file_is_read_several_are_named(tmp_path):
    write(tmp_path / "resnet50.safetensors", GOOD)
    write(tmp_path / "config.json", b"{}")
    assert formats.read(tmp_path).path.name == "resnet50.safetensors"
    write(tmp_path / "other.h5", GOOD)
    assert "other.h5, resnet50.safetensors: give the path of one" in refusal(tmp_path)
    write(tmp_path / "model.safetensors", GOOD)
    assert formats.read(tmp_path).path.name == "model.safetensors"


def test_weights_that_are_split_over_files_are_refused(tmp_path):
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        write(tmp_path / name, GOOD)
    write(tmp_path / "model.safetensors.index.json", b"{}")
    assert "split over several files" in refusal(tmp_path)


def hdf5(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


@pytest.mark.parametrize(
    "place, name",
    [
        ("conv1/conv1/kernel:0", "conv1/kernel"),
        ("conv1/conv1_W_1:0", "conv1/kernel"),
        ("conv1/conv1_b:0", "conv1/bias"),
        ("bn_conv1/bn_conv1_running_std:0", "bn_conv1/moving_variance"),
        ("conv1/conv1_2/kernel:0", "conv1/kernel"),
        ("model_weights/conv1_bn/conv1_bn/gamma", "conv1_bn/gamma"),
        ("model_weights/resnet50/conv1_conv/kernel:0", "conv1_conv/kernel"),
    ],
)
def test_keras_names_of_every_age(tmp_path, place, name):
    def fill(file):
        file[place] = ONES
        file["optimizer_weights/adam/conv1_kernel_momentum"] = ONES

    file = formats.read(hdf5(tmp_path / "weights", fill))
    assert file.tensors.keys() == {name}
    np.testing.assert_array_equal(file.tensors[name], ONES)


def test_numbered_weights_of_keras_3(tmp_path):
    def fill(file):
        for layer, count in (("conv2d", 2), ("batch_normalization", 4)):
            for i in range(count):
                file[f"layers/{layer}/vars/{i}"] = np.full(2, i, np.float32)
            file[f"layers/{layer}/vars"].attrs["name"] = f"my_{layer}"
        file["optimizer/vars/0"] = ONES

    tensors = formats.read(hdf5(tmp_path / "weights", fill)).tensors
    assert {name: int(value[0]) for name, value in tensors.items()} == {
        "my_conv2d/kernel": 0,
        "my_conv2d/bias": 1,
        "my_batch_normalization/gamma": 0,
        "my_batch_normalization/beta": 1,
        "my_batch_normalization/moving_mean": 2,
        "my_batch_normalization/moving_variance": 3,
    }


def put(place, value):
    def fill(file):
        file[place] = value

    return fill


def external_storage(file):
    file.create_dataset("a/kernel", (1,), "f4", external=[("/etc/hostname", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((1,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", (1,))
    file.create_virtual_dataset("kernel", layout)


def cycle(file):
    group = file.create_group("a")
    group["again"] = group


def twice(file):
    file["r/c/kernel"] = file["s/c/kernel"] = ONES


@pytest.mark.parametrize(
    "fill, words",
    [
        (put("a", h5py.ExternalLink("/etc/passwd", "/x")), "'a' is a link"),
        (put("a", h5py.SoftLink("/b")), "'a' is a link"),
        (cycle, "'a/again' is a link"),
        (external_storage, "'a/kernel' is not in the file"),
        (virtual, "'kernel' is not in the file"),
        (lambda f: f.create_dataset("a/x", (2**40,), "f4", chunks=(1024,)), "not a weight"),
        (put("a/x", "text"), "not a weight"),
        (twice, "'c/kernel' twice"),
    ],
)
def test_hdf5_that_is_no_plain_file_of_weights_is_refused(tmp_path, fill, words):
    assert words in refusal(hdf5(tmp_path / "weights.h5", fill))


def test_truncated_hdf5_is_refused(tmp_path):
    path = hdf5(tmp_path / "weights.h5", put("a/kernel", ONES))
    content = path.read_bytes()
    for length in (20, len(content) // 2, len(content) - 8):
        assert "broken HDF5" in refusal(write(path, content[:length]))


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_json_nested_without_end_is_refused(tmp_path, name):
    nested = b'{"weightsManifest":' + b"[" * 100_000
    safetensors = struct.pack("<Q", len(nested)) + nested
    refusal(write(tmp_path / name, nested if name == "model.json" else safetensors))


@pytest.fixture
def tfjs(tmp_path):
    """A folder of two shards, and a function that rewrites its manifest."""
    (tmp_path / "shard1").write_bytes(ONES.tobytes()[:10])
    (tmp_path / "shard2").write_bytes(ONES.tobytes()[10:])

    def rewrite(shards=("shard1", "shard2"), **change):
        weight = {"name": "conv1/kernel", "shape": [2, 3], "dtype": "float32", **change}
        manifest = [{"paths": list(shards), "weights": [weight]}]
        (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
        return tmp_path

    return rewrite


def test_tensorflow_js_folder_and_its_model_json_are_read(tfjs):
    for path in (tfjs(), tfjs() / "model.json"):
        file = formats.read(path)
        np.testing.assert_array_equal(file.tensors["conv1/kernel"], ONES)
    (tfjs() / "shard2").write_bytes(bytes(14))
    assert formats.read(tfjs()).sha256 != file.sha256


@pytest.mark.parametrize(
    "change, words",
    [
        ({"shards": ["shard1"]}, "not a complete model"),
        ({"shards": ["shard1", "missing"]}, "missing"),
        ({"shards": ["shard1", "../shard2"]}, "not a file beside it"),
        ({"shards": ["shard1", "shard2", "shard2"]}, "not a complete model"),
        ({"dtype": "uint8"}, "not plain float32"),
        ({"quantization": {}}, "not plain float32"),
        ({"shape": "wide"}, "not a complete model"),
        ({"shape": [-2, -3]}, "not a complete model"),
        ({"shape": [10**30]}, "not a complete model"),
        ({"name": 5}, "weights.0.name is 5"),
    ],
)
def test_a_broken_tensorflow_js_folder_is_refused(tfjs, change, words):
    assert words in refusal(tfjs(**change))
