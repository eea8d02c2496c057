"""Weights as Keras' HDF5: links, external data, virtual sets, filters, and damage."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random

import h5py
import numpy as np

from tests.fuzz.mutations import damage
from tests.fuzz.place import SECRET, Place
from tests.fuzz.targets.safetensors import alter_tensors, load, tensors


def case(rng: Random, place: Place) -> Callable[[], object]:
    path = place.input / "weights.h5"
    values = tensors(rng.choice(("keras_old", "keras_new")))
    if rng.random() < 0.4:
        values = alter_tensors(rng, values)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, value in values.items():
            if name and not name.startswith("/") and "\0" not in name:
                options = (
                    {"compression": "gzip"}
                    if value.ndim and value.size and rng.random() < 0.05
                    else {}
                )
                file.create_dataset(f"model_weights/{name}", data=value, **options)
        for _ in range(rng.choice((0, 0, 1, 2))):
            _hostile(rng, place, file)
    data = buffer.getvalue()
    path.write_bytes(damage(rng, data) if rng.random() < 0.6 else data)
    return lambda: load(path)


def _hostile(rng: Random, place: Place, file: h5py.File) -> None:
    group = file.create_group(f"x{rng.randrange(10**6)}")
    what = rng.randrange(9)
    if what == 0:
        group["a"] = h5py.ExternalLink(str(place.elsewhere / SECRET), "/")
    elif what == 1:
        group["a"] = h5py.SoftLink(rng.choice(("/", "/x", "../..", "a")))
    elif what == 2:
        group["a"] = group
    elif what == 3:
        secret = str(place.elsewhere / SECRET).encode()
        group.create_dataset("a", (4,), "u1", external=[(secret, 0, 4)])
    elif what == 4:
        layout = h5py.VirtualLayout((1,), "f4")
        layout[:] = h5py.VirtualSource(str(place.elsewhere / SECRET), "a", (1,))
        group.create_virtual_dataset("a", layout)
    elif what == 5:
        # Of two chunks of zeros a kilobyte is left; of a promise, nothing.
        group.create_dataset("a", (2 ** rng.choice((20, 27, 40)),), "f4", chunks=(2**20,))
    elif what == 6:
        group.create_dataset("a", data=np.array([b"x" * 100, b"y"], dtype=h5py.string_dtype()))
    elif what == 7:
        group.attrs["name"] = rng.choice((b"\xff", "x" * 60_000, 5))
        group.create_dataset("vars/0", data=np.zeros(3, "f4"))
    else:
        deep = group
        for _ in range(rng.choice((10, 2000))):
            deep = deep.create_group("g")
