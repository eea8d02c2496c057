"""Recognises trained attention among a file's variables and makes it fit this project's modules."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from se_resnet.attention import NONE


def recognise(variables: dict[str, np.ndarray], bn_epsilon: float) -> tuple[str, dict[str, Any]]:
    """Returns name and options of the attention module that the blocks' variables belong to.

    The batch normalisation that coordinate attention's authors put behind its first layer becomes
    part of that layer, and biases that it may lack become zeros; both are exact.

    Args:
        variables: arrays by path, changed in place where the module has another form here.
        bn_epsilon: added to the variances in batch normalisation.
    """
    found = {k: v for k, v in variables.items() if "/attention/" in k and v.ndim == 2 and v.size}
    widest = max(found.values(), key=lambda value: max(value.shape), default=np.zeros((0, 0)))
    if "params/stage1/block1/attention/reduce/kernel" in found:
        kernel = found["params/stage1/block1/attention/reduce/kernel"]
        reduction = max(1, kernel.shape[0] // kernel.shape[1])
        return "se", {"reduction": reduction, "gate": "sigmoid"}
    if "params/stage1/block1/attention/shared/kernel" in found:
        _fold(variables, bn_epsilon)
        return "coord", {"reduction": max(widest.shape) // min(widest.shape), "gate": "sigmoid"}
    return NONE, {}


def _fold(variables: dict[str, np.ndarray], bn_epsilon: float) -> None:
    for path in [p for p in variables if re.search(r"/attention/(shared|rows|columns)/kernel$", p)]:
        bias = path.replace("/kernel", "/bias")
        variables.setdefault(bias, np.zeros(variables[path].shape[-1:], np.float32))
    for path in [path for path in variables if path.endswith("/attention/norm/scale")]:
        module = path.removeprefix("params/").removesuffix("/norm/scale")
        names = [f"params/{module}/norm/bias"]
        names += [f"batch_stats/{module}/norm/{part}" for part in ("mean", "var")]
        kernel, bias = (f"params/{module}/shared/{leaf}" for leaf in ("kernel", "bias"))
        if any(variables.get(name, np.zeros(0)).shape != variables[path].shape for name in names):
            return  # the comparison with the network names what is missing
        if variables.get(bias, np.zeros(0)).shape != variables[path].shape:
            return
        if (variables[names[-1]] < 0).any():
            return
        scale = variables.pop(path).astype(np.float64)
        offset, mean, var = (variables.pop(name).astype(np.float64) for name in names)
        factor = scale / np.sqrt(var + bn_epsilon)
        variables[kernel] = (variables[kernel] * factor).astype(np.float32)
        variables[bias] = ((variables[bias] - mean) * factor + offset).astype(np.float32)
