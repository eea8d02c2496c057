"""Weights as safetensors: other libraries' names, ours with metadata, and what is made of them."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import safetensors.numpy

from se_resnet.weights import pretrained, record
from tests.fuzz.mutations import alter, damage
from tests.fuzz.place import Place
from tests.helpers import checkpoints


@functools.cache
def tensors(naming: str) -> dict[str, np.ndarray]:
    """A small network's weights under another library's names."""
    return checkpoints.make(naming, reduction=16 if naming == "torch" else 0)[0]


@functools.cache
def ours() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The same as :func:`se_resnet.weights.pretrained.save` writes them."""
    theirs, variables = checkpoints.make("torch")
    del theirs
    facts = pretrained.load("none").facts() | {"name": "x"}
    return variables, {record.METADATA: json.dumps(facts)}


def case(rng: Random, place: Place) -> Callable[[], object]:
    path = place.input / "model.safetensors"
    naming = rng.choice(("torch", "transformers", "keras_new", "ours", "ours"))
    values, metadata = ours() if naming == "ours" else (tensors(naming), {"format": "pt"})
    what = rng.random()
    if what < 0.35:
        values = alter_tensors(rng, values)
    if naming == "ours" and rng.random() < 0.7:
        facts = alter(rng, json.loads(metadata[record.METADATA]))
        if rng.random() < 0.2:
            facts["attention"] = rng.choice(("antigravity:x", "this:x", "secret.x:Y", "se"))
        metadata = {record.METADATA: json.dumps(facts)}
    data = safetensors.numpy.save(values, metadata)
    if what > 0.65:
        data = damage(rng, data)
    elif what > 0.4:
        data = _other_header(rng, data)
    path.write_bytes(data)
    return lambda: load(path)


def load(path: Path) -> None:
    """What a run does with ``config.model.pretrained``, up to the network."""
    weights = pretrained.load(str(path))
    weights.describe()
    assert weights.params is not None


def alter_tensors(rng: Random, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with a few lost, renamed, bent, or of other values."""
    changed = dict(values)
    for name in rng.sample(sorted(values), rng.choice((1, 1, 2, 5))):
        value = changed.pop(name)
        what = rng.randrange(8)
        if what == 1:
            changed[damage(rng, name.encode(), 1).decode("latin-1")] = value
        elif what == 2:
            changed[name] = value.reshape(-1)
        elif what == 3:
            changed[name] = np.full_like(value, rng.choice((np.nan, np.inf, -1)))
        elif what == 4:
            changed[name] = value.astype(rng.choice(("f2", "f8", "i8", "u1", "?")))
        elif what == 5:
            changed[name] = np.zeros((*value.shape[:-1], 0), value.dtype) if value.ndim else value
        elif what == 6:
            changed[name] = value[..., None]
        elif what == 7:
            changed[name.replace("1", "9")] = value
    return changed


def _other_header(rng: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    what = rng.random()
    if what < 0.6:
        changed = json.dumps(alter(rng, header)).encode()
    elif what < 0.7:
        name = rng.choice(sorted(set(header) - {"__metadata__"}))
        header[name]["shape"] = rng.choice(([0, 0, 3, 2**40], [2**62, 4], [0, 2**63], [-1, -1], []))
        header[name]["data_offsets"] = [0, 0]
        changed = json.dumps(header).encode()
    elif what < 0.8:
        changed = b'{"a":' + b"[" * rng.choice((1000, 100_000))
    elif what < 0.9:
        changed = b" " * rng.choice((2**10, 2**23)) + json.dumps(header).encode()
    else:
        changed = b'{"__metadata__":' + b'{"a":"' + b"x" * rng.choice((10, 2**21)) + b'"}}'
    size = len(changed) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", size) + changed + data[8 + length :]
