"""Reads tensors under any names from safetensors, HDF5 and TensorFlow.js.

The content decides the format, not the file name. Nothing is unpickled. Only files beside the given
file are opened. A file that is broken in one part is refused as a whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from se_resnet.errors import UserError
from se_resnet.runtime.files import parse_json, read_small_file, reason
from se_resnet.runtime.folders import current
from se_resnet.runtime.schema import Between, misfit
from se_resnet.weights import keras_hdf5

MODEL_JSON = "model.json"
SAFETENSORS = "model.safetensors"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".safetensors", ".h5")
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".ckpt", ".torch")
MAX_BYTES = 2**30  # four times an SE-ResNet152
MAX_HEADER_BYTES = 2**22  # the header of a ResNet152 takes 70 kB
KERAS_LAYERS = "model_config of Keras"
_TFJS_FORM = [
    {
        "paths": [str],
        "weights": [{"name": str, "dtype": str, "shape": [Between(0, MAX_BYTES)]}],
    }
]
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I64": "<i8"}


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The content of a file.

    Attributes:
        tensors: arrays by their names in the file, with the dtypes of the file. Names from Keras
            are ``layer/weight``.
        metadata: text fields in the header of a safetensors file. For a whole Keras model,
            :data:`KERAS_LAYERS` holds the layers as JSON text.
        sha256: checksum of the file, or of a folder's files one after another.
        path: path of the file, or of a folder's ``model.json``.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    sha256: str
    path: Path


class RefusedWeightsError(UserError):
    """Weights that cannot be used.

    Args:
        source: path or name of the weights.
        problem: the reason, followed by the remedy.
    """

    def __init__(self, source: str | Path, problem: str):
        super().__init__(f"config.model.pretrained = {str(source)!r} cannot be used: {problem}")
        self.problem = problem


def refused(source: str | Path, problem: str) -> RefusedWeightsError:
    """Returns the error for weights that cannot be used; ``problem`` ends with the remedy."""
    return RefusedWeightsError(source, problem)


def read(path: Path) -> WeightFile:
    """Reads a file, a model package, or a folder of TensorFlow.js' layers format.

    Raises:
        UserError: the file cannot be read, is broken, is a pickle, or has another format.
    """
    if path.is_dir():
        path = _file_in(path)
    content = _content(path)
    if content.startswith(HDF5_MAGIC):
        try:
            tensors = keras_hdf5.tensors(content)
            layers = keras_hdf5.model_config(content)
        except keras_hdf5.RefusedError as error:
            raise refused(path, str(error)) from error
        metadata = {KERAS_LAYERS: layers} if layers else {}
        return WeightFile(tensors, metadata, _sha256(content), path)
    if content[8:9] == b"{":
        tensors, metadata = from_safetensors(content, path)
        return WeightFile(tensors, metadata, _sha256(content), path)
    if content.lstrip()[:1] == b"{":
        return _from_tfjs_folder(path, content)
    raise refused(path, _explain_refusal(path, content))


def from_safetensors(
    content: bytes, source: str | Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors and the metadata of a safetensors file.

    Raises:
        UserError: header or data are broken, or a tensor has another type than float and int64.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, MAX_HEADER_BYTES):
        raise refused(
            source,
            f"its safetensors header claims {length:,} bytes, of a file of {len(content):,}: "
            "it is truncated or broken, fetch it again",
        )
    try:
        entries = deserialize(content)
        metadata = parse_json(content[8 : 8 + length]).get("__metadata__") or {}
        tensors = {}
        for name, entry in entries:
            if entry["dtype"] not in _DTYPES:
                raise refused(
                    source, f"{name!r} is of type {entry['dtype']}: save it as float32 or float16"
                )
            values = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
            if entry["dtype"] == "BF16":  # the upper half of a float32
                values = (values.astype("<u4") << 16).view("<f4")
            tensors[name] = values.reshape(entry["shape"])
    except (SafetensorError, ValueError, OverflowError) as error:
        raise refused(source, f"it is broken safetensors ({reason(error)}): fetch it again") from (
            error
        )
    return tensors, metadata


def from_tfjs(
    manifest: Sequence[Mapping[str, Any]], read_shard: Callable[[str], bytes]
) -> dict[str, np.ndarray]:
    """Returns the tensors of TensorFlow.js' layers format.

    Args:
        manifest: the ``weightsManifest`` of its ``model.json``.
        read_shard: returns the content of a file that the manifest names.

    Raises:
        ValueError: a tensor is not float32, or files and tensors differ in size.
        KeyError: the manifest lacks a field.
    """
    tensors = {}
    for group in manifest:
        data = b"".join(read_shard(path) for path in group["paths"])
        offset = 0
        for weight in group["weights"]:
            if weight["dtype"] != "float32" or "quantization" in weight:
                raise ValueError(f"{weight['name']} is not plain float32")
            values = np.frombuffer(data, "<f4", math.prod(weight["shape"]), offset)
            tensors[weight["name"]] = values.reshape(weight["shape"])
            offset += values.nbytes
        if offset != len(data):
            raise ValueError(f"{len(data):,} bytes for {offset:,} of tensors")
    return tensors


def _file_in(folder: Path) -> Path:
    """Returns the folder's file of a usual name, else its only file of weights."""
    for name in (SAFETENSORS, MODEL_JSON):
        path = current(folder / name)
        if os.path.lexists(path):  # a broken link as well, so that the error names it
            return path
    candidates = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(candidates) == 1:
        return candidates[0]
    if any(path.name.endswith(".safetensors.index.json") for path in folder.iterdir()):
        raise refused(folder, "its weights are split over several files: save them as one")
    if candidates:
        raise refused(
            folder,
            f"it holds {', '.join(path.name for path in candidates[:3])}: give the path of one",
        )
    raise refused(
        folder, f"it holds no {SAFETENSORS}, {MODEL_JSON} or .h5: give the path of a weights' file"
    )


