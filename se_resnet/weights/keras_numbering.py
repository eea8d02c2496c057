"""Names the layers of ``.weights.h5`` files by Keras 2, which only number them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

_NUMBERED = r"(?P<model>(?:.+/)?)(?P<kind>conv2d|batch_normalization)(?:_(?P<number>\d+))?"
_NAMES = {"conv2d": "conv", "batch_normalization": "bn"}
# The order of a block's layers in keras.applications; 0 is the projection.
_WITH_PROJECTION, _WITHOUT = (1, 2, 0, 3), (1, 2, 3)


def name_layers(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames numbered layers to the names of ``keras.applications.ResNet50``.

    Keras 2 and the first versions of Keras 3 name a layer by its class and count,
    ``layers/conv2d_7/vars/0``, in the order of ``model.layers``.

    Args:
        tensors: by ``path/weight``, as :func:`se_resnet.weights.keras_hdf5.tensors` returns them.

    Returns:
        The tensors, renamed if the numbered convolutions form bottlenecks. Other names, and all
        names of a file with another structure, are unchanged.
    """
    layers: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    for layer in {name.rpartition("/")[0] for name in tensors}:
        if match := re.fullmatch(_NUMBERED, layer):
            number = int(match["number"] or 0)
            layers[match["model"]][match["kind"]].append((number, layer))
    models = [kinds for kinds in layers.values() if "conv2d" in kinds]
    if len(models) != 1:
        return dict(tensors)
    ordered = {kind: [name for _, name in sorted(models[0][kind])] for kind in _NAMES}
    kernels = [tensors.get(f"{layer}/kernel", np.zeros(0)) for layer in ordered["conv2d"]]
    modules = _modules([kernel.shape[:2] for kernel in kernels])
    renamed: dict[str, str] = {}
    for kind, names in ordered.items():
        # A head after the network may add normalisations.
        if len(names) < len(modules) or (kind == "conv2d" and len(names) > len(modules)):
            return dict(tensors)
        renamed |= {
            layer: f"{module}_{_NAMES[kind]}" for layer, module in zip(names, modules, strict=False)
        }
    result = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition("/")
        result[f"{renamed.get(layer, layer)}/{leaf}"] = value
    return result


def _modules(kernels: list[tuple[int, ...]]) -> list[str]:
    """Returns names for convolutions of these sizes, or an empty list without bottlenecks."""
    if not kernels or kernels[0] != (7, 7):
        return []
    names, stage, block, i = ["conv1"], 1, 0, 1
    while i < len(kernels):
        sizes = kernels[i : i + 5]
        if len(sizes) < 3 or sizes[:3] != [(1, 1), (3, 3), (1, 1)]:
            return []
        projects = sizes[3:4] == [(1, 1)] and sizes[4:] in ([], [(1, 1)])
        stage, block = (stage + 1, 1) if projects else (stage, block + 1)
        order = _WITH_PROJECTION if projects else _WITHOUT
        names += [f"conv{stage}_block{block}_{part}" for part in order]
        i += len(order)
    return names
