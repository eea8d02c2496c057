"""Recognises trained attention among variables, and converts it to this project's modules."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from se_resnet.attention import NONE


def recognise(variables: dict[str, np.ndarray], bn_epsilon: float) -> tuple[str, dict[str, Any]]:
    """Returns name and options of the attention module in the blocks.

    Coordinate attention is converted in place. The authors' batch normalisation after the first
    layer becomes part of that layer. Missing biases become zeros. Both are exact.

    Args:
        variables: arrays by path; those of coordinate attention are changed in place.
        bn_epsilon: added to the variances in batch normalisation.
    """
    matrices = {k: v for k, v in variables.items() if "/attention/" in k and v.ndim == 2 and v.size}
    widest = max(matrices.values(), key=lambda value: max(value.shape), default=np.zeros((0, 0)))
    if "params/stage1/block1/attention/reduce/kernel" in matrices:
        kernel = matrices["params/stage1/block1/attention/reduce/kernel"]
        reduction = max(1, kernel.shape[0] // kernel.shape[1])
        return "se", {"reduction": reduction, "gate": "sigmoid"}
    if "params/stage1/block1/attention/shared/kernel" in matrices:
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
            return  # layout.check names the missing tensor
        if variables.get(bias, np.zeros(0)).shape != variables[path].shape:
            return
        if (variables[names[-1]] < 0).any():
            return
        scale = variables.pop(path).astype(np.float64)
        offset, mean, var = (variables.pop(name).astype(np.float64) for name in names)
        factor = scale / np.sqrt(var + bn_epsilon)
        variables[kernel] = (variables[kernel] * factor).astype(np.float32)
        variables[bias] = ((variables[bias] - mean) * factor + offset).astype(np.float32)
