"""No file of data, weights or results leads to code: nothing is unpickled, nothing is imported."""

from __future__ import annotations

import ast
import io
import json
import pickle
import sys
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy

from data.cache import open_cache
from se_resnet import attention
from se_resnet.errors import UserError
from se_resnet.weights import formats, pretrained, record
from tests.helpers import ROOT, checkpoints
from tests.helpers.datasets import make_images, make_records

SOURCES = [
    *sorted((ROOT / "se_resnet").rglob("*.py")),
    *sorted((ROOT / "data").rglob("*.py")),
    ROOT / "train.py",
    ROOT / "eval.py",
]
MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("yaml", "torch", "pandas"),
}
CALLS = {"eval", "exec", "compile", "__import__"}
# np.load looks for pickles, the module of the format does not.
ATTRIBUTES = {"np.load", "numpy.load", "np.fromregex", "importlib.import_module", "os.system"}
ALLOWED = {
    # Files that the export has just written itself.
    "se_resnet/export/parity.py": {"np.load"},
    "se_resnet/export/runtimes.py": {"np.load"},
    # What a user names as config.model.attention, and our own modules.
    "se_resnet/attention/user_module.py": {"importlib.import_module"},
    "se_resnet/attention/__init__.py": {"importlib.import_module"},
    "se_resnet/runtime/lazy.py": {"importlib.import_module"},
    "se_resnet/runtime/data_package.py": {"importlib.import_module"},
}


def ways_to_code(source: str) -> set[str]:
    """What in a program's text could run what a file says."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found |= {name} & (CALLS | ATTRIBUTES)
            found |= {k.arg for k in node.keywords if k.arg in ("allow_pickle", "shell")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_unpickle_or_evaluate(path):
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    assert ways_to_code(path.read_text()) <= allowed


@pytest.mark.parametrize(
    "source, found",
    [
        ("import pickle", "pickle"),
        ("from torch import load", "torch"),
        ("np.load(path)", "np.load"),
        ("f(x, allow_pickle=True)", "allow_pickle"),
        ("eval(text)", "eval"),
        ("model.eval(text)", None),
    ],
)
def test_the_search_finds_them(source, found):
    assert ways_to_code(source) == ({found} if found else set())


def _leave_trace() -> None:
    sys.modules["unpickled_by_a_test"] = sys


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (_leave_trace, ())


@pytest.fixture
def no_trace():
    yield
    assert sys.modules.pop("unpickled_by_a_test", None) is None


def test_the_bomb_works():
    pickle.loads(pickle.dumps(Bomb()))
    assert sys.modules.pop("unpickled_by_a_test")


def objects() -> np.ndarray:
    array = np.empty((8, 8, 8, 3), object)
    array[:] = Bomb()
    return array


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(array) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=array)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [npy, npz, pickle.dumps])
def test_an_image_cache_of_objects_is_refused(make, tmp_path, no_trace):
    records = make_records(2, 2, images=2, magnifications=(40,))
    records.write_csv(tmp_path / "records.csv")
    (tmp_path / "cache.json").write_text('{"fingerprint": "x"}')
    np.save(tmp_path / "images.npy", make_images(records))
    assert len(open_cache(tmp_path).images) == 8
    (tmp_path / "images.npy").write_bytes(make(objects()))
    with pytest.raises(UserError, match="not a complete image cache"):
        open_cache(tmp_path)


def hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["a/kernel"] = np.void(pickle.dumps(Bomb()))
        file.attrs["pickled"] = np.void(pickle.dumps(Bomb()))
    return buffer.getvalue()


def torch_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: npy(objects()),
        lambda: npz(objects()),
        lambda: pickle.dumps(Bomb()),
        torch_archive,
        hdf5,
    ],
)
def test_weights_of_objects_are_refused(make, tmp_path, no_trace):
    path = tmp_path / "model.h5"
    path.write_bytes(make())
    with pytest.raises(UserError, match="cannot be used"):
        formats.read(path)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module in the current directory that must not be imported."""
    (tmp_path / "planted_module.py").write_text("from flax import linen as nn\nMine = nn.Dense\n")
    monkeypatch.chdir(tmp_path)
    yield "planted_module:Mine"
    sys.modules.pop("planted_module", None)


def test_a_weights_file_chooses_no_module(planted, tmp_path):
    facts = pretrained.load("none").facts() | {"attention": planted, "attention_options": {}}
    content = safetensors.numpy.save(
        checkpoints.make("torch")[1], {record.METADATA: json.dumps(facts)}
    )
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(
        UserError, match="outside of this project: if you trust it, name it yourself"
    ):
        pretrained.load(str(tmp_path / "model.safetensors"))
    assert "planted_module" not in sys.modules


def test_a_module_that_the_user_named_is_taken(planted):
    with pytest.raises(UserError, match="--attention=planted_module:Mine"):
        attention.require_trusted(planted, "it")
    attention.find(planted)
    attention.require_trusted(planted, "it")
