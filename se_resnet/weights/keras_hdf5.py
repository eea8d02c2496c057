"""Reads the HDF5 files of all versions of Keras."""

from __future__ import annotations

import io
import re

import h5py
import numpy as np

from se_resnet.errors import one_line

MAX_VALUES = 2**28  # a ResNet152 has 6e7; HDF5 can declare more values than the file holds
_NO_WEIGHTS = ("optimizer", "optimizer_weights", "metrics", "_metrics", "compile_metrics")
_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


class RefusedError(ValueError):
    """The reason why a file cannot be used, with the remedy."""


def tensors(content: bytes) -> dict[str, np.ndarray]:
    """Returns the tensors of a Keras file: ``.h5`` (weights or whole model) or ``.weights.h5``.

    Args:
        content: bytes of the file.

    Returns:
        Arrays by ``layer/weight``, with today's Keras names of weights. If the file only numbers
        its layers, as Keras 2 does, the layer is its path: ``layers/conv2d_7/kernel``, see
        :mod:`se_resnet.weights.keras_numbering`.

    Raises:
        RefusedError: the file is broken, or contains soft or external links, external storage or
            virtual data sets.
    """
    arrays: dict[str, np.ndarray] = {}
    seen: set[int] = set()
    values = 0

    def visit(group: h5py.Group, names: tuple[str, ...]) -> None:
        nonlocal values
        for name in group:
            path = (*names, name)
            if path[0] in _NO_WEIGHTS:
                continue
            location = "/".join(path)
            link = not isinstance(group.get(name, getlink=True), h5py.HardLink)
            item = None if link else group[name]
            if item is None or (address := h5py.h5o.get_info(item.id).addr) in seen:
                raise RefusedError(f"{location!r} is a link: save all weights in one file")
            seen.add(address)
            if isinstance(item, h5py.Group):
                visit(item, path)
                continue
            if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
                raise RefusedError(f"{location!r} is not in the file: save all weights in one file")
            values += item.size or 0
            if item.dtype.kind not in "fiu" or values > MAX_VALUES:
                raise RefusedError(
                    f"{location!r} of type {item.dtype} and shape {item.shape} is not a weight of "
                    "a ResNet: save only the weights"
                )
            key = _name(path, group)
            if key in arrays:
                raise RefusedError(f"it holds {key!r} twice: save a single model's weights")
            arrays[key] = item[()]

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            visit(file, ())
    except RefusedError:
        raise
    except _ERRORS as error:
        text = one_line(error, 160)
        raise RefusedError(f"it is broken HDF5 ({text}): fetch or save it again") from error
    return arrays


def model_config(content: bytes) -> str:
    """Returns the JSON text of a whole model's layers, or an empty string for weights alone.

    Args:
        content: bytes of a file that :func:`tensors` reads.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            text = file.attrs.get("model_config", "")
    except _ERRORS as error:
        raise RefusedError(f"its model_config is broken ({error}): save it again") from error
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _name(path: tuple[str, ...], group: h5py.Group) -> str:
    """Returns ``layer/weight`` for a data set in a file of any Keras version."""
    layer, weight = path[-2] if len(path) > 1 else "", path[-1].partition(":")[0]
    if layer == "vars":  # .weights.h5 numbers the weights; Keras 3 stores the layer's name
        names = ["gamma", "beta", "moving_mean", "moving_variance"]
        names = names if len(group) == len(names) else ["kernel", "bias"]
        layer = str(group.attrs.get("name", "/".join(path[:-2])))
        return f"{layer}/{names[int(weight)] if int(weight) < len(names) else weight}"
    if old := re.fullmatch(rf"{re.escape(layer)}_({'|'.join(_KERAS_1)})(?:_\d+)?", weight):
        weight = _KERAS_1[old[1]]  # conv1_W_1, bn_conv1_running_std_1
    if len(path) > 2 and re.fullmatch(rf"{re.escape(path[-3])}_\d+", layer):
        layer = path[-3]  # conv1/conv1_2/kernel: the second model of a TensorFlow session
    return f"{layer}/{weight}"


# What Keras 1 called running_std was the variance.
_KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