def _from_tfjs_folder(path: Path, content: bytes) -> WeightFile:
    digest = hashlib.sha256(content)
    total = 0

    def read_shard(name: str) -> bytes:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not a file beside it")
        nonlocal total
        shard = _content(path.parent / name)
        total += len(shard)
        if total > MAX_BYTES:
            raise ValueError(f"its files are larger than {MAX_BYTES:,} bytes")
        digest.update(shard)
        return shard

    try:
        model = parse_json(content)
        if problem := misfit(model, {"weightsManifest": _TFJS_FORM}):
            raise ValueError(problem)
        tensors = from_tfjs(model["weightsManifest"], read_shard)
    except (ValueError, OverflowError) as error:
        raise refused(
            path, f"it is not a complete model in TensorFlow.js' layers format ({reason(error)})"
        ) from error
    topology = model.get("modelTopology")
    layers = topology.get("model_config") if isinstance(topology, dict) else None
    metadata = {KERAS_LAYERS: json.dumps(layers)} if layers else {}
    return WeightFile(tensors, metadata, digest.hexdigest(), path)


def _content(path: Path) -> bytes:
    try:
        return read_small_file(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise refused(
            path, f"it cannot be read ({reason(error)}): give the path of a weights' file"
        ) from error


def _explain_refusal(path: Path, content: bytes) -> str:
    """Returns the reason for refusing a file of another format, with the remedy."""
    members: list[str] = []
    if content.startswith(b"PK"):
        try:
            members = zipfile.ZipFile(io.BytesIO(content)).namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error):
            members = []
    if "model.weights.h5" in members:
        return (
            "it is a .keras archive: save the model's weights with "
            "model.save_weights('NAME.weights.h5')"
        )
    if (
        any(name.endswith(".pkl") for name in members)
        or (content[:1] == b"\x80" and content[1:2] <= b"\x05")
        or path.suffix in PICKLE_SUFFIXES
    ):
        return (
            "it is a pickle, which can run any program when it is loaded: fetch the .safetensors "
            "file of the same weights, or convert it with safetensors.torch.save_file as "
            "docs/weights.md shows"
        )
    if content.startswith(b"version https://git-lfs"):
        return "it only points to the file: run git lfs pull, or fetch the file itself"
    return (
        f"it starts with {content[:12]!r}: expected safetensors, Keras' HDF5 (.h5), a folder of "
        "TensorFlow.js' layers format, or a run of train.py"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
