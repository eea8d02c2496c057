"""ResNet50 v1.5 in NumPy, after torchvision's code, with torchvision's names and layouts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BLOCKS = (3, 4, 6, 3)
WIDTH = 64


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of a ResNet50 without classifier; a branch adds less than the shortcut brings."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}

    def add(conv: str, norm: str, outputs: int, inputs: int, size: int) -> None:
        fan_in = inputs * size**2
        kernel = rng.standard_normal((outputs, inputs, size, size), np.float32)
        tensors[f"{conv}.weight"] = kernel * np.float32(np.sqrt(2 / fan_in))
        scale = (0.1, 0.5) if norm.endswith("bn3") else (0.5, 1.5)
        for leaf, (low, high) in {
            "weight": scale,
            "bias": (-0.3, 0.3),
            "running_mean": (-0.3, 0.3),
            "running_var": (0.5, 1.5),
        }.items():
            tensors[f"{norm}.{leaf}"] = rng.uniform(low, high, outputs).astype(np.float32)
        tensors[f"{norm}.num_batches_tracked"] = np.array(7)

    add("conv1", "bn1", WIDTH, 3, 7)
    inputs = WIDTH
    for stage, count in enumerate(BLOCKS, start=1):
        width = WIDTH * 2 ** (stage - 1)
        for block in range(count):
            name = f"layer{stage}.{block}"
            add(f"{name}.conv1", f"{name}.bn1", width, inputs, 1)
            add(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            add(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1)
            if block == 0:
                add(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, inputs, 1)
            inputs = 4 * width
    return tensors


def stages(tensors: Mapping[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of stem and stages, ``[B, h, w, C]``, for inputs ``[B, H, W, 3]``."""

    def conv(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel = tensors[f"{name}.weight"]
        size = kernel.shape[-1]
        around = (size // 2, size // 2)
        x = np.pad(x, ((0, 0), around, around, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        return np.tensordot(windows[:, ::stride, ::stride], kernel, ([3, 4, 5], [1, 2, 3]))

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        weight, bias, mean, var = (
            tensors[f"{name}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def block(x: np.ndarray, name: str, stride: int) -> np.ndarray:
        y = np.maximum(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"), 0)
        y = np.maximum(norm(conv(y, f"{name}.conv2", stride), f"{name}.bn2"), 0)
        y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
        if f"{name}.downsample.0.weight" in tensors:
            x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return np.maximum(x + y, 0)

    x = np.maximum(norm(conv(images, "conv1", 2), "bn1"), 0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    outputs = {"stem": windows[:, ::2, ::2].max((-2, -1))}
    x = outputs["stem"]
    for stage, count in enumerate(BLOCKS, start=1):
        for number in range(count):
            x = block(x, f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
        outputs[f"stage{stage}"] = x
    return outputs
